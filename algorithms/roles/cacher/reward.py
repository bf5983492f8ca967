# SPDX-License-Identifier: Apache-2.0
"""What a cacher is rewarded with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgegen.algorithms.roles.cacher.settings import CacherSettings
from edgegen.algorithms.roles.reward_scale import RewardScale
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import CacheOutcome


class FrameReward:
    """The reward of a frame that is over.

    Args:
        scenario: The world.
        settings: The settings.
        scale: Returns what rewards are shifted and multiplied by.
    """

    def __init__(
        self, scenario: ProvisioningScenario, settings: CacherSettings, scale: Callable[[], RewardScale]
    ) -> None:
        self.scenario, self.settings, self.scale = scenario, settings, scale

    def spared(self, outcome: CacheOutcome) -> Tensor:
        """Penalty that a remembered cache is spared ``[E, C]``: one that is kept as amended did fit."""
        if self.settings.amends:
            return self.scenario.overflow_penalty_per_gb * outcome.overflow_gb
        return torch.zeros_like(outcome.penalty)

    def __call__(self, reward: Tensor) -> Tensor:
        """Return what is learned from the reward of a frame ``[E, C]``."""
        scale = self.scale()
        return (reward - scale.frame_mean) * scale.frame
