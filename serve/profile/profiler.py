# SPDX-License-Identifier: Apache-2.0
"""Measuring a diffusers pipeline: what it costs to hold, how long a picture takes, and how good it is, by step count.

Times are those of one picture made alone, as an edge server makes them, text encoding and decoding included. Rounds
over all step counts are repeated, so that a busy spell of a shared machine touches every count and not one of them.
The batch curve is the time of n pictures that are made together, in one number of steps. Quality comes from pictures
made in batches: the same prompts and starting noise at every step count, so that differences between counts are due to
the counts. All of this is our choice.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgegen.envs.core.device import check_device, finish, is_gpu
from edgegen.envs.core.errors import InputError
from edgegen.serve.profile.loads import measure_loads, model_files
from edgegen.serve.profile.measurements import BatchTimes, Holding, Profile, ProfileRequest, StepPoint
from edgegen.serve.profile.memory import PeakMemory, weights_bytes
from edgegen.serve.profile.picture_quality import (
    distance_percent,
    mean_of,
    percentage_of,
    variation_per_pixel,
    wrong_pictures,
)
from edgegen.serve.zoo.loading import ModelInfo, embedded_models, load_pipeline, model_info
from edgegen.serve.zoo.shapes import CaptionError
from edgegen.serve.zoo.subjects import Subject, subject_of
from edgegen.serve.zoo.weights import UnknownModelError

EMBEDDED_BATCH = 25
LOADS = 3
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# For models of which nothing is known: everyday subjects with much and with little detail.
PROMPTS = (
    "a lighthouse on a cliff at sunset",
    "a bowl of fresh fruit on a wooden table",
    "a narrow street in an old town after rain",
    "a portrait of an elderly fisherman",
    "a red bicycle against a white wall",
    "a forest in autumn seen from above",
    "a cat asleep on a windowsill",
    "a snowy mountain behind a calm lake",
)


def run_profile(request: ProfileRequest, on_progress: Callable[[str], None] | None = None) -> Profile:
    """Load a model and measure it at every step count.

    Args:
        request: What to measure.
        on_progress: Called with what is being done before it starts.

    Raises:
        InputError: If there is no such model or device, its pipeline takes no step count, or a step count, a prompt
            or the pictures do not fit.
    """
    tell = on_progress or (lambda text: None)
    prompts, subject, facts = _prompts(request)
    check_device(request.device)
    dtype = _number_format(request)
    # Libraries first: what they take is no cost of this model.
    import diffusers  # noqa: F401
    import psutil
    import transformers  # noqa: F401

    process = psutil.Process()
    before_bytes = process.memory_info().rss
    tell(f"Loading {request.model}")
    loads, pipeline = measure_loads(lambda: _load(request, dtype), model_files(request.model), request.device, LOADS)
    info = model_info(request.model)
    painter = _Painter(pipeline, request, info)
    most_bytes = process.memory_info().rss
    painting = PeakMemory(request.device)

    painter.warm_up(prompts[:1])
    wall: dict[int, list[float]] = {steps: [] for steps in request.steps}
    cpu: dict[int, list[float]] = {steps: [] for steps in request.steps}
    for repeat in range(request.repeats):
        for steps in request.steps:
            tell(f"Timing round {repeat + 1} of {request.repeats}, {steps} steps")
            _, wall_s, cpu_s = painter.timed(prompts[:1], steps)
            wall[steps].append(wall_s)
            cpu[steps].append(cpu_s)

    batch_steps = min(request.steps, key=lambda steps: abs(steps - info.default_steps))
    batches = painter.batch_curve(prompts, batch_steps, tell)

    points: list[StepPoint] = []
    reference: NDArray[np.uint8] | None = None
    for steps in reversed(request.steps):  # the most steps first, because they are what others are compared with
        tell(f"Painting {request.pictures} pictures in {steps} steps")
        pictures, batch_s, _ = painter.timed(prompts, steps)
        most_bytes = max(most_bytes, process.memory_info().rss)
        reference = pictures if reference is None else reference
        quality = {
            "tv": mean_of(variation_per_pixel(pictures)),
            "distance": mean_of(distance_percent(pictures, reference)),
        }
        if subject is not None:
            quality["inaccuracy"] = percentage_of(wrong_pictures(pictures, subject, facts))
        points.append(StepPoint(steps, tuple(wall[steps]), tuple(cpu[steps]), batch_s / len(prompts), quality))

    on_gpu = is_gpu(request.device)
    holding = Holding(
        first_load_s=loads.first_s,
        load_s=min(loads.warm_s),
        weights_gb=weights_bytes(pipeline) / 1e9,
        process_growth_gb=max(0, most_bytes - before_bytes) / 1e9,
        gpu_peak_gb=torch.cuda.max_memory_allocated(request.device) / 1e9 if on_gpu else None,
        painting_gb=painting.grown_bytes() / 1e9,
        loads=loads,
    )
    assert reference is not None
    height, width, channels = (int(length) for length in reference.shape[1:])
    return Profile(
        request,
        painter.guidance,
        (height, width, channels),
        torch.get_num_threads(),
        holding,
        tuple(points[::-1]),
        batch_steps,
        batches,
    )


class _Painter:
    """Runs a pipeline on prompts; picture i depends on its prompt and ``seed + i`` alone."""

    def __init__(self, pipeline: Any, request: ProfileRequest, info: ModelInfo) -> None:
        self._pipeline = pipeline
        self._request = request
        self.guidance = info.default_guidance if request.guidance is None else request.guidance
        self._batch = request.batch or (EMBEDDED_BATCH if request.model in embedded_models() else 1)
        self._known = set(inspect.signature(pipeline.__call__).parameters)
        kind = type(pipeline).__name__
        if "num_inference_steps" not in self._known or not self._known & {"prompt", "batch_size"}:
            raise InputError(f"Model '{request.model}' can not be profiled: its {kind} takes no prompt and step count.")
        levels = getattr(getattr(getattr(pipeline, "scheduler", None), "config", None), "num_train_timesteps", None)
        if isinstance(levels, int) and request.steps[-1] > levels:
            raise InputError(
                f"--steps asks for {request.steps[-1]} steps, but model '{request.model}' has {levels} noise levels, "
                "which is the most steps it can make."
            )

    def warm_up(self, prompts: Sequence[str]) -> None:
        """Make pictures once, because allocations, thread pools and kernels are made once.

        Raises:
            InputError: If the pipeline wants more than a prompt, as one that repairs pictures does, or makes none.
        """
        try:
            self.timed(prompts, self._request.steps[0])
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError) as error:  # what pipelines raise about their arguments
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(
                f"Model '{self._request.model}' can not be profiled: its {type(self._pipeline).__name__} makes no "
                f"picture of a prompt alone ({reason})."
            ) from error

    def batch_curve(self, prompts: Sequence[str], steps: int, tell: Callable[[str], None]) -> tuple[BatchTimes, ...]:
        """Time pictures that are made together, every round all numbers of them.

        Args:
            prompts: Texts to use in turn.
            steps: Denoising steps.
            tell: Called with what is being done before it starts.

        Returns:
            One entry per number of pictures for which the memory suffices.
        """
        wall: dict[int, list[float]] = {count: [] for count in self._request.batches}
        cpu: dict[int, list[float]] = {count: [] for count in self._request.batches}
        for repeat in range(-1, self._request.repeats):  # the first round warms up
            for count in list(wall):
                tell(f"Timing batches, round {max(repeat, 0) + 1} of {self._request.repeats}, {count} at once")
                texts = [prompts[index % len(prompts)] for index in range(count)]
                try:
                    _, wall_s, cpu_s = self.timed(texts, steps, batch=count)
                except torch.cuda.OutOfMemoryError:
                    for larger in [other for other in wall if other >= count]:
                        del wall[larger]
                    break
                if repeat >= 0:
                    wall[count].append(wall_s)
                    cpu[count].append(cpu_s)
        return tuple(BatchTimes(count, tuple(wall[count]), tuple(cpu[count])) for count in wall)

    def timed(
        self, prompts: Sequence[str], steps: int, batch: int | None = None
    ) -> tuple[NDArray[np.uint8], float, float]:
        """Return the pictures, ``[n, h, w, channels]``, and the wall and processor seconds they took together."""
        finish(self._request.device)
        before, size = (time.perf_counter(), time.process_time()), batch or self._batch
        parts = [
            self._paint(prompts[start : start + size], steps, self._request.seed + start)
            for start in range(0, len(prompts), size)
        ]
        finish(self._request.device)
        wall_s, cpu_s = time.perf_counter() - before[0], time.process_time() - before[1]
        levels = np.concatenate(parts)
        if not np.isfinite(levels).all():
            raise InputError(
                f"Model '{self._request.model}' paints values that are no numbers in {steps} steps with "
                f"{self._request.dtype}; try another --dtype."
            )
        return np.rint(levels.clip(0, 1) * 255).astype(np.uint8), wall_s, cpu_s

    def _paint(self, prompts: Sequence[str], steps: int, seed: int) -> NDArray[np.float32]:
        # Noise is always drawn on the CPU, so that a seed means the same pictures on every device.
        generators = [torch.Generator("cpu").manual_seed(seed + index) for index in range(len(prompts))]
        given: dict[str, Any] = {"prompt": list(prompts)} if "prompt" in self._known else {"batch_size": len(prompts)}
        if "guidance_scale" in self._known:
            given["guidance_scale"] = self.guidance
        made = self._pipeline(num_inference_steps=steps, generator=generators, output_type="np", **given)
        pictures: NDArray[np.float32] = np.asarray(made.images, dtype=np.float32)
        return pictures


def _prompts(request: ProfileRequest) -> tuple[list[str], Subject | None, list[Any]]:
    """Return one prompt per picture, and if pictures are judged their subject and what each asks for."""
    subject = _subject(request)
    if subject is not None and not request.prompts:
        facts = subject.held_out(request.pictures, request.seed)
        return [subject.caption(fact) for fact in facts], subject, facts
    source = request.prompts or PROMPTS
    texts = [source[index % len(source)] for index in range(request.pictures)]
    try:
        return texts, subject, [subject.parse(text) for text in texts] if subject else []
    except CaptionError as error:
        raise InputError(f"Prompt accuracy can not be judged: {error}.") from None


def _subject(request: ProfileRequest) -> Subject | None:
    """What the pictures are judged as, None if they are not."""
    try:
        name = model_info(request.model).subject
    except UnknownModelError as error:
        raise _sentence(error) from error
    judged = name is not None if request.judged is None else request.judged
    return subject_of(name or "shapes") if judged else None


def _number_format(request: ProfileRequest) -> torch.dtype:
    """The number format by its name."""
    if request.dtype not in DTYPES:
        raise InputError(f"Number format '{request.dtype}' is unknown; use float32, float16 or bfloat16.")
    return DTYPES[request.dtype]


def _load(request: ProfileRequest, dtype: torch.dtype) -> Any:
    try:
        return load_pipeline(request.model, request.device, dtype)
    except UnknownModelError as error:
        raise _sentence(error) from error


def _sentence(error: UnknownModelError) -> InputError:
    text = str(error)
    return InputError(f"{text[0].upper()}{text[1:]}.")
