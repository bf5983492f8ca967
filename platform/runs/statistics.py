# SPDX-License-Identifier: Apache-2.0
"""Intervals over episodes and training runs that keep what "95 %" promises with five values as with fifty.

Means and paired differences use Student's t: episodes are independent, their means average thousands of tasks and are
close to normal. The ratio of two paired means inverts that very test (Fieller, 1954).

Over training runs, few and now and then one that failed, the interquartile mean (IQM) follows Agarwal et al., "Deep RL
at the Edge of the Statistical Precipice" (2021), but not with their percentile bootstrap: of five runs it covers 84 %
for a mean and 90 % for an IQM instead of 95. Here too the interval is a t interval, with the standard error of trimmed
means (Tukey and McLaughlin, 1963) and runs that vary within their task. tests/platform/runs/test_coverage.py counts how
often each interval holds what it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would take longer to import than most comparisons take to play

CONFIDENCE = 0.95
_TRIMMED = 0.25
"""Share of the runs that the interquartile mean leaves out at either end."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; the ends are not-a-number where there is none (one episode).

    Attributes:
        estimate: The estimate.
        low: Lower end.
        high: Upper end.
        method: How the interval was made.
        confidence: Its coverage, for example 0.95.
    """

    estimate: float
    low: float
    high: float
    method: str
    confidence: float = CONFIDENCE

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def text(self, decimals: int = 3, sign: bool = False) -> str:
        """Return ``estimate ± half width``, the ends where they are not symmetric, the estimate alone without any."""
        form = f"{'+' if sign else ''}.{decimals}f"
        if not np.isfinite(self.low):
            return f"{self.estimate:{form}}"
        half = (self.high - self.low) / 2
        if np.isclose(self.estimate, (self.high + self.low) / 2, rtol=0, atol=1e-6 + 1e-6 * half):
            return f"{self.estimate:{form}} ± {half:.{decimals}f}"
        return f"{self.estimate:{form}} [{self.low:{form}}, {self.high:{form}}]"


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE, method: str = "Student t") -> Interval:
    """Mean of independent values with its t interval."""
    data = _checked(values)
    mean = float(data.mean())
    if np.ptp(data) == 0:  # the same value every time: an interval of no width, or none for a single value
        end = mean if data.size > 1 else float("nan")
        return Interval(mean, end, end, method, confidence)
    half = float(_student((1 + confidence) / 2, data.size - 1) * np.sqrt(data.var(ddof=1) / data.size))
    return Interval(mean, mean - half, mean + half, method, confidence)


def paired_difference(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean difference ``values − reference`` of paired values with its t interval.

    Pairing removes what both share, here the luck of the arrivals, which is larger than most differences.
    """
    data, base = _pair(values, reference)
    return mean_interval(data - base, confidence, "paired Student t")


def mean_ratio(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Ratio of means ``mean(values) / mean(reference)`` of paired values with its Fieller interval.

    These are the ratios ρ for which the mean of ``values − ρ·reference`` is not distinguishable from 0 by a t test. The
    ends are not-a-number where the reference itself is not distinguishable from 0.
    """
    data, base = _pair(values, reference)
    method = "paired Fieller"
    n = data.size
    ratio = float(data.mean() / base.mean())
    if n == 1:
        return Interval(ratio, float("nan"), float("nan"), method, confidence)
    if np.ptp(data - ratio * base) == 0:
        return Interval(ratio, ratio, ratio, method, confidence)
    covariance = np.cov(data, base) * _student((1 + confidence) / 2, n - 1) ** 2 / n
    # (x̄ − ρ ȳ)² = t²/n · (s_xx − 2 ρ s_xy + ρ² s_yy), a quadratic in ρ
    square = base.mean() ** 2 - covariance[1, 1]
    linear = data.mean() * base.mean() - covariance[0, 1]
    constant = data.mean() ** 2 - covariance[0, 0]
    root = linear**2 - square * constant
    if square <= 0 or root < 0:
        return Interval(ratio, float("nan"), float("nan"), method, confidence)
    low, high = (linear + sign * np.sqrt(root) for sign in (-1, 1))
    return Interval(ratio, float(low / square), float(high / square), method, confidence)


def improvement_probability(values: ArrayLike, reference: ArrayLike) -> float:
    """Probability that ``values`` is below ``reference`` in a pair, ties counted half: lower delays are better."""
    data, base = _pair(values, reference)
    return float(((data < base) + 0.5 * (data == base)).mean())


@dataclass(frozen=True)
class Band:
    """Estimates at several points with pointwise intervals, each ``[P]``; the ends are not-a-number without any."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def at(self, index: int, method: str) -> Interval:
        """Return one point as an interval."""
        return Interval(float(self.estimate[index]), float(self.low[index]), float(self.high[index]), method)


def iqm_interval(strata: Sequence[ArrayLike], confidence: float = CONFIDENCE) -> Interval:
    """Interquartile mean of runs with its t interval.

    Args:
        strata: Per task, one value for each run ``[R]``. Runs vary within their task.
        confidence: Coverage.
    """
    columns = [np.asarray(values, dtype=np.float64)[:, None] for values in strata]
    return iqm_band(columns, confidence).at(0, "IQM, t of trimmed means")


def iqm_band(strata: Sequence[ArrayLike], confidence: float = CONFIDENCE) -> Band:
    """Interquartile mean of curves with its pointwise t band.

    Args:
        strata: Per task, the curves of its runs ``[R, P]``; runs vary within their task.
        confidence: Coverage.
    """
    return _trimmed_band(strata, _TRIMMED, confidence)


def profile_band(strata: Sequence[ArrayLike], thresholds: ArrayLike, confidence: float = CONFIDENCE) -> Band:
    """Performance profile: share of episodes with a value of at most each threshold, with its pointwise t band.

    Args:
        strata: Per task, one row for each run, one column for each episode ``[R, K]``; lower is better. Runs vary
            within their task.
        thresholds: Thresholds ``[P]``.
        confidence: Coverage.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    shares = [(np.asarray(values, dtype=np.float64)[..., None] <= levels).mean(axis=1) for values in strata]
    band = _trimmed_band(shares, 0.0, confidence)
    return Band(band.estimate, band.low.clip(0, 1), band.high.clip(0, 1))


def improvement_interval(
    strata: Sequence[ArrayLike], references: Sequence[ArrayLike], confidence: float = CONFIDENCE
) -> Interval:
    """Probability that a run is below a run of the reference, ties counted half, with its t interval.

    Runs are not paired: every run meets every run of the reference on the same task, and tasks count alike. The
    standard error is that of Brunner and Munzel (2000), from how many of the others each run is below. Where all runs
    of one are below all of the other it is 0; the interval is then that of as many wins in as many tries as there are
    runs (Clopper and Pearson).

    Args:
        strata: Per task, one value for each run ``[R]``; lower is better.
        references: Per task, likewise ``[S]``.
        confidence: Coverage.
    """
    method = "t of Brunner and Munzel"
    shares, variances, freedoms, fewest = [], [], [], []
    for values, others in zip(strata, references, strict=True):
        own, other = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
        first, second = own[:, None], other[None, :]
        wins = (first < second) + 0.5 * (first == second)
        shares.append(wins.mean())
        fewest.append(min(wins.shape))
        for placements in (wins.mean(axis=1), wins.mean(axis=0)):
            if placements.size > 1:
                variances.append(placements.var(ddof=1) / placements.size / len(strata) ** 2)
                freedoms.append(placements.size - 1.0)
    estimate = float(np.mean(shares))
    if min(fewest) < 2:
        return Interval(estimate, float("nan"), float("nan"), method, confidence)
    variance, freedom = _pooled(np.array(variances)[:, None], np.array(freedoms)[:, None])
    if variance[0] == 0 and estimate in (0.0, 1.0):
        tries = sum(fewest)
        from scipy.stats import binomtest

        exact = binomtest(round(estimate * tries), tries).proportion_ci(confidence, "exact")
        return Interval(estimate, float(exact.low), float(exact.high), "Clopper and Pearson", confidence)
    # On the scale of log odds, on which the ends stay within 0 and 1 and are not symmetric near either.
    scale = estimate * (1 - estimate)
    half = _half_width(variance / scale**2, freedom, confidence)[0] if scale else 0.0
    low, high = (float(special.expit(special.logit(estimate) + sign * half)) for sign in (-1, 1))
    return Interval(estimate, low, high, method, confidence)


def crossed_difference(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of ``values − reference`` over training runs and episodes, with a t interval that covers both.

    Both are drawn: other runs, on other episodes. The variance of the mean is that of a two-way layout with random
    rows and columns, (MS_runs + MS_episodes − MS_rest)/(R·K), with Satterthwaite's degrees of freedom.

    Args:
        values: One row for each run, one column for each episode ``[R, K]``.
        reference: Of a rule, which has no runs ``[K]``, or of runs of the same seeds ``[R, K]``.
        confidence: Coverage.
    """
    data = np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    runs, episodes = data.shape
    if runs == 1 or episodes == 1:
        return mean_interval(data.mean(axis=0 if runs == 1 else 1), confidence)
    mean, of_run, of_episode = data.mean(), data.mean(axis=1), data.mean(axis=0)
    rest = data - of_run[:, None] - of_episode + mean
    freedom = np.array([runs - 1, episodes - 1, (runs - 1) * (episodes - 1)], dtype=np.float64)
    squares = np.array([episodes * of_run.var(ddof=1), runs * of_episode.var(ddof=1), (rest**2).sum() / freedom[2]])
    # Chance can make the sum less than either part; the larger part alone then has the say.
    larger = int(squares[1] > squares[0])
    terms = squares * [1, 1, -1]
    if terms.sum() <= squares[larger]:
        terms = np.where(np.arange(3) == larger, squares, 0.0)
    variance, freedoms = _pooled((terms / data.size)[:, None], freedom[:, None])
    half = float(_half_width(variance, freedoms, confidence)[0])
    return Interval(float(mean), float(mean) - half, float(mean) + half, "t over runs and episodes", confidence)


def crossed_ratio(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Ratio of the mean over training runs and episodes to that of a rule, with an interval that covers both.

    The interval is that of the mean of ``values − ρ·reference`` at the estimate ρ, over the reference's mean: to first
    order, since a reference has no runs that could vary.

    Args:
        values: One row for each run, one column for each episode ``[R, K]``.
        reference: Of a rule ``[K]``.
        confidence: Coverage.
    """
    data, base = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    ratio = float(data.mean() / base.mean())
    rest = crossed_difference(data, ratio * base, confidence)
    half = (rest.high - rest.low) / 2 / abs(float(base.mean()))
    return Interval(ratio, ratio - half, ratio + half, rest.method, confidence)


def _trimmed_band(strata: Sequence[ArrayLike], trimmed: float, confidence: float) -> Band:
    """Trimmed mean of the runs ``[R, P]`` of all strata together, for every point, with its t band.

    Trimmed means vary like means of the winsorised values, in which what is cut off is drawn to the cuts. Each stratum
    adds the variance of its own; degrees of freedom are those of the values that are kept.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in strata]
    if not samples or any(sample.ndim != 2 or sample.size == 0 for sample in samples):
        raise ValueError("expected at least one stratum with at least one run")
    pooled = np.concatenate(samples, axis=0)
    count = len(pooled)
    cut = int(trimmed * count)
    kept = count - 2 * cut
    ordered = np.sort(pooled, axis=0)
    estimate = ordered[cut : count - cut].mean(axis=0)
    if any(len(sample) < 2 for sample in samples):
        nothing = np.full_like(estimate, np.nan)
        return Band(estimate, nothing, nothing)
    lowest, highest = ordered[cut], ordered[count - 1 - cut]
    variances = [len(sample) * sample.clip(lowest, highest).var(axis=0, ddof=1) / kept**2 for sample in samples]
    freedoms = [np.full(estimate.shape, max(len(sample) * kept / count - 1, 1.0)) for sample in samples]
    half = _half_width(*_pooled(np.stack(variances), np.stack(freedoms)), confidence)
    return Band(estimate, estimate - half, estimate + half)


def _pooled(
    variances: NDArray[np.float64], freedoms: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of variances ``[S, P]`` and its degrees of freedom after Satterthwaite, ``[P]`` each."""
    variance = variances.sum(axis=0)
    spread = (variances**2 / freedoms).sum(axis=0)
    return variance, np.divide(variance**2, spread, out=np.ones_like(variance), where=spread > 0)


def _half_width(variance: NDArray[np.float64], freedom: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    half: NDArray[np.float64] = _student((1 + confidence) / 2, freedom) * np.sqrt(variance)
    return half


def _student(probability: float, freedom: Any) -> Any:
    """Quantile of Student's t, for each of some degrees of freedom."""
    return special.stdtrit(freedom, probability)


def _checked(values: ArrayLike | Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0 or not np.isfinite(data).all():
        raise ValueError(f"expected a non-empty list of finite numbers, got an array of shape {data.shape}")
    return data


def _pair(values: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    data, base = _checked(values), _checked(reference)
    if data.shape != base.shape:
        raise ValueError(f"pairs need equally many values, got {data.size} and {base.size}")
    return data, base
