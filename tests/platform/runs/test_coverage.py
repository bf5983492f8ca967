# SPDX-License-Identifier: Apache-2.0
"""How often intervals hold the truth, counted over simulated studies with as few seeds as people can pay for."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from edgegen.platform.runs.statistics import (
    Interval,
    crossed_difference,
    improvement_interval,
    iqm_interval,
    mean_interval,
    mean_ratio,
    profile_band,
)

TRIES = 1000


def coverage(make: Callable[[np.random.Generator], Interval], truth: float) -> float:
    rng = np.random.default_rng(12)
    found = (make(rng) for _ in range(TRIES))
    return sum(interval.low <= truth <= interval.high for interval in found) / TRIES


def paired_ratio(rng: np.random.Generator, count: int) -> Interval:
    base = rng.normal(10, 1, count)
    return mean_ratio(0.9 * base + rng.normal(0, 0.5, count), base)


def crossed(rng: np.random.Generator, of_runs: float, of_episodes: float) -> Interval:
    rows, columns = rng.normal(0, of_runs, (5, 1)), rng.normal(0, of_episodes, (1, 30))
    return crossed_difference(rows + columns + rng.normal(size=(5, 30)), np.zeros(30))


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        pytest.param(lambda rng: mean_interval(rng.normal(3, 2, 5)), 3.0, id="mean of five"),
        pytest.param(lambda rng: paired_ratio(rng, 5), 0.9, id="ratio of five pairs"),
        pytest.param(lambda rng: iqm_interval([rng.normal(size=5)]), 0.0, id="IQM of five runs"),
        pytest.param(lambda rng: iqm_interval([rng.normal(size=10)]), 0.0, id="IQM of ten runs"),
        pytest.param(lambda rng: iqm_interval([rng.normal(n / 3, 1, 5) for n in range(4)]), 0.5, id="IQM, 4 tasks"),
        pytest.param(lambda rng: crossed(rng, 1, 0), 0.0, id="seeds differ"),
        pytest.param(lambda rng: crossed(rng, 0, 1), 0.0, id="episodes differ"),
        pytest.param(lambda rng: crossed(rng, 1, 1), 0.0, id="seeds and episodes differ"),
        pytest.param(
            lambda rng: profile_band([rng.normal(0, 1, (8, 1)) + rng.normal(0, 1, (8, 20))], [0.0]).at(0, ""),
            0.5,
            id="profile of eight runs",
        ),
    ],
)
def test_covers_what_it_says(make: Callable[[np.random.Generator], Interval], truth: float) -> None:
    assert 0.925 <= coverage(make, truth) <= 0.975


@pytest.mark.parametrize(("distance", "truth"), [(0.0, 0.5), (1.0, float(stats.norm.cdf(1 / np.sqrt(2))))])
def test_an_improvement_is_not_promised_too_often(distance: float, truth: float) -> None:
    """Its values are steps of 1/25, so that no interval covers exactly."""
    assert coverage(lambda rng: improvement_interval([rng.normal(size=5)], [rng.normal(distance, 1, 5)]), truth) >= 0.94


def test_the_percentile_bootstrap_of_five_does_not() -> None:
    """Why this package has another one."""

    def bootstrapped(rng: np.random.Generator) -> Interval:
        values = rng.normal(size=5)
        ends = stats.bootstrap((values,), np.mean, n_resamples=499, method="percentile", rng=rng).confidence_interval
        return Interval(float(values.mean()), float(ends.low), float(ends.high), "percentile")

    assert coverage(bootstrapped, 0.0) < 0.9
