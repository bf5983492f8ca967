# SPDX-License-Identifier: Apache-2.0
"""What an allocator is rewarded with."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.envs.provisioning.physics import SlotOutcome, serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView


class SlotReward:
    """The reward of a slot, for every user or the mean.

    Args:
        scenario: The world.
        settings: The settings.
        scale: Returns the factor on rewards.
    """

    def __init__(self, scenario: ProvisioningScenario, settings: AllocatorSettings, scale: Callable[[], float]) -> None:
        self.scenario, self.settings, self.scale = scenario, settings, scale

    def __call__(self, view: AllocatorView, outcome: SlotOutcome, order: Tensor | None) -> Tensor:
        """Rewards ``[E, C, N]``, users in the order of the state, or ``[E, C, 1]``."""
        reward = self._plain(outcome)
        if self.settings.beats_equal_shares:
            reward = reward - self._plain(serve(self.scenario, view, equal_bandwidth(view), equal_compute(view)))
        if order is not None and self.settings.per_user:
            reward = reward.gather(-1, order)
        return reward * self.scale()

    def _plain(self, outcome: SlotOutcome) -> Tensor:
        if self.settings.per_user:
            return -(outcome.cost + self.scenario.late_penalty * outcome.late)
        return outcome.reward[..., None]
