# SPDX-License-Identifier: Apache-2.0
"""Intervals over training runs: known values, and what intervals within tasks have to respect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.platform.runs.statistics import (
    crossed_difference,
    improvement_interval,
    iqm_band,
    iqm_interval,
    paired_difference,
    profile_band,
)

VALUES = st.floats(-1e3, 1e3)


def test_interquartile_mean_by_hand():
    found = iqm_interval([[1.0, 2.0, 3.0, 4.0, 100.0]])
    assert found.estimate == pytest.approx(3.0)  # without the lowest and the highest of five
    assert found.low <= 3.0 <= found.high
    # By hand: winsorised to 2, 2, 3, 4, 4 with variance 1, three kept: 1·5/3² and t(0.975, 2) = 4.302653.
    assert found.high - 3 == pytest.approx(4.302653 * np.sqrt(5) / 3, rel=1e-6)
    assert found.high < 100  # a failed run alone is not the upper end
    together = iqm_interval([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    assert together.estimate == pytest.approx(np.mean([2, 3, 4, 5]))
    assert iqm_interval([[1.0, 5.0]]).estimate == 3.0


def test_one_run_has_no_interval_and_equal_runs_one_of_no_width():
    assert np.isnan(iqm_interval([[2.0]]).low)
    assert np.isnan(improvement_interval([[2.0]], [[3.0]]).high)
    assert improvement_interval([[2.0]], [[3.0]]).estimate == 1
    found = iqm_interval([[2.0, 2.0, 2.0]])
    assert (found.low, found.estimate, found.high) == (2, 2, 2)


def test_runs_vary_within_their_task():
    # Tasks differ by far more than runs do; only what differs within them counts.
    found = iqm_interval([[0.0, 0.1, 0.2], [10.0, 10.1, 10.2], [20.0, 20.1, 20.2], [30.0, 30.1, 30.2]])
    assert found.high - found.low < 0.4
    shuffled = iqm_interval([[0.0, 10.0, 20.0, 30.0], [0.1, 10.1, 20.1, 30.1], [0.2, 10.2, 20.2, 30.2]])
    assert shuffled.high - shuffled.low > 5
    assert shuffled.estimate == pytest.approx(found.estimate)


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, min_size=3, max_size=7), st.floats(-10, 10))
def test_intervals_hold_their_estimate_move_with_the_values_and_repeat(values, shift):
    found = iqm_interval([values])
    assert found.low <= found.estimate <= found.high
    assert min(values) <= found.estimate + 1e-9
    assert max(values) >= found.estimate - 1e-9
    assert found == iqm_interval([values])
    moved = iqm_interval([[value + shift for value in values]])
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-6)


def test_a_shift_of_whole_curves_moves_their_band():
    rng = np.random.default_rng(0)
    level = rng.normal(size=(6, 1))
    band = iqm_band([level + np.arange(4.0)])
    assert band.estimate == pytest.approx(band.estimate[0] + np.arange(4.0))
    assert band.low == pytest.approx(band.low[0] + np.arange(4.0))  # the same runs at every point
    assert band.high == pytest.approx(band.high[0] + np.arange(4.0))


def test_probability_of_improvement_by_hand():
    found = improvement_interval([[1.0, 2.0]], [[2.0, 3.0]])
    assert found.estimate == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert improvement_interval([[1.0, 2.0], [9.0, 9.0]], [[3.0, 4.0], [5.0, 5.0]]).estimate == 0.5  # tasks count alike
    sure = improvement_interval([[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]])
    assert (sure.estimate, sure.high) == (1, 1)
    assert sure.low == pytest.approx(0.025 ** (1 / 3))  # three wins in three tries
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_performance_profile_by_hand():
    band = profile_band([[[1.0, 2.0], [3.0, 4.0]]], [0.5, 1.0, 2.5, 4.0])
    assert band.estimate.tolist() == [0, 0.25, 0.5, 1]
    assert band.low[2] == 0  # one run of two never reaches it
    assert band.high[2] == 1


def test_difference_over_runs_and_episodes_covers_both():
    rng = np.random.default_rng(1)
    base = rng.normal(10, 3, 30)
    runs = base + np.array([[0.0], [1.0], [2.0]]) + rng.normal(0, 0.1, (3, 30))
    found = crossed_difference(runs, base)
    assert found.estimate == pytest.approx((runs - base).mean())
    assert found.low < 0.5  # other seeds could be like the first one
    assert found.high > 1.5
    narrow = paired_difference(runs.mean(axis=0), base)
    assert narrow.high - narrow.low < 0.2 * (found.high - found.low)  # what episodes alone would tell
    one = crossed_difference(runs[:1], base)
    assert one.low == pytest.approx(paired_difference(runs[0], base).low)


def test_two_rows_of_runs_are_paired_by_seed():
    rng = np.random.default_rng(2)
    first = rng.normal(0, 5, (5, 1)) + rng.normal(0, 0.1, (5, 20))
    found = crossed_difference(first + 1, first)
    assert (found.low, found.high) == pytest.approx((1, 1))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least one run"):
        iqm_band([np.empty((0, 3))])
