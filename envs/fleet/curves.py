# SPDX-License-Identifier: Apache-2.0
"""Quality of requests over their steps, compiled; curves as in :mod:`edgegen.envs.fleet.models`."""

from __future__ import annotations

import numpy as np

from edgegen.envs.core.compiled import compiled, inlined
from edgegen.envs.fleet.books import Fixed
from edgegen.envs.fleet.scenario import Floats

GRADES = 9
"""Qualities that stand for a curve in what policies see: with the fewest steps, then evenly on to all."""


@compiled
def curved(fixed: Fixed, model: int, share: float) -> float:
    """Quality at a share of the asked steps, on a curve that is not linear."""
    best, rate, points = fixed.full_quality[model], fixed.curve[model, 0], fixed.curve.shape[1] // 2
    if rate > 0.0:
        risen: float = best * (np.expm1(-rate * share) / np.expm1(-rate))
        return risen
    before_x, before = 0.0, 0.0
    for point in range(points):
        x, value = fixed.curve[model, 1 + point], fixed.curve[model, 1 + points + point]
        if share <= x:
            between: float = best * (before + (value - before) * (share - before_x) / (x - before_x))
            return between
        before_x, before = x, value
    whole: float = best
    return whole


@inlined
def quality_of(fixed: Fixed, model: int, steps: float, least: float, full: float) -> float:
    """Quality of a request with some of its steps, of which the fewest and all are given."""
    if fixed.curve[model, 0] != 0.0:
        return curved(fixed, model, steps / full)
    rise = 1.0 if full == least else (steps - least) / (full - least)
    linear: float = fixed.least_quality[model] + rise * (fixed.full_quality[model] - fixed.least_quality[model])
    return linear


@compiled
def grades_of(fixed: Fixed, model: int, least: float, full: float, grades: Floats) -> None:
    """Write the quality at :data:`GRADES` steps from the fewest to all, evenly spaced and not rounded."""
    last = len(grades) - 1
    for i in range(len(grades)):
        grades[i] = quality_of(fixed, model, least + i / last * (full - least), least, full)
