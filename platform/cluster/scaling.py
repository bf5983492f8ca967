# SPDX-License-Identifier: Apache-2.0
"""How sampling scales with env runners: measured on the cores there are, and what that predicts for more of them.

A round asks every runner for a fragment and stores what comes back. On C cores its wall time says little about a real
cluster, because N runners and the driver share them. Processor times do not depend on that, so they are measured
apart: what a runner needs for its fragment, and what the driver needs per runner to ask, receive and store. With a
core for every process, a round takes as long as a runner's fragment, plus the driver's part for every runner one after
the other, plus what a round costs however many there are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.algorithms.methods.registry import find_method
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.platform.bench.suite import machine_info
from edgegen.platform.canvas import drawing, new_figure, no_minor_ticks, plain_numbers, save
from edgegen.platform.cluster.asynchronous_scaling import AsynchronousScaling, measure_asynchronous
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.process import quiet_libraries
from edgegen.platform.runs.statistics import Interval, mean_interval
from edgegen.platform.screen import PlainTable

WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class ScalingRow:
    """What was measured with one number of runners; every value is a mean over repeats with its 95 % interval.

    Attributes:
        runners: Remote env runners; 0 plays in the driver.
        slots_per_s: Slots per second of wall time, summed over copies.
        runner_ms: Processor time of one runner for its fragment, ms.
        driver_ms: Processor time of the driver per round, ms.
    """

    runners: int
    slots_per_s: Interval
    runner_ms: Interval
    driver_ms: Interval


@dataclass(frozen=True)
class ScalingReport:
    """Rows by number of runners, and what they say about a core for every process.

    Attributes:
        rows: Measurements.
        slots_per_fragment: Slots of one runner's fragment, summed over copies.
        overhead_ms: Driver's processor time per runner and round, ms.
        fixed_ms: Driver's processor time per round however many runners there are, ms.
        update_ms: Processor time of one update, ms.
        updates_per_slot: Updates that the preset makes per slot.
        asynchronous: The same of asynchronous training, if it was measured.
    """

    algorithm: str
    preset: str
    scenario: str
    seed: int
    fragment_length: int
    copies: int
    slots_per_fragment: int
    rounds: int
    repeats: int
    rows: tuple[ScalingRow, ...]
    overhead_ms: float
    fixed_ms: float
    update_ms: float
    updates_per_slot: float
    machine: dict[str, Any]
    asynchronous: AsynchronousScaling | None = None

    def predicted(self, runners: int) -> float:
        """Slots per second with a core for every process, sampling alone."""
        play_ms = self._play_ms()
        return 1e3 * runners * self.slots_per_fragment / (play_ms + self.fixed_ms + runners * self.overhead_ms)

    def predicted_training(self, runners: int) -> float:
        """Slots per second with a core for every process and the preset's updates in the driver."""
        update_ms = self.updates_per_slot * runners * self.slots_per_fragment * self.update_ms
        round_ms = self._play_ms() + self.fixed_ms + runners * self.overhead_ms + update_ms
        return 1e3 * runners * self.slots_per_fragment / round_ms

    def shared(self, runners: int) -> float:
        """Slots per second that the same processor times allow on the cores of this machine."""
        cores = int(self.machine["cores"])
        work_ms = runners * (self._play_ms() + self.overhead_ms) + self.fixed_ms
        least_ms = max(work_ms / cores, self._play_ms() + self.fixed_ms + runners * self.overhead_ms)
        return 1e3 * runners * self.slots_per_fragment / least_ms

    def _play_ms(self) -> float:
        remote = [row.runner_ms.estimate for row in self.rows if row.runners]
        return min(remote)  # with more processes than cores, caches are shared and a fragment costs more

    def table(self) -> PlainTable:
        """Lay the report out for a terminal."""
        table = PlainTable(
            title=f"{self.algorithm} {self.preset} on {self.scenario}: fragment {self.fragment_length}, "
            f"{self.copies} copies, {self.machine['cores']} cores",
            caption=f"Means of {self.repeats} repeats of {self.rounds} rounds, 95 % intervals. Driver: "
            f"{self.overhead_ms:.2f} ms per runner and round, {self.fixed_ms:.2f} ms per round; an update "
            f"{self.update_ms:.2f} ms.",
        )
        for name in (
            "runners",
            "slots/s, here",
            "runner, CPU ms",
            "driver, CPU ms",
            "bound here",
            "a core each: sampling",
            "with updates",
        ):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            predictions = [
                f"{value(row.runners):,.0f}" if row.runners else ""
                for value in (self.shared, self.predicted, self.predicted_training)
            ]
            table.add_row(
                str(row.runners) if row.runners else "in driver",
                row.slots_per_s.text(0),
                row.runner_ms.text(2) if row.runners else "",
                row.driver_ms.text(2),
                *predictions,
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        predictions = {
            str(row.runners): {
                "sampling": self.predicted(row.runners),
                "training": self.predicted_training(row.runners),
            }
            for row in self.rows
            if row.runners
        }
        values = {"format": "edgegen-scaling-1", **asdict(self), "predicted_slots_per_s": predictions}
        if self.asynchronous is not None:
            values["predicted_asynchronous"] = self.asynchronous.predictions()
        return values


def measure_scaling(
    algorithm: str = "ladts",
    preset: str = "improved",
    scenario: str | None = None,
    runners: Sequence[int] = (1, 2, 4, 8),
    fragment_length: int = 10,
    rounds: int = 30,
    repeats: int = 5,
    seed: int = 0,
    address: str | None = None,
    on_measurement: Callable[[str], None] | None = None,
    asynchronous: bool = True,
) -> ScalingReport:
    """Measure sampling with several numbers of env runners, and one update.

    Args:
        algorithm: Name of the algorithm.
        preset: Its preset.
        scenario: The world; the algorithm's default if None.
        runners: Numbers of remote env runners; the driver alone is measured besides.
        fragment_length: Slots (LAD-TS) or frames (T2DRL) per fragment.
        rounds: Rounds per repeat.
        repeats: Repeats, at least three.
        seed: Of arrivals and decisions.
        address: Ray cluster to use; a private one if None.
        on_measurement: Called with what is measured next.
        asynchronous: Whether to measure asynchronous training, too.

    Raises:
        InputError: If a name is unknown, a number impossible, or there is no room.
    """
    from edgegen.algorithms.rllib.ray_session import ray_session

    if repeats < 3:
        raise InputError(f"repeats is {repeats}, but must be at least 3: intervals need them.")
    if not runners or min(runners) < 1:
        raise InputError(f"runners is {list(runners)}, but must be one or more numbers of at least 1.")
    learner = find_method(algorithm)
    world = learner.load_scenario(learner.default_scenario if scenario is None else scenario)
    settings = learner.make_settings(preset)
    tell = on_measurement or (lambda name: None)
    quiet_libraries()
    per_step = kind_of(world).slots_per_round(world)
    copies = int(settings.copies)
    slots = fragment_length * per_step
    rows, update_ms = [], math.nan
    options = {"num_cpus": max(os.cpu_count() or 1, max(runners) + 1)} if address is None else {}

    def build(number: int, **others: Any) -> Any:
        processes = Processes(num_env_runners=number, fragment_length=fragment_length, **others)
        config = learner.config().world(world).training(**settings.model_dump())
        return processes.apply(config).debugging(seed=seed, log_level="ERROR").build_algo()

    apart = None
    with ray_session(address, **options):
        for number in (0, *sorted(set(runners))):
            tell(f"{number} runners" if number else "the driver alone")
            built = build(number)
            try:
                rows.append(_measure(built, number, slots, rounds, repeats))
                if not number:
                    update_ms = _update_ms(built, repeats)
            finally:
                built.stop()
        if asynchronous:
            rounds_of_episode = kind_of(world).rounds(world)
            apart = measure_asynchronous(
                lambda number: build(number, asynchronous=True),
                sorted(set(runners)),
                max(1, round(rounds * fragment_length / rounds_of_episode)),
                repeats,
                float(settings.updates_per_slot),
                tell,
            )
    remote = [row for row in rows if row.runners]
    if len(remote) > 1:
        overhead, fixed = np.polyfit([row.runners for row in remote], [row.driver_ms.estimate for row in remote], 1)
    else:
        overhead, fixed = remote[0].driver_ms.estimate / remote[0].runners, 0.0
    return ScalingReport(
        algorithm=algorithm,
        preset=preset,
        scenario=world.name,
        seed=seed,
        fragment_length=fragment_length,
        copies=copies,
        slots_per_fragment=slots * copies,
        rounds=rounds,
        repeats=repeats,
        rows=tuple(rows),
        overhead_ms=float(overhead),
        fixed_ms=max(0.0, float(fixed)),
        update_ms=update_ms,
        updates_per_slot=float(settings.updates_per_slot),
        machine=machine_info(),
        asynchronous=apart,
    )


def _measure(algorithm: Any, runners: int, slots: int, rounds: int, repeats: int) -> ScalingRow:
    """Time rounds: sample on every runner, and store what comes back."""

    def play(count: int) -> int:
        played = 0
        for _ in range(count):
            for fragment in algorithm.sample(slots):
                played += fragment.env_steps()
                store(algorithm, fragment)
        return played

    def runner_cpu() -> list[float]:
        times: list[float] = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: time.process_time(), local_env_runner=False
        )
        return times

    play(WARM_UP_ROUNDS)
    rates, runner_ms, driver_ms = [], [], []
    for _ in range(repeats):
        before, cpu, wall = runner_cpu() if runners else [], time.process_time(), time.perf_counter()
        played = play(rounds)
        rates.append(played / (time.perf_counter() - wall))
        driver_ms.append(1e3 * (time.process_time() - cpu) / rounds)
        if runners:
            spent = [after - begin for begin, after in zip(before, runner_cpu(), strict=True)]
            runner_ms.append(1e3 * float(np.mean(spent)) / rounds)
    return ScalingRow(
        runners, mean_interval(rates), mean_interval(runner_ms or [0.0] * repeats), mean_interval(driver_ms)
    )


def store(algorithm: Any, fragment: Any) -> None:
    """Put a fragment into the replays, as training does."""
    for name, replay in algorithm.replays.items():
        replay.add(fragment.roles[name].columns, fragment.roles[name].valid)


def _update_ms(algorithm: Any, repeats: int, updates: int = 10) -> float:
    """Processor time of one update of the first module, in the driver, ms."""
    module_id = next(iter(algorithm.replays))
    times = []
    for _ in range(repeats + 1):
        algorithm.owed_updates[module_id] = float(updates)
        begun = time.process_time()
        algorithm.make_updates(module_id, int(algorithm.settings.batch_size))
        times.append(1e3 * (time.process_time() - begun) / updates)
    return float(np.median(times[1:]))


@drawing
def plot_scaling(report: ScalingReport, path: Path) -> list[Path]:
    """Draw slots per second against runners, measured and predicted; write PNG and SVG.

    Raises:
        InputError: If the files can not be written, or the name has another ending.
    """
    remote = [row for row in report.rows if row.runners]
    numbers = [row.runners for row in remote]
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    means = [row.slots_per_s.estimate for row in remote]
    ends = [
        [row.slots_per_s.estimate - row.slots_per_s.low for row in remote],
        [row.slots_per_s.high - row.slots_per_s.estimate for row in remote],
    ]
    cores = report.machine["cores"]
    axes.errorbar(numbers, means, yerr=ends, fmt="o-", color="0.1", capsize=3, label=f"measured on {cores} cores")
    for value, style, label in (
        (report.predicted, "--", "predicted, a core for every process"),
        (report.predicted_training, ":", "the same with the preset's updates in the driver"),
    ):
        axes.plot(numbers, [value(number) for number in numbers], style, color="0.45", label=label)
    local = next((row for row in report.rows if not row.runners), None)
    if local is not None:
        axes.axhline(local.slots_per_s.estimate, color="0.75", label="in the driver, no runner")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    no_minor_ticks(axes.xaxis)
    plain_numbers(axes.yaxis, ",.0f", minor=True)
    axes.set_xlabel("env runners")
    axes.set_ylabel("slots/s")
    axes.grid(color="0.9", which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(
        f"{report.algorithm} {report.preset} on {report.scenario}, fragment {report.fragment_length}, "
        f"{report.copies} copies, seed {report.seed}",
        fontsize=9,
    )
    return save(figure, path)
