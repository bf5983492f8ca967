"""Intervals over episodes. Every method is a library's; this module chooses them and says why.

Means and paired differences use Student's t: episodes are independent, their means average thousands of tasks and are
close to normal, and t keeps its coverage with a handful of episodes, where a bootstrap is too narrow. The ratio of two
means has no such closed form and uses the bias-corrected and accelerated (BCa) bootstrap, resampling episodes in pairs.

Over training runs, few and now and then one that failed, the interquartile mean (IQM) with a stratified bootstrap
follows Agarwal et al., "Deep RL at the Edge of the Statistical Precipice" (2021): runs are resampled within each task.
scipy resamples several samples independently, which is just that. Their own package, rliable, resamples from a global
generator that no seed of its caller reaches, and needs a version of arch that does not work with pandas 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 9999
_STRATIFIED_RESAMPLES = 5000


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
    low, high = stats.ttest_1samp(data, 0.0).confidence_interval(confidence)
    return Interval(mean, float(low), float(high), method, confidence)


def paired_difference(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean difference ``values − reference`` of paired values with its t interval.

    Pairing removes what both share, here the luck of the arrivals, which is larger than most differences.
    """
    data, base = _pair(values, reference)
    return mean_interval(data - base, confidence, "paired Student t")


def mean_ratio(
    values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE, resamples: int = _RESAMPLES
) -> Interval:
    """Ratio of means ``mean(values) / mean(reference)`` of paired values with its BCa bootstrap interval.

    The bootstrap has a fixed seed: the same values give the same interval.
    """
    data, base = _pair(values, reference)
    method = "paired BCa bootstrap"
    ratio = float(data.mean() / base.mean())
    if data.size == 1:
        return Interval(ratio, float("nan"), float("nan"), method, confidence)
    if np.ptp(data / base) == 0:  # every resample has the same ratio, which BCa can not handle
        return Interval(ratio, ratio, ratio, method, confidence)

    def statistic(sample: NDArray[np.float64], sample_base: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        result: NDArray[np.float64] = sample.mean(axis=axis) / sample_base.mean(axis=axis)
        return result

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # reported as not-a-number ends
        interval = _bootstrap(
            (data, base), statistic, confidence, paired=True, method="BCa", n_resamples=resamples, axis=0
        )
    return Interval(ratio, float(interval.low), float(interval.high), method, confidence)


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
    """Interquartile mean of runs with its stratified bootstrap interval.

    Args:
        strata: Per task, one value for each run ``[R]``. Runs are resampled within their task.
        confidence: Coverage.
    """
    columns = [np.asarray(values, dtype=np.float64)[:, None] for values in strata]
    return iqm_band(columns, confidence).at(0, "IQM, stratified bootstrap")


def iqm_band(strata: Sequence[ArrayLike], confidence: float = CONFIDENCE) -> Band:
    """Interquartile mean of curves with its stratified bootstrap band.

    Args:
        strata: Per task, the curves of its runs ``[R, P]``. Whole runs are resampled, within their task.
        confidence: Coverage.
    """
    return _stratified(strata, _trimmed_mean, confidence)


def profile_band(strata: Sequence[ArrayLike], thresholds: ArrayLike, confidence: float = CONFIDENCE) -> Band:
    """Performance profile: share of episodes with a value of at most each threshold, with its bootstrap band.

    Args:
        strata: Per task, one row for each run, one column for each episode ``[R, K]``; lower is better. Whole runs are
            resampled, within their task.
        thresholds: Thresholds ``[P]``.
        confidence: Coverage.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    shares = [(np.asarray(values, dtype=np.float64)[..., None] <= levels).mean(axis=1) for values in strata]
    return _stratified(shares, lambda values: values.mean(axis=-1), confidence)


def improvement_interval(
    strata: Sequence[ArrayLike], references: Sequence[ArrayLike], confidence: float = CONFIDENCE
) -> Interval:
    """Probability that a run is below a run of the reference, ties counted half, with its bootstrap interval.

    Runs are not paired: every run meets every run of the reference on the same task, and tasks count alike.

    Args:
        strata: Per task, one value for each run ``[R]``; lower is better.
        references: Per task, likewise ``[S]``.
        confidence: Coverage.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in (*strata, *references)]

    def statistic(*resampled: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        del axis  # always the last
        shares = []
        for own, other in zip(resampled[: len(strata)], resampled[len(strata) :], strict=True):
            first, second = own[..., :, None], other[..., None, :]
            shares.append(((first < second) + 0.5 * (first == second)).mean(axis=(-1, -2)))
        mean: NDArray[np.float64] = np.mean(shares, axis=0)
        return mean

    method = "stratified bootstrap"
    estimate = float(statistic(*samples, axis=-1))
    if any(sample.size < 2 for sample in samples):
        return Interval(estimate, float("nan"), float("nan"), method, confidence)
    ends = _bootstrap(tuple(samples), statistic, confidence)
    return Interval(estimate, float(ends.low), float(ends.high), method, confidence)


def crossed_difference(values: ArrayLike, reference: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of ``values − reference`` over training runs and episodes, with an interval that covers both.

    Runs and episodes are resampled independently (Owen's pigeonhole bootstrap): other runs, on other episodes.

    Args:
        values: One row for each run, one column for each episode ``[R, K]``.
        reference: Of a rule, which has no runs ``[K]``, or of runs of the same seeds ``[R, K]``.
        confidence: Coverage.
    """
    data = np.asarray(values, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    runs, episodes = data.shape
    if runs == 1 or episodes == 1:
        return mean_interval(data.mean(axis=0 if runs == 1 else 1), confidence)

    def statistic(run: NDArray[np.int64], episode: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        del axis  # always the last
        mean: NDArray[np.float64] = data[run[..., :, None], episode[..., None, :]].mean(axis=(-1, -2))
        return mean

    ends = _bootstrap((np.arange(runs), np.arange(episodes)), statistic, confidence)
    return Interval(
        float(data.mean()), float(ends.low), float(ends.high), "bootstrap over runs and episodes", confidence
    )


def _stratified(
    strata: Sequence[ArrayLike],
    reduce: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    confidence: float,
) -> Band:
    """Reduce the runs ``[R, P]`` of all strata together, for every point."""
    samples = [np.asarray(values, dtype=np.float64) for values in strata]
    if not samples or any(sample.ndim != 2 or sample.size == 0 for sample in samples):
        raise ValueError("expected at least one stratum with at least one run")

    def statistic(*resampled: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        del axis  # always the last
        return reduce(np.concatenate(resampled, axis=-1))

    estimate = reduce(np.concatenate(samples, axis=0).T)
    if any(len(sample) < 2 for sample in samples):
        nothing = np.full_like(estimate, np.nan)
        return Band(estimate, nothing, nothing)
    ends = _bootstrap(tuple(samples), statistic, confidence, axis=0)
    return Band(estimate, np.asarray(ends.low), np.asarray(ends.high))


def _trimmed_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean over the last axis: without the lowest and the highest quarter, rounded down."""
    mean: NDArray[np.float64] = stats.trim_mean(values, 0.25, axis=-1)
    return mean


def _bootstrap(
    samples: tuple[NDArray[Any], ...],
    statistic: Callable[..., NDArray[np.float64]],
    confidence: float,
    *,
    axis: int = -1,
    n_resamples: int = _STRATIFIED_RESAMPLES,
    method: str = "percentile",
    paired: bool = False,
) -> Any:
    """Ends of a bootstrap interval with a fixed seed; samples are resampled independently unless paired."""
    return stats.bootstrap(
        samples,
        statistic,
        vectorized=True,
        axis=axis,
        n_resamples=n_resamples,
        confidence_level=confidence,
        method=method,
        paired=paired,
        rng=np.random.default_rng(0),
    ).confidence_interval


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
