"""The one interface through which every decision is made: in training, in comparisons and in live scheduling."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from edgegen.algorithms.core.randomness import OwnRandomNumbers
from edgegen.envs.offloading.view import RouterView

Memory = dict[str, Tensor]
"""What a policy carries from slot to slot, by name; every tensor has the copies E as its leading axis."""


class Policy(OwnRandomNumbers, ABC):
    """Decides where the tasks of a slot run, for E copies at once.

    A policy holds no state of the world: what must be remembered goes through ``memory``, and randomness comes from
    the policy's own generator, so that the same seed gives the same decisions.

    Attributes:
        name: Name in tables and on the command line.
        information: What the policy uses beyond its own server's tasks, for honest comparisons.
    """

    name: str = "policy"
    information: str = ""

    def begin(self, observation: RouterView) -> Memory:
        """Return the memory to begin with, for the copies of ``observation``."""
        del observation
        return {}

    @abstractmethod
    def act(self, observation: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """Place the tasks of one slot.

        Args:
            observation: The slot, with leading axes ``[E, …]``.
            memory: What ``begin`` or the previous call returned.
            explore: Sample from the policy's distribution; otherwise take its most likely action. Rules ignore it.

        Returns:
            Chosen server of each task ``[E, B, N]`` (int64; meaningless where no task is present), and the memory for
            the next slot.
        """


def sample_shares(share: Tensor, random: Tensor) -> Tensor:
    """Sample indices with probability proportional to ``share`` by inverting the cumulative distribution.

    Args:
        share: Non-negative weights ``[..., K]``, at least one positive per row.
        random: Uniform numbers in [0, 1), one per row or with further axes that broadcast: ``[..., S]``.

    Returns:
        Indices in ``[0, K)``, shape of ``random``, int64.
    """
    edges = share.cumsum(-1)
    edges = edges / edges[..., -1:]
    return torch.searchsorted(edges.contiguous(), random.contiguous(), right=True).clamp_max_(share.shape[-1] - 1)
