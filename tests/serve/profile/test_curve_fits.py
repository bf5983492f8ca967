# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.serve.profile.curve_fits import QualityFit, fit_quality, fit_time, largest_rise

STEPS = np.arange(1, 31)
SELECTED = [1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 17, 21, 26, 32, 40, 50]


def curve(a1, a2, a3, a4, steps=STEPS):
    return QualityFit(a1, a2, a3, a4, 0, 1).at(steps)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    a1=st.floats(2, 15), width=st.floats(4, 13), a4=st.floats(0, 50), fall=st.floats(5, 100), scale=st.floats(0.01, 100)
)
def test_a_known_curve_is_found(a1, width, a4, fall, scale):
    values = curve(a1, scale * (a4 + fall), a1 + width, scale * a4)
    fit = fit_quality(STEPS, values)
    assert (fit.a1_steps, fit.a3_steps) == pytest.approx((a1, a1 + width), abs=1e-3)
    assert (fit.a2, fit.a4) == pytest.approx((scale * (a4 + fall), scale * a4), abs=1e-4 * scale * (a4 + fall))
    assert fit.rms <= 1e-5 * scale * fall
    assert fit.r_squared == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_a_curve_little(seed):
    noise = np.random.default_rng(seed).normal(0, 2, len(STEPS))
    fit = fit_quality(STEPS, curve(6, 90, 20, 20) + noise)
    assert (fit.a1_steps, fit.a3_steps) == pytest.approx((6, 20), abs=1.5)
    assert (fit.a2, fit.a4) == pytest.approx((90, 20), abs=3)
    # No worse than the truth, which is one of the curves to choose from.
    assert fit.rms <= np.sqrt((noise**2).mean()) + 1e-9
    assert fit.r_squared > 0.98


def test_the_order_of_measurements_does_not_matter():
    values = curve(6, 90, 20, 20)
    assert fit_quality(STEPS[::-1], values[::-1]) == fit_quality(STEPS, values)


def test_a_jump_keeps_the_measured_counts():
    fit = fit_quality([1, 2, 4, 8], [100, 100, 5, 5])
    assert (fit.a1_steps, fit.a2, fit.a3_steps, fit.a4) == pytest.approx((2, 100, 4, 5))
    assert fit.rms == pytest.approx(0, abs=1e-9)


def test_nothing_is_made_up_beyond_the_measurements():
    fit = fit_quality(STEPS, 100.0 - STEPS)  # a line all the way
    assert (fit.a1_steps, fit.a2, fit.a3_steps, fit.a4) == pytest.approx((1, 99, 30, 70))


@pytest.mark.parametrize(
    ("values", "level"),
    [([3.0] * 30, 3.0), ([0.0] * 30, 0.0), (np.linspace(1, 2, 30), 1.5), (5 + 1e-13 * np.sin(STEPS), 5.0)],
)
def test_data_without_a_fall_are_flat_and_saturate_at_once(values, level):
    fit = fit_quality(STEPS, values)
    assert fit.a2 == fit.a4 == pytest.approx(level)
    assert (fit.a1_steps, fit.a3_steps) == (0, 1)


def test_goodness_is_honest():
    assert fit_quality(STEPS, [3.0] * 30).r_squared == 1
    assert fit_quality(STEPS, np.linspace(1, 2, 30)).r_squared == pytest.approx(0, abs=1e-9)
    bump = fit_quality(SELECTED, [2.9, 7.2, 5.5, 5.4, 5.3, *[5.2] * 11])
    assert bump.r_squared < 0.1
    assert bump.rms == pytest.approx(np.std([2.9, 7.2, 5.5, 5.4, 5.3, *[5.2] * 11]), rel=0.05)


def test_many_counts_are_no_trouble():
    steps = np.arange(1, 401)
    fit = fit_quality(steps, curve(60, 110, 170, 28, steps))
    assert (fit.a1_steps, fit.a2, fit.a3_steps, fit.a4) == pytest.approx((60, 110, 170, 28), abs=0.01)


def test_the_largest_rise_is_found():
    assert largest_rise([1, 2, 3], [5, 4, 4]) == (0, 1, 1)
    assert largest_rise([1, 2, 3, 5, 8], [9, 4, 6, 3, 4.5]) == (2, 2, 3)
    assert largest_rise([1, 2, 3, 5, 8], [9, 4, 6, 3, 5.5]) == (2.5, 5, 8)


def test_a_known_line_is_found():
    fit = fit_time(SELECTED, [0.018 * steps + 0.03 for steps in SELECTED])
    assert (fit.b1_s_per_step, fit.b2_s) == pytest.approx((0.018, 0.03))
    assert fit.rms_s == pytest.approx(0, abs=1e-12)
    assert fit.r_squared == pytest.approx(1)
    assert fit.at([0, 10]) == pytest.approx([0.03, 0.21])


def test_the_line_is_least_squares():
    noise = np.random.default_rng(0).normal(0, 0.01, len(SELECTED))
    times = 0.018 * np.array(SELECTED) + 0.3 + noise
    slope, intercept = np.polyfit(SELECTED, times, 1)
    fit = fit_time(SELECTED, times)
    assert (fit.b1_s_per_step, fit.b2_s) == pytest.approx((slope, intercept))
    assert fit.r_squared == pytest.approx(np.corrcoef(SELECTED, times)[0, 1] ** 2)


def test_no_time_is_negative():
    assert fit_time([1, 2, 3], [0.0, 1.0, 2.0]).b2_s == 0
    assert fit_time([1, 2, 3], [3.0, 2.0, 1.0]).b1_s_per_step == 0
    assert fit_time([1, 2, 3], [2.0, 2.0, 2.0]).r_squared == 1


def test_fits_refuse_what_has_no_curve():
    for steps, values in (([1], [1.0]), ([1, 1], [1.0, 2.0]), ([1, 2], [1.0]), ([1, 2], [1.0, float("nan")])):
        with pytest.raises(ValueError, match="two or more step counts"):
            fit_quality(steps, values)
        with pytest.raises(ValueError, match="two or more step counts"):
            fit_time(steps, values)
    with pytest.raises(ValueError, match="negative"):
        fit_quality([1, 2], [-1.0, 0.0])
