"""The interface through which caching and allocation are decided: in training, in comparisons and in live use."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.randomness import OwnRandomNumbers
from edgegen.envs.provisioning.view import AllocatorView, CacherView


class ProvisioningPolicy(OwnRandomNumbers, ABC):
    """Decides what is cached in a frame and how its slots are divided, for E copies at once.

    A policy holds no state of the world: what must be remembered goes through ``memory``, and randomness comes from
    the policy's own generator, so that the same seed gives the same decisions.

    Attributes:
        name: Name in tables and on the command line.
        information: What the policy uses beyond the requests and channels of its own cell, for honest comparisons.
    """

    name: str = "policy"
    information: str = ""

    def begin(self, observation: CacherView) -> Memory:
        """Return the memory to begin an episode with, for the copies of ``observation``."""
        del observation
        return {}

    @abstractmethod
    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """Decide what is cached in a frame.

        Args:
            observation: The frame, with leading axes ``[E, …]``.
            memory: What ``begin`` or the previous call, of either kind, returned.
            explore: Sample from the policy's distribution; otherwise take its most likely action. Rules ignore it.

        Returns:
            Whether each model is wanted in each cell's cache ``[E, C, M]``, bool, and the memory from now on. What
            does not fit is amended by the simulator.
        """

    @abstractmethod
    def allocate(
        self, observation: AllocatorView, memory: Memory, explore: bool = True
    ) -> tuple[Tensor, Tensor, Memory]:
        """Divide bandwidth and computing in a slot.

        Args:
            observation: The slot, with leading axes ``[E, …]``.
            memory: What the previous call, of either kind, returned.
            explore: As for ``cache``.

        Returns:
            Shares of the uplink and of the steps for each user ``[E, C, N]`` each, and the memory from now on.
        """
