# SPDX-License-Identifier: Apache-2.0
"""The one interface through which every decision is made: in training, in comparisons and in live scheduling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.randomness import OwnRandomNumbers
from edgegen.envs.core.kinds import Meter
from edgegen.envs.core.world import World

Memory = dict[str, Tensor]
"""What a policy carries from turn to turn, by name; every tensor has the copies E as its leading axis."""


class Policy(OwnRandomNumbers, ABC):
    """Decides for the roles it has, for E copies and all sites at once.

    A policy holds no state of the world: what must be remembered goes through ``memory``, and randomness comes from
    the policy's own generator, so that the same seed gives the same decisions.

    Attributes:
        name: Name in tables and on the command line.
        information: What the policy uses beyond the requests of its own site, for honest comparisons.
        roles: Names of the roles it decides for.
        trained: Whether networks that were trained decide, so that it can explore.
        notes: What is to be said of it in the world that it was made for, as ends of sentences.
        kind: Kind of world that it is written for; plugins say it.
        origin: Where it comes from, if from outside of the package, for complaints.
    """

    name: str = "policy"
    information: str = ""
    roles: frozenset[str] = frozenset()
    trained: bool = False
    notes: tuple[str, ...] = ()
    kind: str = ""
    origin: str = ""

    def prepare(self, world: World) -> Memory:
        """Return the memory to begin the episodes of a world with, before its first turn; oracles look ahead here."""
        del world
        return {}

    def begin(self, role: str, view: Any) -> Memory:
        """Return what to remember from the first turn of a role on, for the copies of its first view."""
        del role, view
        return {}

    def play_through(self, world: World, meter: Meter) -> bool:
        """Play the copies of a freshly reset world to the end in one go, if the policy has a faster way than turns.

        A compiled rule can decide inside the kernel that also holds the equations. What it gives must be what turn by
        turn would have been measured, bit for bit.

        Args:
            world: The world; it stays at its beginning.
            meter: Is told what became of the episodes.

        Returns:
            Whether it was done.
        """
        del world, meter
        return False

    @abstractmethod
    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """Decide on a turn.

        Args:
            role: Role whose turn it is, one of ``roles``.
            view: What can be known, of the type that the world shows to this role; leading axes are ``[E, …]``.
            memory: What ``prepare``, ``begin`` and the previous calls, for whatever role, have left.
            explore: Sample from the policy's distribution; otherwise take its most likely action. Rules ignore it.

        Returns:
            The action, with the axes ``[E, site, entity]`` and meaningless where an entity is absent, and the memory
            from now on. A choice is int64, a subset bool; shares have their parts as a last axis.
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
