# SPDX-License-Identifier: Apache-2.0
"""What rewards are shifted and multiplied by before anything is learned from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.play import Turn, play
from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.envs.provisioning.amenders import fill_storage, shares_from_raw
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER
from edgegen.envs.provisioning.world import ProvisioningWorld

_PROBE_SEED = 2**63 + 1  # of the episodes that tell the spread of rewards; beyond every seed of training and evaluation
_PROBE_COPIES = 32
_IQR = 1.349
"""Distance between the quartiles of a normal distribution over its standard deviation."""

_ALIKE = 1e-6
"""Part of themselves by which values may differ that are called alike: single precision leaves that much."""


@dataclass(frozen=True)
class RewardScale:
    """What rewards are shifted and multiplied by before anything is learned from them.

    Attributes:
        slot: Factor on the allocator's rewards.
        frame_mean: Subtracted from the cacher's.
        frame: Factor on the cacher's.
    """

    slot: float
    frame_mean: float
    frame: float

    @classmethod
    def of(cls, scenario: ProvisioningScenario, settings: AllocatorSettings) -> RewardScale:
        """Return the scales, which depend on scenario and settings alone."""
        if settings.reward_scale != "spread":
            return cls(settings.reward_scale, 0.0, settings.reward_scale)
        world, probe = ProvisioningWorld(scenario, _PROBE_COPIES), _Probe(scenario)
        world.reset(seed=_PROBE_SEED)
        slots, frames = [], []

        def watch(turn: Turn) -> None:
            if turn.role != ALLOCATOR:
                return
            slots.append(probe.cost - turn.outcome.cost if settings.beats_equal_shares else probe.cost)
            if turn.outcome.frame_reward is not None:
                frames.append(turn.outcome.frame_reward)

        play(world, probe, watch=watch)
        rewards = torch.stack(frames)
        return cls(1 / _spread(torch.stack(slots)), float(rewards.double().mean()), 1 / _spread(rewards))


class _Probe(Policy):
    """Caches at random and divides equally, and works out what shares at random would have cost.

    Attributes:
        cost: What they would have cost in the slot that was divided last ``[E, C, N]``.
    """

    name = "probe"
    roles = frozenset({CACHER, ALLOCATOR})
    cost: Tensor

    def __init__(self, scenario: ProvisioningScenario) -> None:
        super().__init__(seed=0)
        self.scenario = scenario

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        if role == CACHER:
            priority = torch.rand(view.popularity.shape, generator=self.generator)
            return fill_storage(priority, view.size_gb, view.storage_gb[..., None]), memory
        raw = [torch.rand(view.gain.shape, generator=self.generator) * 2 - 1 for _ in range(2)]
        shares = shares_from_raw(self.scenario.allocation_amender, raw[0], raw[1], view.hit)
        self.cost = serve(self.scenario, view, *shares).cost
        return torch.stack([equal_bandwidth(view), equal_compute(view)], -1), memory


def _spread(values: Tensor) -> float:
    """Standard deviation of the bulk of some values, 1 if they are alike: a small share makes a cost without bound."""
    ends = values.double().flatten().quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    spread = float(ends[1] - ends[0]) / _IQR
    return spread if spread > _ALIKE * float(ends.abs().max()) else 1.0
