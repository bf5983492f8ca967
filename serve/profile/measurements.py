# SPDX-License-Identifier: Apache-2.0
"""What is asked of a profile, and what was measured: plain data, without a pipeline."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgegen.serve.profile.loads import Loads
from edgegen.serve.profile.picture_quality import Estimate

BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure.

    Attributes:
        model: An embedded name, a diffusers folder or a hub id.
        steps: Denoising steps to measure, increasing, at least two.
        pictures: Pictures per step count that quality is judged by.
        repeats: Timed pictures per step count.
        device: A torch device such as ``cpu`` or ``cuda:0``.
        dtype: Number format of the weights, a torch name.
        seed: Root of the prompts and of the starting noise.
        guidance: Classifier-free guidance scale; the model's own if None.
        prompts: Texts to use in turn; drawn from the grammar of their subject for models with a judge, and general ones
            for others, if empty.
        batch: Pictures at once for quality; 25 for embedded models and 1 for others if None.
        judged: Count wrong pictures; if None, only for models whose card says a subject. Prompts must then be of its
            grammar, that of shapes where the card says none.
        batches: Pictures at once in the batch curve, increasing.
    """

    model: str
    steps: tuple[int, ...]
    pictures: int = 40
    repeats: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    guidance: float | None = None
    prompts: tuple[str, ...] = ()
    batch: int | None = None
    judged: bool | None = None
    batches: tuple[int, ...] = BATCHES


@dataclass(frozen=True)
class Holding:
    """What it costs to have the model ready.

    Attributes:
        first_load_s: First load in the process, the modules of its parts included, s.
        load_s: Least of the loads with all files in the cache, s.
        weights_gb: Weights and buffers as they lie in memory, GB (10⁹ bytes).
        process_growth_gb: Growth of the process's memory from before the first load to the most seen between
            pictures, scratch memory and the modules of its parts included, GB.
        gpu_peak_gb: Most GPU memory in use by tensors, GB; None on a CPU.
        painting_gb: Memory beyond that of the loaded model while pictures are made, at most, GB.
        loads: All measured loads.
    """

    first_load_s: float
    load_s: float
    weights_gb: float
    process_growth_gb: float
    gpu_peak_gb: float | None
    painting_gb: float | None = None
    loads: Loads | None = None


@dataclass(frozen=True)
class BatchTimes:
    """Times of pictures that were made together.

    Attributes:
        pictures: How many.
        wall_s: Wall time of all of them, per repeat, s.
        cpu_s: Processor time of the same, all threads, s.
    """

    pictures: int
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    def times_s(self, clock: str) -> tuple[float, ...]:
        """Return the times by the ``wall`` or the ``cpu`` clock, s."""
        return self.cpu_s if clock == "cpu" else self.wall_s


@dataclass(frozen=True)
class StepPoint:
    """What was measured at one step count.

    Attributes:
        steps: Denoising steps.
        wall_s: Wall time of a picture made alone, per repeat, s.
        cpu_s: Processor time of the same, all threads, s.
        batch_wall_s: Wall time per picture made in batches, s.
        quality: Estimates by measure; see :data:`edgegen.serve.profile.picture_quality.MEASURES`.
    """

    steps: int
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    batch_wall_s: float
    quality: dict[str, Estimate]

    def time_s(self, clock: str, figure: Callable[[Sequence[float]], float] = min) -> float:
        """Return a figure over the repeats by the ``wall`` or the ``cpu`` clock, s."""
        return figure(self.cpu_s if clock == "cpu" else self.wall_s)


@dataclass(frozen=True)
class Profile:
    """Everything measured of one model.

    Attributes:
        request: What was asked for.
        guidance: Guidance scale used.
        picture_shape: Height, width and channels.
        threads: Threads that torch used.
        holding: What it costs to have the model ready.
        points: One per step count, increasing.
        batch_steps: Steps of the pictures of the batch curve.
        batches: The batch curve, pictures increasing; it ends where memory does.
    """

    request: ProfileRequest
    guidance: float
    picture_shape: tuple[int, int, int]
    threads: int
    holding: Holding
    points: tuple[StepPoint, ...]
    batch_steps: int = 1
    batches: tuple[BatchTimes, ...] = ()

    @property
    def clock(self) -> str:
        """The clock to trust: ``cpu`` for one thread on a CPU, where waiting for others is no work; else ``wall``."""
        return "cpu" if self.request.device.startswith("cpu") and self.threads == 1 else "wall"

    @property
    def busyness(self) -> float:
        """Median ratio of wall to processor time: well above 1 for one thread means that others used the core."""
        ratios = (
            wall / max(cpu, 1e-9) for point in self.points for wall, cpu in zip(point.wall_s, point.cpu_s, strict=True)
        )
        return statistics.median(ratios)
