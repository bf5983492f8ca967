"""What rewards are shifted and multiplied by before anything is learned from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.envs.provisioning.amenders import fill_storage, shares_from_raw
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import ProvisioningWorld

_PROBE_SEED = 2**63 + 1  # of the episodes that tell the spread of rewards; beyond every seed of training and evaluation
_PROBE_COPIES = 32
_IQR = 1.349
"""Distance between the quartiles of a normal distribution over its standard deviation."""


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
    def of(cls, scenario: ProvisioningScenario, settings: T2DRLSettings) -> RewardScale:
        """Return the scales, which depend on scenario and settings alone."""
        if settings.reward_scale != "spread":
            return cls(settings.reward_scale, 0.0, settings.reward_scale)
        simulator = ProvisioningWorld(scenario, _PROBE_COPIES)
        frame = simulator.reset(seed=_PROBE_SEED)
        generator = torch.Generator().manual_seed(0)
        slots, frames = [], []
        while not simulator.done:
            if simulator.caching:
                priority = torch.rand(frame.popularity.shape, generator=generator)
                simulator.cache(fill_storage(priority, frame.size_gb, frame.storage_gb[..., None]))
            slot = simulator.observe_slot()
            raw = [torch.rand(slot.gain.shape, generator=generator) * 2 - 1 for _ in range(2)]
            shares = shares_from_raw(scenario.allocation_amender, raw[0], raw[1], slot.hit)
            cost = serve(scenario, slot, *shares).cost
            equal = simulator.allocate(equal_bandwidth(slot), equal_compute(slot))
            slots.append(cost - equal.cost if settings.reward_baseline == "equal_shares" else cost)
            if simulator.caching or simulator.done:
                frames.append(simulator.frame_reward())
                frame = simulator.observe_frame()
        rewards = torch.stack(frames)
        return cls(1 / _spread(torch.stack(slots)), float(rewards.double().mean()), 1 / _spread(rewards))


def _spread(values: Tensor) -> float:
    """Standard deviation of the bulk of some values: a small share makes a cost without bound."""
    ends = values.double().flatten().quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    spread = float(ends[1] - ends[0]) / _IQR
    return spread if spread > 1e-6 else 1.0
