# SPDX-License-Identifier: Apache-2.0
"""What becomes of requests, episode by episode."""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.envs.core.kinds import Array, Meter, Values
from edgegen.envs.core.objectives import Objective
from edgegen.envs.provisioning.physics import SlotOutcome
from edgegen.envs.provisioning.view import CACHER, AllocatorView, CacherView
from edgegen.envs.provisioning.world import CacheOutcome, ProvisioningWorld

AMOUNT = "amount of "
"""What sums of terms of the objective are called."""


class CostMeter(Meter):
    """Costs and what they are made of: means over requests where nothing else is said.

    Values:
        ``mean_cost``: What the policy costs: weighted delay and TV, and what the scenario charges for late requests,
        for fetching models, and for models beyond the storage (each nothing by default).
        ``delay_s``: Delay, s; the sum of its parts ``uplink_s`` (sending the request up), ``backhaul_s`` (detour to the
        cloud), ``generation_s`` (making the picture) and ``downlink_s`` (sending it down).
        ``tv``: Total variation of the picture, lower is better.
        ``hit_ratio``: Share of requests whose model was cached.
        ``useless_hits``: Share of hits with fewer steps than A1, where quality starts to improve; not-a-number without
        any hit.
        ``late_share``: Share of requests with a delay beyond the scenario's limit.
        ``fetch_s``: Time to fetch newly cached models over the backhaul, per frame and cell, s.
        ``overflow_gb``: Storage that decisions took beyond what there is, before they were amended, per frame and cell.
        ``mean_reward``: Reward of a frame, as learners see it: with penalties for decisions that had to be amended.
        Where the objective names terms, what each adds to ``mean_cost``, and the amounts of those that are named.
    """

    def __init__(self, world: ProvisioningWorld) -> None:
        self._scenario = world.scenario
        self._sums: dict[str, Tensor] = {}

    def add(self, role: str, view: CacherView | AllocatorView, outcome: CacheOutcome | SlotOutcome) -> None:
        """See :meth:`Meter.add`."""
        if role == CACHER:
            self._sum(_of_frame(view, outcome))  # type: ignore[arg-type]  # those of a cacher
            return
        self._sum(_of_slot(outcome))  # type: ignore[arg-type]  # that of an allocator
        if CACHER in outcome.rewards:
            self._sum({"reward": outcome.rewards[CACHER]})

    def _sum(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            total = value.double().flatten(1).sum(1)
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def headline(self) -> Array:
        """Mean costs of a request, without what is charged for late requests, fetching and overflow."""
        return _array(self._sums["cost"] / requests_per_episode(self._scenario))

    def values(self) -> Values:
        """See :meth:`Meter.values`."""
        scenario, sums = self._scenario, self._sums
        requests = requests_per_episode(scenario)
        decisions = scenario.frames * scenario.cells
        charged = (
            scenario.late_penalty * sums["late"] / requests
            + scenario.switching_weight * sums["fetch_s"] / decisions
            + scenario.overflow_penalty_per_gb * sums["kept_beyond_gb"] / decisions
        )
        per_request = ("delay_s", "uplink_s", "backhaul_s", "generation_s", "downlink_s", "tv")
        means = {
            "mean_cost": sums["cost"] / requests + charged,
            **{name: sums[name] / requests for name in per_request},
            "hit_ratio": sums["hits"] / requests,
            "useless_hits": sums["useless"] / sums["hits"],  # 0/0 is not a number, and says so
            "late_share": sums["late"] / requests,
            "fetch_s": sums["fetch_s"] / decisions,
            "overflow_gb": sums["overflow_gb"] / decisions,
            "mean_reward": sums["reward"] / decisions,
        }
        return {name: _array(value) for name, value in {**means, **self._terms(means)}.items()}

    def _terms(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """What each term adds to the cost, and amounts of those that the objective names; nothing if it names none."""
        objective = Objective.of(self._scenario)
        if objective is None:
            return {}
        decisions = self._scenario.frames * self._scenario.cells
        amounts = {
            "delay": means["delay_s"],
            "tv": means["tv"],
            "late": means["late_share"],
            "fetch": means["fetch_s"],
            "overflow": self._sums["kept_beyond_gb"] / decisions,
        }
        requests = requests_per_episode(self._scenario)
        further = [term.name for term, _ in objective.terms if term.name not in amounts]
        return objective.reported(amounts | {name: self._sums[AMOUNT + name] / requests for name in further})


def requests_per_episode(scenario: object) -> int:
    """Requests of an episode: one per user and slot."""
    return int(scenario.slots * scenario.cells * scenario.users)  # type: ignore[attr-defined]


def _array(values: Tensor) -> Array:
    array: Array = values.cpu().numpy()
    return array


def _of_frame(view: CacherView, outcome: CacheOutcome) -> dict[str, Tensor]:
    kept_gb = torch.where(outcome.cache, view.size_gb, torch.zeros_like(view.size_gb)).sum(-1)
    # What the amender takes out costs nothing in the end; what it leaves beyond the storage is charged.
    kept_beyond = (kept_gb > view.storage_gb * (1 + 1e-9)) * outcome.overflow_gb
    return {"fetch_s": outcome.fetch_s, "overflow_gb": outcome.overflow_gb, "kept_beyond_gb": kept_beyond}


def _of_slot(outcome: SlotOutcome) -> dict[str, Tensor]:
    delays = outcome.delays
    return {
        "cost": outcome.cost,
        "delay_s": delays.total_s,
        "uplink_s": delays.uplink_s,
        "backhaul_s": delays.backhaul_s,
        "generation_s": delays.generation_s,
        "downlink_s": delays.downlink_s.expand(outcome.cost.shape),
        "tv": outcome.tv,
        "hits": outcome.hit,
        "useless": outcome.useless,
        "late": outcome.late,
        **{AMOUNT + name: values for name, values in outcome.amounts.items()},
    }
