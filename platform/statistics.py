"""Intervals over episodes. Every method is a library's; this module chooses them and says why.

Means and paired differences use Student's t: episodes are independent, their means average thousands of tasks and are
close to normal, and t keeps its coverage with a handful of episodes, where a bootstrap is too narrow. The ratio of two
means has no such closed form and uses the bias-corrected and accelerated (BCa) bootstrap, resampling episodes in pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 9999


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
        interval = stats.bootstrap(
            (data, base),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return Interval(ratio, float(interval.low), float(interval.high), method, confidence)


def improvement_probability(values: ArrayLike, reference: ArrayLike) -> float:
    """Probability that ``values`` is below ``reference`` in a pair, ties counted half: lower delays are better."""
    data, base = _pair(values, reference)
    return float(((data < base) + 0.5 * (data == base)).mean())


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
