# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from edgegen.platform.runs.statistics import (
    Interval,
    crossed_difference,
    crossed_ratio,
    improvement_probability,
    mean_interval,
    mean_ratio,
    paired_difference,
)


def test_t_interval_of_a_textbook_sample():
    # Mean 5, standard deviation sqrt(10 / 4), t(0.975, 4) = 2.776445.
    interval = mean_interval([3, 4, 5, 6, 7])
    half = 2.7764451052 * np.sqrt(2.5 / 5)
    assert interval.estimate == 5
    assert interval.low == pytest.approx(5 - half, rel=1e-9)
    assert interval.high == pytest.approx(5 + half, rel=1e-9)
    assert interval.confidence == 0.95
    assert interval.method == "Student t"


def test_narrower_confidence_is_narrower():
    wide, narrow = mean_interval([1, 2, 4, 8]), mean_interval([1, 2, 4, 8], confidence=0.5)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_one_value_has_no_interval():
    interval = mean_interval([2.5])
    assert interval.estimate == 2.5
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)
    assert interval.text(2) == "2.50"


def test_equal_values_have_an_interval_of_no_width():
    interval = mean_interval([0.1, 0.1, 0.1])
    assert (interval.low, interval.high) == (interval.estimate, interval.estimate)


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    luck = rng.normal(10, 3, 20)
    better, base = luck - 0.5 + rng.normal(0, 0.01, 20), luck
    paired = paired_difference(better, base)
    assert paired.low > -0.52
    assert paired.high < -0.48
    # The same values without pairing can not tell the two apart.
    assert mean_interval(better).high > mean_interval(base).low


def test_paired_difference_agrees_with_scipy():
    a, b = [1.0, 2.5, 2.0, 4.0], [0.5, 2.0, 2.5, 3.0]
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    interval = paired_difference(a, b)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(0.375)


def test_difference_to_itself_is_exactly_zero():
    values = np.random.default_rng(0).exponential(size=30)
    interval = paired_difference(values, values)
    assert (interval.estimate, interval.low, interval.high) == (0.0, 0.0, 0.0)
    ratio = mean_ratio(values, values)
    assert (ratio.estimate, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_ratio_of_means_is_paired():
    rng = np.random.default_rng(0)
    base = rng.gamma(4, 2, 40)
    values = 0.8 * base + rng.normal(0, 0.1, 40)
    interval = mean_ratio(values, base)
    assert interval.estimate == pytest.approx(values.mean() / base.mean())
    assert interval.low < 0.8 < interval.high
    assert interval.high - interval.low < 0.02  # resampling each side alone would give about 0.3


def test_ratio_interval_inverts_the_paired_t_test():
    rng = np.random.default_rng(3)
    base = rng.gamma(4, 2, 6)
    values = 0.8 * base + rng.normal(0, 1, 6)
    interval = mean_ratio(values, base)
    for end in (interval.low, interval.high):
        assert stats.ttest_1samp(values - end * base, 0).pvalue == pytest.approx(0.05)


def test_ratio_to_what_may_be_zero_has_no_ends():
    interval = mean_ratio([1.0, 2.0, 3.0], [-1.0, 1.0, 0.5])
    assert interval.estimate == pytest.approx(12)
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_ratio_of_single_values_has_no_interval():
    interval = mean_ratio([3.0], [2.0])
    assert interval.estimate == 1.5
    assert np.isnan(interval.low)


def test_probability_of_improvement_counts_lower_pairs_and_halves_ties():
    assert improvement_probability([1, 2, 3, 4], [2, 2, 2, 5]) == (2 + 0.5) / 4


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0], [2.0]]])
def test_unusable_values_are_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        mean_interval(values)


def test_unequal_lengths_are_no_pairs():
    with pytest.raises(ValueError, match="equally many"):
        paired_difference([1.0, 2.0], [1.0])


def test_text_shows_half_widths_ends_or_neither():
    assert mean_interval([1.0, 2.0, 3.0]).text(1, sign=True) == "+2.0 ± 2.5"
    assert Interval(1.0, 0.5, 2.0, "some").text(1) == "1.0 [0.5, 2.0]"
    assert mean_interval([1.0]).text(1) == "1.0"


def test_a_crossed_ratio_to_a_constant_is_the_crossed_mean_over_it() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=(4, 9))
    found = crossed_ratio(values, np.full(9, 2.5))
    mean = crossed_difference(values, np.zeros(9))
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (mean.estimate / 2.5, mean.low / 2.5, mean.high / 2.5)
    )
    assert found.method == "t over runs and episodes"
