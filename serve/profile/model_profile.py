# SPDX-License-Identifier: Apache-2.0
"""The profile of one model on one device: what a scheduler or an emulated edge has to know of it.

`edgegen profile` measures it and writes it as JSON; the embedded models come with one each. Time follows the model of
fleet scenarios: n pictures of x steps that are made together take

    time(x, n) = fixed_s + x · step_s · (1 + further_picture · (n − 1))

and quality lies between the measured points, straight from one to the next.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from edgegen.envs.core.errors import InputError, from_validation
from edgegen.envs.core.fields import Count, Frozen, NonNegative, Positive, Share
from edgegen.envs.core.named_files import existing
from edgegen.envs.core.paths import replacing
from edgegen.serve.zoo.loading import embedded_models

FORMAT: Literal["edgegen-model-profile-1"] = "edgegen-model-profile-1"
PROFILE_FILE = "profile.json"
"""Name of the profile in the folder of a model."""

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Interval = tuple[NonNegative, NonNegative]
"""Ends of a 95 % interval, in the unit of what it is of."""


class QualityPoint(Frozen):
    """Quality after some steps.

    Attributes:
        steps: Denoising steps.
        quality: Quality from 0 (useless) to 1; the profile says what it is the measure of.
        low: Lower end of its 95 % interval, where there is one.
        high: Upper end.
    """

    steps: Count
    quality: Share
    low: Share | None = None
    high: Share | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.low is not None and self.low > self.quality) or (self.high is not None and self.high < self.quality):
            raise ValueError(f"quality is {self.quality:g}, but must lie between low and high")
        return self


class BatchPoint(Frozen):
    """Time of pictures that are made together.

    Attributes:
        pictures: How many.
        time_s: Time of all of them, s.
        low_s: Lower end of its 95 % interval, s.
        high_s: Upper end, s.
    """

    pictures: Count
    time_s: Positive
    low_s: NonNegative | None = None
    high_s: NonNegative | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.low_s is not None and self.low_s > self.time_s) or (
            self.high_s is not None and self.high_s < self.time_s
        ):
            raise ValueError(f"time_s is {self.time_s:g}, but must lie between low_s and high_s")
        return self


class Intervals(Frozen):
    """95 % intervals of the fields of the same names, where they were measured often enough for one."""

    load_s: Interval | None = None
    load_from_host_s: Interval | None = None
    step_s: Interval | None = None
    fixed_s: Interval | None = None
    further_picture: Interval | None = None


class ModelProfile(Frozen):
    """What a model costs and gives on one device.

    Attributes:
        format: Name and version of the file format.
        model: An embedded name, a diffusers folder or a hub id.
        device: The torch device that it was measured on, such as ``cpu`` or ``cuda:0``.
        machine: Processor (or GPU) and system.
        dtype: Number format of the weights.
        threads: CPU threads.
        measured: Command, versions and date.
        size_gb: Memory while the model is resident: weights and buffers, GB (10⁹ bytes).
        peak_gb: Memory beyond that while pictures are made, at most, GB.
        load_s: Time to load it from the disk, when none of its files is in a cache, s.
        load_from_host_s: Time to load it from the host's memory, s.
        host: What is in the host's memory then: the whole ``pipeline``, which is moved to the device (GPUs), or its
            ``files`` in the cache of the operating system, which are read again (CPUs, where a pipeline that is kept
            needs no loading).
        step_s: Time of a denoising step of one picture, s.
        fixed_s: Time of one picture beside its steps, s.
        further_picture: Time of the steps of each further picture of a batch over that of the first.
        quality_of: What quality is the measure of.
        quality: Quality after some steps, steps rising.
        least_steps: Fewest measured steps of at least half the best quality.
        full_steps: Fewest measured steps whose quality can not be told from the best.
        native_size: Width and height of the pictures, pixels.
        batch_steps: Steps of the pictures of the batch curve.
        batch: The batch curve, pictures rising.
        intervals: 95 % intervals of the numbers above.
    """

    format: Literal["edgegen-model-profile-1"] = FORMAT
    model: Text
    device: Text
    machine: Text
    dtype: Text = "float32"
    threads: Count = 1
    measured: str = ""
    size_gb: Positive
    peak_gb: NonNegative | None = None
    load_s: Positive
    load_from_host_s: Positive
    host: Literal["pipeline", "files"] = "files"
    step_s: Positive
    fixed_s: NonNegative
    further_picture: Annotated[NonNegative, Field(le=10)]
    quality_of: str = ""
    quality: Annotated[tuple[QualityPoint, ...], Field(min_length=1, max_length=1000)]
    least_steps: Count
    full_steps: Count
    native_size: Count | None = None
    batch_steps: Count | None = None
    batch: Annotated[tuple[BatchPoint, ...], Field(max_length=1000)] = ()
    intervals: Intervals = Intervals()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, values in (
            ("quality", [point.steps for point in self.quality]),
            ("batch", [point.pictures for point in self.batch]),
        ):
            for before, after in pairwise(values):
                if after <= before:
                    raise ValueError(f"{name} must rise, but {after} follows {before}")
        if self.least_steps > self.full_steps:
            raise ValueError(f"least_steps ({self.least_steps}) must not exceed full_steps ({self.full_steps})")
        for name in Intervals.model_fields:
            interval, value = getattr(self.intervals, name), getattr(self, name)
            if interval is not None and not interval[0] <= value <= interval[1]:
                raise ValueError(
                    f"{name} is {value:g}, but must lie in its interval from {interval[0]:g} to {interval[1]:g}"
                )
        return self

    def time_s(self, steps: float, pictures: int = 1) -> float:
        """Time of some pictures that are made together, s; see the head of this file."""
        return self.fixed_s + steps * self.step_s * (1 + self.further_picture * (pictures - 1))

    def quality_at(self, steps: float) -> float:
        """Quality after some steps: straight between measured points, 0 at 0 steps, that of the last beyond it."""
        counts = [0.0, *(float(point.steps) for point in self.quality)]
        return float(np.interp(steps, counts, [0.0, *(point.quality for point in self.quality)]))


def read_profile(path: str | Path) -> ModelProfile:
    """Read the profile of a model.

    Args:
        path: A JSON file, as `edgegen profile` writes it.

    Raises:
        InputError: If there is none, it can not be read, or a field is missing, unknown or out of bounds.
    """
    path = existing(path, "profile", ".json")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Profile file '{path}' can not be read: {' '.join(str(error).split())}.") from None
    if not isinstance(stored, dict):
        raise InputError(f"Profile file '{path}' must hold a JSON object with the fields of a profile.")
    try:
        return ModelProfile.model_validate(stored)
    except ValidationError as error:
        raise from_validation(error, f"Profile file '{path}'", ModelProfile.model_fields) from None


def embedded_profile(model: str) -> ModelProfile:
    """Return the profile that ships beside an embedded model.

    Args:
        model: Name of an embedded model.

    Raises:
        InputError: If there is no such model, or it has no profile.
    """
    folder = embedded_models().get(model)
    if folder is None:
        known = ", ".join(embedded_models())
        raise InputError(f"Model '{model}' has no shipped profile; embedded models are {known}.")
    return read_profile(folder / PROFILE_FILE)


def write_profile(profile: ModelProfile, path: Path) -> None:
    """Write the profile of a model in one step, so that nobody meets half a file.

    Raises:
        InputError: If the file can not be written.
    """
    with replacing(path, "wb") as file:
        file.write(json.dumps(profile.model_dump(mode="json", exclude_none=True), indent=2).encode() + b"\n")
