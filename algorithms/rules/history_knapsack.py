# SPDX-License-Identifier: Apache-2.0
"""Caching by what past requests say: decayed shares of requests, times what a hit saves, packed in the best way."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.tunable import Constants, Tunable, constant
from edgegen.algorithms.rules.allocation_optimum import StepValues, best_allocation
from edgegen.algorithms.rules.best_cache import best_fitting, relative_size
from edgegen.algorithms.rules.caching import ProvisioningRule, shares
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.draws import MBIT_PER_MB
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView, CacherView


class FrameBeliefs(Constants):
    """Constants of :class:`FrameKnapsack`.

    Attributes:
        prior: Weight of the popularity that is known beforehand, in frames.
        step_price: Price of a step, as a share of the most that a step of any model is worth.
    """

    prior: float = constant(1.0, 0.01, 100.0, log=True)
    step_price: float = constant(0.3, 0.0, 1.0)


class Beliefs(FrameBeliefs):
    """Constants of :class:`HistoryKnapsack`.

    Attributes:
        decay: Weight of a frame relative to the one after it.
    """

    decay: float = constant(0.9, 0.0, 1.0)


class HistoryKnapsack(ProvisioningRule):
    """The cache of the highest expected saving, and the best allocation for it.

    The expected share of a model's requests is the mean of its shares in the frames so far, each decayed, and of the
    popularity known beforehand. A hit saves what the cloud would have cost, and is worth what its best number of steps
    is worth at a price for every step, because hits share the steps of a slot. The form is ours.

    Args:
        scenario: The world.
        beliefs: The constants.
        seed: Not used: the rule is deterministic.
    """

    name = "history-knapsack"
    information = (
        "model sizes, curves, popularity before the episode, requests of all frames so far; channels and curves of the "
        "slot"
    )
    constants: ClassVar[type[FrameBeliefs]] = Beliefs

    def __init__(self, scenario: ProvisioningScenario, beliefs: FrameBeliefs | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.scenario, self.beliefs = scenario, beliefs or self.constants()

    @property
    def decay(self) -> float:
        """Weight of a frame relative to the one after it."""
        return float(getattr(self.beliefs, "decay", 0.0))

    def history(self, view: CacherView) -> Tensor:
        """Shares of the requests that count ``[E, frame, C, M]``, oldest first."""
        return view.history

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        past, beliefs = self.history(view), self.beliefs
        frames = past.shape[1]
        age = torch.arange(frames - 1, -1, -1, device=past.device, dtype=past.dtype)
        weight = self.decay**age  # 0**0 is 1: the newest frame counts whatever the decay
        seen = (past * weight[:, None, None]).sum(1) + beliefs.prior * view.static_popularity
        expected = seen / (weight.sum() + beliefs.prior)
        saving = self.saving(view.curves)[:, None]
        return best_fitting((expected * saving).to(past.dtype), relative_size(view))

    def saving(self, curves: CurveTensors) -> Tensor:
        """What a hit saves for each model, against a miss ``[E, M]``, float64, at the price of steps."""
        scenario = self.scenario
        weight = scenario.delay_weight
        _, a2, a3, a4, b1, b2 = (value.double() for value in curves.values())
        amount_mb = scenario.upload_mb.mean + scenario.result_mb.mean
        detour_s = amount_mb * MBIT_PER_MB * scenario.cells * scenario.users / scenario.backhaul_mbit_s
        miss = weight * (detour_s + (b1 * a3 + b2) * scenario.cloud_time_factor) + (1 - weight) * a4
        values = StepValues.of(curves, None, weight)
        price = self.beliefs.step_price * values.density.amax(-1, keepdim=True)
        worth = torch.stack([values.at(steps) - price * steps for steps in (a3.floor(), a3.ceil())]).amax(0)
        saved: Tensor = miss - (weight * b2 + (1 - weight) * a2) + worth.clamp_min(0)
        return saved

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        return shares(*best_allocation(self.scenario, view))


class FrameKnapsack(HistoryKnapsack):
    """The same with what the state of T2DRL holds of the past: the requests of the frame before alone."""

    name = "frame-knapsack"
    constants = FrameBeliefs
    information = (
        "model sizes, curves, popularity before the episode, requests of the frame before; channels and curves of the "
        "slot"
    )

    def history(self, view: CacherView) -> Tensor:
        """See :meth:`HistoryKnapsack.history`."""
        return view.history[:, -1:]


TUNABLE = {
    rule.name: Tunable(rule.constants, lambda scenario, beliefs, seed, rule=rule: rule(scenario, beliefs, seed))  # type: ignore[misc]
    for rule in (HistoryKnapsack, FrameKnapsack)
}
"""The entries for the rule book."""
