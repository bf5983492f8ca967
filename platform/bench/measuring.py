# SPDX-License-Identifier: Apache-2.0
"""What a benchmark is: a rate or a cost with its unit, and how it is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from edgegen.envs.core.device import is_gpu
from edgegen.platform.bench.floors import Least

COPIES = (1, 64, 256)
GPU_COPIES = (*COPIES, 4096)


@dataclass(frozen=True)
class Measurement:
    """One row of the suite.

    Attributes:
        name: What was measured.
        unit: Of both values; ``.../s`` is a rate (more is better), ``s/...`` a cost (less is better).
        wall: Value by wall time.
        cpu: Value by processor time of this process, all threads.
        repeats: Timed repeats, of which the values are medians.
        work: Things done per repeat: decisions, tasks or episodes.
        least: The least that has to be computed and moved for one thing, where that is known.
    """

    name: str
    unit: str
    wall: float
    cpu: float
    repeats: int
    work: int
    least: Least | None = None


@dataclass(frozen=True)
class BenchRun:
    """How everything is measured.

    Attributes:
        quick: Fewer repeats and shorter episodes.
        seed: Seed of arrivals and policies.
        device: Where simulators, policies and updates run.
        tell: Called with the name of each group of measurements before it starts.
    """

    quick: bool
    seed: int
    device: str
    tell: Callable[[str], None]

    @property
    def repeats(self) -> int:
        """Timed repeats of what is fast."""
        return 3 if self.quick else 7

    @property
    def copies(self) -> tuple[int, ...]:
        """Numbers of copies that simulators are measured with."""
        return GPU_COPIES if is_gpu(self.device) else COPIES


class KindBench(Protocol):
    """What a kind of world has to measure; its module has these names, each measuring when it is iterated over.

    Attributes:
        SCENARIO: Name of the world that is measured.
    """

    SCENARIO: str

    def simulators(self, run: BenchRun) -> Iterable[Measurement]:
        """Measure the simulator alone."""

    def policies(self, run: BenchRun) -> Iterable[Measurement]:
        """Measure the decisions of policies, without the simulator."""

    def trainings(self, run: BenchRun) -> Iterable[Measurement]:
        """Measure training and its updates; Ray is started."""


def rate(
    name: str, unit: str, work: int, action: Callable[[], Any], repeats: int, least: Least | None = None
) -> Measurement:
    """Time an action and return how much of ``work`` it does per second."""
    action()  # warm-up: allocations, thread pools
    wall, cpu = [], []
    for _ in range(repeats):
        before = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    # Processor clocks may tick coarser than a fast action lasts.
    tick = time.get_clock_info("process_time").resolution
    return Measurement(
        name, unit, work / statistics.median(wall), work / max(tick, statistics.median(cpu)), repeats, work, least
    )
