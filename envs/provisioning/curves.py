# SPDX-License-Identifier: Apache-2.0
"""Quality and generation time of generative models against their denoising steps, as measured or assumed curves.

A curve has six constants. Quality is a total variation (TV), lower is better; it falls from a plateau to a plateau:

    TV(x) = A2 up to A1 steps, a straight line from A2 to A4 between A1 and A3 steps, A4 from there on;
    generation time(x) = B1 x + B2.

That both relations come from experiments with the models is how arXiv 2411.01458 goes about it; the shape of the
curves and every default are our choice.

A curve file is YAML: where the numbers come from, and one entry per model. Files in ``envs/curve_files/`` have names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from edgegen.envs.core.errors import from_validation
from edgegen.envs.core.fields import Frozen, NonNegative, Positive
from edgegen.envs.core.named_files import find_file
from edgegen.envs.core.yaml_files import read_mapping

CURVE_FOLDER = Path(__file__).parents[1] / "curve_files"
FORMAT: Literal["edgegen-curves-1"] = "edgegen-curves-1"

CONSTANTS = ("a1_steps", "a2_tv", "a3_steps", "a4_tv", "b1_s_per_step", "b2_s")
"""The six constants of a curve, in the order A1, A2, A3, A4, B1, B2."""

MOST_STEPS = 1_000_000
"""Most denoising steps; whole numbers up to 2^24 are exact in single precision."""


def total_variation(steps: Tensor, a1_steps: Tensor, a2_tv: Tensor, a3_steps: Tensor, a4_tv: Tensor) -> Tensor:
    """TV of a picture made in some steps, lower is better; all arguments broadcast.

    A2 for x ≤ A1, A2 + (A4 − A2)(x − A1)/(A3 − A1) between, A4 for x ≥ A3 (our choice).
    """
    return torch.lerp(a2_tv, a4_tv, ((steps - a1_steps) / (a3_steps - a1_steps)).clamp(0, 1))


def generation_time(steps: Tensor, b1_s_per_step: Tensor, b2_s: Tensor) -> Tensor:
    """Time to make a picture in some steps, s: B1 x + B2 (our choice); all arguments broadcast."""
    return b1_s_per_step * steps + b2_s


class Curve(Frozen):
    """The curve of one model, and what is known of its measurement.

    Attributes:
        a1_steps: Steps up to which TV stays at ``a2_tv`` [A1].
        a2_tv: TV of the worst quality [A2].
        a3_steps: Steps from which TV stays at ``a4_tv`` [A3]; nobody spends more.
        a4_tv: TV of the best quality [A4].
        b1_s_per_step: Time per step [B1], s.
        b2_s: Time before the first and after the last step [B2], s.
        model: Name of the model, where there is one.
        tv_residual: Root mean square of measured minus fitted TV.
        time_residual_s: Root mean square of measured minus fitted time, s.
        load_s: Measured time to load the model, s.
        size_gb: Measured memory of the model, GB.
    """

    a1_steps: Annotated[NonNegative, Field(le=MOST_STEPS)]
    a2_tv: NonNegative
    a3_steps: Annotated[Positive, Field(le=MOST_STEPS)]
    a4_tv: NonNegative
    b1_s_per_step: NonNegative
    b2_s: NonNegative
    model: str = ""
    tv_residual: NonNegative | None = None
    time_residual_s: NonNegative | None = None
    load_s: NonNegative | None = None
    size_gb: Positive | None = None

    @model_validator(mode="after")
    def _falls_from_left_to_right(self) -> Self:
        if np.float32(self.a3_steps) <= np.float32(self.a1_steps):  # the difference is divided by
            raise ValueError(f"a3_steps ({self.a3_steps:g}) must exceed a1_steps ({self.a1_steps:g})")
        if self.a4_tv > self.a2_tv:
            raise ValueError(f"a4_tv ({self.a4_tv:g}) must not exceed a2_tv ({self.a2_tv:g}), because lower is better")
        return self

    @property
    def saturation_steps(self) -> int:
        """Fewest whole steps of the best quality, ⌈A3⌉."""
        return math.ceil(self.a3_steps)

    def tv(self, steps: Tensor) -> Tensor:
        """TV after ``steps`` of any shape; see :func:`total_variation`."""
        return CurveTensors.of([self], steps.device, _float(steps)).tv(steps[..., None])[..., 0]

    def time_s(self, steps: Tensor) -> Tensor:
        """Generation time of ``steps`` of any shape, s; see :func:`generation_time`."""
        return CurveTensors.of([self], steps.device, _float(steps)).time_s(steps[..., None])[..., 0]


class CurveSet(Frozen):
    """The curves of some models, and where they come from: what a curve file holds.

    Attributes:
        format: Name and version of the file format.
        description: One or two sentences for people.
        source: Where the numbers come from: the measurement (machine, command, date) or the assumption.
        quality: What TV is the measure of, and its unit.
        curves: One entry per model; a single entry can stand for any number of models.
    """

    format: Literal["edgegen-curves-1"] = FORMAT
    description: str = ""
    source: str
    quality: str = "total variation of the picture, lower is better"
    curves: Annotated[tuple[Curve, ...], Field(min_length=1)]

    def per_model(self, models: int) -> tuple[Curve, ...]:
        """Return one curve for each of ``models`` models.

        Raises:
            ValueError: If there is neither one curve nor one per model.
        """
        if len(self.curves) not in (1, models):
            raise ValueError(f"there are {len(self.curves)} curves for {models} models; give one for all or one each")
        return self.curves * models if len(self.curves) == 1 else self.curves


@dataclass(frozen=True)
class CurveTensors:
    """Curves of many models as tensors of a common shape, ``[M]``, ``[E, M]`` or, per user, ``[E, C, N]``.

    Attributes are the constants of :class:`Curve`.
    """

    a1_steps: Tensor
    a2_tv: Tensor
    a3_steps: Tensor
    a4_tv: Tensor
    b1_s_per_step: Tensor
    b2_s: Tensor

    @classmethod
    def of(
        cls,
        curves: Sequence[Curve],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> CurveTensors:
        """Lay curves out as tensors ``[M]``."""
        columns = ([getattr(curve, name) for curve in curves] for name in CONSTANTS)
        return cls(*(torch.tensor(column, device=device, dtype=dtype) for column in columns))

    def values(self) -> tuple[Tensor, ...]:
        """Return the tensors A1, A2, A3, A4, B1, B2."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def saturation_steps(self) -> Tensor:
        """Fewest whole steps of the best quality, ⌈A3⌉."""
        return self.a3_steps.ceil()

    def tv(self, steps: Tensor) -> Tensor:
        """TV after ``steps``, which broadcast with the curves; see :func:`total_variation`."""
        return total_variation(steps, self.a1_steps, self.a2_tv, self.a3_steps, self.a4_tv)

    def time_s(self, steps: Tensor) -> Tensor:
        """Generation time of ``steps``, s, which broadcast with the curves; see :func:`generation_time`."""
        return generation_time(steps, self.b1_s_per_step, self.b2_s)


def load_curves(name_or_path: str | Path) -> CurveSet:
    """Load a shipped curve file by name, or any curve file by its path, which ends in ``.yaml``.

    Raises:
        InputError: If there is no such file, it can not be read, or a curve is impossible.
    """
    path = find_file(str(name_or_path), CURVE_FOLDER, "curves")
    data = read_mapping(path, "Curve file")
    try:
        return CurveSet.model_validate(data)
    except ValidationError as error:
        known = {*CurveSet.model_fields, *Curve.model_fields}
        raise from_validation(error, f"Curve file '{path}'", known) from None


def _float(steps: Tensor) -> torch.dtype:
    return steps.dtype if steps.is_floating_point() else torch.get_default_dtype()
