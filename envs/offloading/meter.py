# SPDX-License-Identifier: Apache-2.0
"""What becomes of tasks, episode by episode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Array, Meter, Values
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.world import OffloadingWorld

OBJECTIVE = "objective"
"""The metric that decides where the objective names terms: its mean over tasks."""
PARTS = ("transfer_s", "wait_s", "compute_s", "return_s")
"""Parts of the service delay."""


class DelayMeter(Meter):
    """Service delays: means over tasks, their parts, and percentiles.

    Values: ``mean_delay_s`` and its parts ``transfer_s``, ``wait_s``, ``compute_s`` and ``return_s``; ``p95_delay_s``
    and ``p99_delay_s``; the number of ``tasks``, int64. Where the objective names terms, also ``objective``, its mean
    over tasks, what each term adds to that, and the mean amounts of those that are named.
    """

    def __init__(self, world: OffloadingWorld) -> None:
        self._copies = world.copies
        self._scenario = world.scenario
        self._first = world.state.first_episode
        self._outcomes: list[SlotOutcome] = []
        self._objective = world.objective

    def add(self, role: str, view: Any, outcome: SlotOutcome) -> None:
        """See :meth:`Meter.add`."""
        self._outcomes.append(outcome)

    def headline(self) -> Array:
        """Mean service delays, s; mean costs where the objective names terms."""
        means: Array = self.values()["mean_delay_s" if self._objective is None else OBJECTIVE]
        return means

    def values(self) -> Values:
        """See :meth:`Meter.values`.

        Raises:
            InputError: If an episode has no tasks.
        """
        outcomes, copies = self._outcomes, self._copies
        copy = torch.cat([outcome.copy for outcome in outcomes])

        def gather(values: list[Tensor]) -> Array:
            return torch.cat(values).double().cpu().numpy()

        order = torch.argsort(copy, stable=True).cpu().numpy()
        tasks = torch.bincount(copy, minlength=copies).cpu().numpy()
        if not tasks.all():
            raise InputError(
                f"Episode {self._first + int(np.flatnonzero(tasks == 0)[0])} of scenario '{self._scenario.name}' has "
                f"no tasks, so its mean delay is undefined; {self._scenario.remedy_without_tasks}."
            )
        delay = gather([outcome.delays.total_s for outcome in outcomes])[order]
        bounds = np.concatenate([[0], tasks.cumsum()])

        def mean(values: Array) -> Array:
            total = np.bincount(np.repeat(np.arange(copies), tasks), weights=values, minlength=copies)
            averaged: Array = total / tasks
            return averaged

        percentiles = np.array([np.percentile(delay[a:b], (95, 99)) for a, b in itertools.pairwise(bounds)])
        parts = {part: mean(gather([getattr(outcome.delays, part) for outcome in outcomes])[order]) for part in PARTS}
        return {
            **self._judged(lambda values: mean(gather(values)[order])),
            "mean_delay_s": mean(delay),
            **parts,
            "p95_delay_s": percentiles[:, 0],
            "p99_delay_s": percentiles[:, 1],
            "tasks": tasks,
        }

    def _judged(self, mean: Callable[[list[Tensor]], Array]) -> Values:
        """The objective and its terms, from what takes means of values of all slots; nothing where there are none."""
        if self._objective is None:
            return {}
        costs = [outcome.worse for outcome in self._outcomes]
        amounts = {
            term.name: mean([outcome.amounts[term.name] for outcome in self._outcomes])
            for term, _ in self._objective.terms
        }
        return {OBJECTIVE: mean(costs), **self._objective.reported(amounts)}
