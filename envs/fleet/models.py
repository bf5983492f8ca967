# SPDX-License-Identifier: Apache-2.0
"""Generative models of a fleet, and curves of their quality over the steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, model_validator

from edgegen.envs.core.fields import Count, Frozen, NonNegative, Positive, Share

Several = Annotated[Count, Field(le=10_000)]
MOST_POINTS = 32
"""Most points of a curve."""


class Exponential(Frozen):
    """Quality that rises ever slower: (1 − e^(−rate·x))/(1 − e^(−rate)) at the share x of the asked steps.

    Attributes:
        rate: How much faster it rises at the beginning; 3.5 gives .83 with half of the steps.
    """

    kind: Literal["exponential"] = "exponential"
    rate: Annotated[Positive, Field(ge=0.01, le=50)]


class Points(Frozen):
    """Quality between points that were measured, straight from one to the next, and from 0 steps of quality 0.

    Attributes:
        steps: Shares of the asked steps, rising; the last one is 1.
        quality: Quality at each, as a share of that with all steps; the last one is 1.
    """

    kind: Literal["points"] = "points"
    steps: Annotated[tuple[Annotated[Positive, Field(le=1)], ...], Field(min_length=1, max_length=MOST_POINTS)]
    quality: Annotated[tuple[Share, ...], Field(min_length=1, max_length=MOST_POINTS)]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if len(self.steps) != len(self.quality):
            raise ValueError(f"quality has {len(self.quality)} entries for {len(self.steps)} steps; give one each")
        for name, least in (("steps", 1e-6), ("quality", 0.0)):
            values = getattr(self, name)
            for before, after in pairwise(values):
                if after - before < least:
                    raise ValueError(f"{name} must rise, but {after:g} follows {before:g}")
            if values[-1] != 1:
                raise ValueError(f"the last of {name} is {values[-1]:g}, but must be 1")
        return self


Curve = Annotated[Exponential | Points, Discriminator("kind")]
"""A curve as a file gives it, by ``kind``."""


class Model(Frozen):
    """A generative model; its quality is 0 below ``least_steps`` and rises from there to ``full_steps``.

    Attributes:
        size_gb: Memory it takes where it is resident, GB.
        load_s: Time to load it, s.
        step_s: Time of a denoising step at speed 1, s.
        fixed_s: Time of a picture beside its steps at speed 1, s.
        least_steps: Fewest steps that can be chosen [A1]; all of them where fewer are asked for.
        least_quality: Quality with these [Q(A1)], from where it rises linearly; left out where there is a curve.
        full_steps: Steps that are asked for [A3], unless requests ask for steps of their own.
        full_quality: Quality with these [Q(A3)].
        curve: How the quality rises, if not linearly.
    """

    size_gb: Positive
    load_s: Positive
    step_s: Positive
    fixed_s: NonNegative = 0.0
    least_steps: Several
    least_quality: Share | None = None
    full_steps: Several
    full_quality: Share
    curve: Curve | None = None

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.least_steps > self.full_steps:
            raise ValueError(f"least_steps ({self.least_steps}) must not exceed full_steps ({self.full_steps})")
        if self.least_quality is not None and self.least_quality > self.full_quality:
            raise ValueError(
                f"least_quality ({self.least_quality:g}) must not exceed full_quality ({self.full_quality:g}): "
                "more steps are never worse"
            )
        return self

    def check(self, number: int, common: Curve | None) -> None:
        """Refuse a model whose quality is not said once.

        Args:
            number: Its number.
            common: Curve of the models without one.

        Raises:
            ValueError: If it has both a least quality and a curve, or neither.
        """
        if (self.least_quality is None) == ((self.curve or common) is None):
            both = "neither least_quality nor a curve" if self.least_quality is None else "least_quality and a curve"
            raise ValueError(f"model {number} has {both}, but needs one of the two")
