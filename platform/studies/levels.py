# SPDX-License-Identifier: Apache-2.0
"""Levels of methods and their ratios to the reference, with intervals: what figures, tables and claims show."""

from __future__ import annotations

import numpy as np

from edgegen.envs.core.kinds import Array
from edgegen.platform.runs.statistics import Interval, iqm_interval, mean_interval, mean_ratio
from edgegen.platform.studies.data import ExperimentData, Place

BLOCKS = 30
"""Most points of a curve."""


def blocks(curves: Array, most: int = BLOCKS) -> tuple[Array, Array]:
    """Average curves ``[R, E]`` over blocks of whole episodes, at most so many.

    Returns:
        Last episode of each block ``[P]``, and means ``[R, P]``.
    """
    episodes = curves.shape[1]
    width = block_width(episodes, most)
    whole = episodes // width
    means: Array = curves[:, : whole * width].reshape(len(curves), whole, width).mean(axis=2)
    return np.arange(1, whole + 1, dtype=np.float64) * width, means


def block_width(episodes: int, most: int = BLOCKS) -> int:
    """Episodes in a block: 1, 2, 5, 10, 20, 50 … so that there are at most so many."""
    width, factors = 1, (2, 2.5, 2)
    number = 0
    while episodes / width > most:
        width = int(width * factors[number % 3])
        number += 1
    return width


def ratio_blocks(data: ExperimentData, label: str, most: int = BLOCKS) -> tuple[Array, list[Array]]:
    """Training values of a method over the reference's on the same episodes, by blocks.

    Returns:
        Last episode of each block ``[P]``, and per world the ratios ``[R, P]``.
    """
    strata = []
    x = np.array([])
    for place in data.places:
        found, base = data.found(place, label), data.found(place, data.reference)
        x, means = blocks(found.curves, most)
        _, level = blocks(base.curves[:, : found.curves.shape[1]], most)
        strata.append(means / level)
    return x, strata


def level_interval(data: ExperimentData, place: Place, label: str, metric: str | None = None) -> Interval:
    """Level of what has training seeds, IQM over its runs, or of a rule, mean over episodes."""
    found = data.found(place, label)
    if found.seeded:
        return iqm_interval([data.means(place, label, metric)])
    values = found.values(metric or data.kind.metric)[0]
    return mean_interval(values[np.isfinite(values)])


def ratio_interval(data: ExperimentData, label: str) -> Interval:
    """Level over the reference's: IQM over runs and worlds, or of a rule in one world paired over its episodes."""
    if len(data.places) == 1:
        return place_ratio(data, data.places[0], label)
    strata = [data.ratios(place, label) for place in data.places]
    if data.found(data.places[0], label).seeded:
        return iqm_interval(strata)
    mean = float(np.mean(strata))
    return Interval(mean, float("nan"), float("nan"), "mean over scenarios")


def place_ratio(data: ExperimentData, place: Place, label: str) -> Interval:
    """Level over the reference's in one world."""
    if data.found(place, label).seeded:
        return iqm_interval([data.ratios(place, label)])
    return mean_ratio(data.found(place, label).values(data.kind.metric)[0], data.base(place))
