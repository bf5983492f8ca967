# SPDX-License-Identifier: Apache-2.0
"""How asynchronous training scales: processor times of its parts, measured, and which of them is the next ceiling.

Runners, shards, learners and driver work at the same time, so with a core for every process the slowest part sets the
pace, and all others wait for it. What each part costs per slot does not depend on how many cores there are; that is
measured. The rest is arithmetic, and no cluster was there to confirm it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgegen.algorithms.rllib.asynchronous.seating import RUNNERS_PER_SHARD
from edgegen.platform.runs.statistics import Interval, mean_interval
from edgegen.platform.screen import PlainTable

PREDICTED_RUNNERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
WARM_UP_STEPS = 50
"""Training steps after which there must be updates."""


@dataclass(frozen=True)
class AsynchronousRow:
    """What was measured with one number of runners and one learner: means over repeats with 95 % intervals.

    Attributes:
        runners: Env runners.
        slots_per_s: Slots per second of wall time, summed over copies, with all updates they are worth.
        updates_per_s: Updates per second of wall time.
        decisions_per_s: Decisions per second of wall time.
        runner_ms: Processor time of all runners per slot, ms.
        shard_ms: Processor time of the shard per slot, ms: storing, drawing batches, sending them.
        learner_ms: Processor time of the learner per update, ms.
        driver_ms: Processor time of the driver per slot, ms.
        staleness_updates: Mean age of weights when a fragment was learned from, updates.
        staleness_slots: The same in slots.
        staleness_slots_max: The greatest.
    """

    runners: int
    slots_per_s: Interval
    updates_per_s: Interval
    decisions_per_s: Interval
    runner_ms: Interval
    shard_ms: Interval
    learner_ms: Interval
    driver_ms: Interval
    staleness_updates: float
    staleness_slots: float
    staleness_slots_max: float


@dataclass(frozen=True)
class AsynchronousScaling:
    """Rows by number of runners, and what they say about a core for every process.

    Attributes:
        rows: Measurements.
        updates_per_slot: Updates that the preset makes per slot.
        staleness: Bound of the age of weights, in fragments of every runner.
    """

    rows: tuple[AsynchronousRow, ...]
    updates_per_slot: float
    staleness: float

    def cost_ms(self) -> dict[str, float]:
        """Least processor time of each part per slot, ms: where processes outnumber cores, all of it costs more."""
        least = {
            "runners": min(row.runner_ms.estimate for row in self.rows),
            "shards": min(row.shard_ms.estimate for row in self.rows),
            "learners": min(row.learner_ms.estimate for row in self.rows) * self.updates_per_slot,
            "driver": min(row.driver_ms.estimate for row in self.rows),
        }
        return {name: max(value, 1e-6) for name, value in least.items()}

    def ceilings(self, runners: int, learners: int = 1) -> dict[str, float]:
        """Slots per second that each part allows with a core for every process.

        Several learners take rows of their own, so L of them with ``updates_per_slot`` divided by L learn from as many
        rows per slot as one does; what they wait for each other is not in here.

        Args:
            runners: Env runners.
            learners: Learners.
        """
        cost = self.cost_ms()
        shards = math.ceil(runners / RUNNERS_PER_SHARD)
        number = {"runners": runners, "shards": shards, "learners": learners, "driver": 1}
        return {name: 1e3 * number[name] / cost[name] for name in cost}

    def learners_for(self, runners: int) -> int:
        """As many learners as it takes for them not to be the ceiling."""
        ceilings = self.ceilings(runners)
        others = min(value for name, value in ceilings.items() if name != "learners")
        return math.ceil(others / ceilings["learners"])

    def predicted(self, runners: int, learners: int | None = None) -> tuple[float, str]:
        """Slots per second with a core for every process, and the part that allows no more.

        Args:
            runners: Env runners.
            learners: Learners; as many as it takes if None.
        """
        ceilings = self.ceilings(runners, learners or 1)
        if learners is None:
            del ceilings["learners"]
        least = min(ceilings, key=lambda name: ceilings[name])
        return ceilings[least], least

    def shared(self, cores: int) -> float:
        """Slots per second that one runner, one shard, one learner and the driver can reach on some cores."""
        cost = self.cost_ms()
        return 1e3 / max(sum(cost.values()) / cores, *cost.values())

    def predictions(self) -> list[dict[str, Any]]:
        """A row for every number of runners: processes, slots per second, speed-up over one runner, and the ceiling."""
        rows = []
        for runners in PREDICTED_RUNNERS:
            learners = self.learners_for(runners)
            value, ceiling = self.predicted(runners)
            rows.append(
                {
                    "runners": runners,
                    "learners": learners,
                    "processes": runners + learners + math.ceil(runners / RUNNERS_PER_SHARD) + 1,
                    "slots_per_s": value,
                    "speed_up": value / self.predicted(1)[0],
                    "ceiling": ceiling,
                    "slots_per_s_one_learner": self.predicted(runners, 1)[0],
                }
            )
        return rows

    def tables(self) -> list[PlainTable]:
        """Lay measurements and predictions out for a terminal."""
        measured = PlainTable(
            title="Asynchronous, one learner, measured here",
            caption="Runners, shard, driver: CPU ms per slot; learner: CPU ms per update. Age of weights in updates.",
        )
        rates = ("runners", "slots/s", "updates/s", "decisions/s")
        names = (*rates, "all runners", "shard", "learner", "driver", "age")
        for name in names:
            measured.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            paces = (row.slots_per_s, row.updates_per_s, row.decisions_per_s)
            times = (row.runner_ms, row.shard_ms, row.learner_ms, row.driver_ms)
            measured.add_row(
                str(row.runners),
                *(pace.text(0) for pace in paces),
                *(spent.text(3) for spent in times),
                f"{row.staleness_updates:.0f}",
            )
        predicted = PlainTable(title="Asynchronous, predicted for a core for every process, not measured")
        for name in ("runners", "learners", "processes", "slots/s", "speed-up", "ceiling", "with one learner"):
            predicted.add_column(name, justify="right", no_wrap=True)
        for entry in self.predictions():
            predicted.add_row(
                *(str(entry[name]) for name in ("runners", "learners", "processes")),
                f"{entry['slots_per_s']:,.0f}",
                f"{entry['speed_up']:.1f}",
                str(entry["ceiling"]),
                f"{entry['slots_per_s_one_learner']:,.0f}",
            )
        return [measured, predicted]


def measure_asynchronous(
    build: Callable[[int], Any],
    runners: Sequence[int],
    episodes: int,
    repeats: int,
    updates_per_slot: float,
    tell: Callable[[str], None],
) -> AsynchronousScaling:
    """Measure asynchronous training with several numbers of env runners.

    Args:
        build: From a number of runners to an algorithm.
        runners: Numbers of env runners.
        episodes: Episodes of every copy of every runner per repeat.
        repeats: Repeats, at least three.
        updates_per_slot: Updates that the preset makes per slot.
        tell: Called with what is measured next.
    """
    rows = []
    staleness = 0.0
    for number in runners:
        tell(f"{number} runners, asynchronous")
        algorithm = build(number)
        try:
            staleness = float(algorithm.config.staleness)
            rows.append(_measure(algorithm, number, episodes, repeats))
        finally:
            algorithm.stop()
    return AsynchronousScaling(tuple(rows), updates_per_slot, staleness)


def _measure(algorithm: Any, runners: int, episodes: int, repeats: int) -> AsynchronousRow:
    for _ in range(WARM_UP_STEPS):
        algorithm.train()
        algorithm.settle()
        if sum(algorithm.updates.values()):
            break
    samples = [_sample(algorithm, episodes) for _ in range(repeats)]
    means: dict[str, Any] = {name: mean_interval([sample[name] for sample in samples]) for name in samples[0]}
    figures = algorithm.figures()
    return AsynchronousRow(
        runners,
        **means,
        staleness_updates=figures["staleness_updates"],
        staleness_slots=figures["staleness_slots"],
        staleness_slots_max=figures["staleness_slots_max"],
    )


def _sample(algorithm: Any, episodes: int) -> dict[str, float]:
    """Train for some episodes of every copy until all is learned from; returns rates and processor times."""
    begun, before = time.perf_counter(), algorithm.processor_s()
    slots, updates = algorithm.slots_sampled, sum(algorithm.updates.values())
    steps: list[tuple[float, float]] = []
    for _ in range(episodes):
        played = algorithm.train()["env_runners"]
        steps.append((played["num_agent_steps_sampled"], played["num_env_steps_sampled"]))
    algorithm.settle()
    seconds, after = time.perf_counter() - begun, algorithm.processor_s()
    slots, updates = algorithm.slots_sampled - slots, sum(algorithm.updates.values()) - updates
    spent_ms = {name: 1e3 * (after[name] - before[name]) for name in after}
    decisions, counted = np.sum(steps, 0)
    return {
        "slots_per_s": slots / seconds,
        "updates_per_s": updates / seconds,
        "decisions_per_s": slots / seconds * decisions / counted,
        "runner_ms": spent_ms["runners"] / slots,
        "shard_ms": spent_ms["shards"] / slots,
        "learner_ms": spent_ms["learners"] / max(1, updates),
        "driver_ms": spent_ms["driver"] / slots,
    }
