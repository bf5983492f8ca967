# SPDX-License-Identifier: Apache-2.0
"""Lines through measurements: quality that falls from a plateau to a plateau, and time that grows with the steps.

The forms are those of :mod:`edgegen.envs.provisioning.curves` (our choice, see there); both fits are least squares over
the measured step counts, every count with the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

Floats = NDArray[np.float64]

_KNOTS = 40  # step counts that serve as starting points of A1 and A3; pairs of them are tried
_STARTS = 12  # best pairs that are refined
_NARROWEST = 1e-3  # least A3 − A1 as a share of what lies right of A1
_GAIN = 1e-9  # a refinement must lower the squared error by this share of the total, else whole steps are kept
_TOLERANCE = 1e-12  # relative, of the refinement; the usual 1e-8 shows in the fourth digit of a curve file
_FLAT = 1e-9  # a fall below this share of the values counts as none


@dataclass(frozen=True)
class QualityFit:
    """A quality curve through measurements, lower is better.

    Attributes:
        a1_steps: Steps up to which quality stays at ``a2`` [A1]; at least the fewest measured.
        a2: Worst quality [A2], in the unit of the measure.
        a3_steps: Steps from which quality stays at ``a4`` [A3]; at most the most measured.
        a4: Best quality [A4].
        rms: Root mean square of measured minus fitted quality.
        r_squared: Share of the variance over step counts that the curve explains; 1 for flat data.
    """

    a1_steps: float
    a2: float
    a3_steps: float
    a4: float
    rms: float
    r_squared: float

    def at(self, steps: ArrayLike) -> Floats:
        """Return the fitted quality after ``steps`` of any shape."""
        share = _share(np.asarray(steps, dtype=np.float64), self.a1_steps, self.a3_steps)
        return self.a2 + (self.a4 - self.a2) * share


@dataclass(frozen=True)
class TimeFit:
    """A line through measured generation times.

    Attributes:
        b1_s_per_step: Time per step [B1], s, not negative.
        b2_s: Time before the first and after the last step [B2], s, not negative.
        rms_s: Root mean square of measured minus fitted time, s.
        r_squared: Share of the variance over step counts that the line explains; 1 for flat data.
    """

    b1_s_per_step: float
    b2_s: float
    rms_s: float
    r_squared: float

    def at(self, steps: ArrayLike) -> Floats:
        """Return the fitted time of ``steps`` of any shape, s."""
        return self.b1_s_per_step * np.asarray(steps, dtype=np.float64) + self.b2_s


def fit_time(steps: ArrayLike, times_s: ArrayLike) -> TimeFit:
    """Fit B1 x + B2 with both not negative.

    Args:
        steps: Step counts ``[n]``, at least two different ones.
        times_s: Generation times ``[n]``, s.

    Raises:
        ValueError: If there are fewer than two step counts, or the lengths differ.
    """
    x, y = _checked(steps, times_s)
    (b1, b2), _ = optimize.nnls(np.stack([x, np.ones_like(x)], axis=1), y)
    return TimeFit(float(b1), float(b2), *_goodness(y, b1 * x + b2))


def fit_quality(steps: ArrayLike, values: ArrayLike) -> QualityFit:
    """Fit a plateau, a falling line and a plateau.

    A1 and A3 stay within the measured steps, because nothing is known beyond them, and A2 ≥ A4 ≥ 0. For given A1 and
    A3 the best A2 and A4 follow from linear least squares; pairs of measured counts are tried that way, and the best
    of them refined together with A2 and A4. Where A1 and A3 are not determined, as for a jump between two neighbouring
    counts, measured counts are kept. Data without a fall give a flat line at their mean that saturates at once.

    Args:
        steps: Step counts ``[n]``, at least two different ones, in any order.
        values: Quality ``[n]``, not negative, lower is better.

    Raises:
        ValueError: If there are fewer than two step counts, the lengths differ, or a value is negative.
    """
    x, y = _checked(steps, values)
    if (y < 0).any():
        raise ValueError("quality must not be negative")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    scale = float(y.max())
    total = float(((y - y.mean()) ** 2).sum())
    flat = QualityFit(0.0, float(y.mean()), float(x[0]), float(y.mean()), *_goodness(y, np.full_like(y, y.mean())))
    if np.ptp(y) <= _FLAT * scale:
        return flat
    tried = sorted((_plateaus(x, y, a1, a3) for a1, a3 in _pairs(x)), key=lambda found: found[0])
    best = tried[0]
    for start in tried[:_STARTS]:
        refined = _refine(x, y, *start[1:])
        if refined[0] < best[0] - _GAIN * total:
            best = refined
    error, a1, a2, a3, a4 = (float(value) for value in best)
    if a2 - a4 <= _FLAT * scale or error >= total * (1 - _GAIN):
        return flat
    fitted = a2 + (a4 - a2) * _share(x, a1, a3)
    return QualityFit(a1, a2, a3, a4, *_goodness(y, fitted))


def largest_rise(steps: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Find where quality gets worse most, from any step count to any larger one.

    Args:
        steps: Step counts ``[n]``, increasing.
        values: Quality ``[n]``, lower is better.

    Returns:
        The rise (0 if quality never gets worse), and the step counts it begins and ends at.
    """
    best = (0.0, float(steps[0]), float(steps[0]))
    lowest = 0
    for index in range(1, len(values)):
        if values[index] - values[lowest] > best[0]:
            best = (float(values[index] - values[lowest]), float(steps[lowest]), float(steps[index]))
        if values[index] < values[lowest]:
            lowest = index
    return best


def _pairs(x: Floats) -> list[tuple[float, float]]:
    """Pairs A1 < A3 of measured counts to start from; of many counts, a geometric selection."""
    counts = np.unique(x)
    if len(counts) > _KNOTS:
        wanted = np.geomspace(counts[0], counts[-1], _KNOTS)
        counts = np.unique(counts[np.searchsorted(counts, wanted).clip(0, len(counts) - 1)])
    return [(float(low), float(high)) for i, low in enumerate(counts) for high in counts[i + 1 :]]


def _plateaus(x: Floats, y: Floats, a1: float, a3: float) -> tuple[float, float, float, float, float]:
    """Best A2 ≥ A4 ≥ 0 for given A1 and A3; returns the squared error, A1, A2, A3, A4."""
    columns = np.stack([np.ones_like(x), 1 - _share(x, a1, a3)], axis=1)
    (a4, fall), residual = optimize.nnls(columns, y)
    return float(residual) ** 2, a1, float(a4 + fall), a3, float(a4)


def _refine(
    x: Floats, y: Floats, a1: float, a2: float, a3: float, a4: float
) -> tuple[float, float, float, float, float]:
    """Improve all four constants together; returns the squared error, A1, A2, A3, A4."""
    first, last, scale = float(x[0]), float(x[-1]), float(y.max())

    def knots(point: Floats) -> tuple[float, float]:
        # A1 as a share of the measured steps, A3 as a share of what is left: every point of a box is a valid curve.
        low = first + point[0] * (last - first)
        return low, low + point[1] * (last - low)

    def errors(point: Floats) -> Floats:
        low, high = knots(point)
        return np.asarray(scale * (point[2] + point[3] * (1 - _share(x, low, high))) - y)

    lower, upper = np.array([0.0, _NARROWEST, 0.0, 0.0]), np.array([1 - _NARROWEST, 1.0, np.inf, np.inf])
    begin = [(a1 - first) / (last - first), (a3 - a1) / (last - a1), a4 / scale, (a2 - a4) / scale]
    found = optimize.least_squares(
        errors,
        np.clip(begin, lower, upper),
        bounds=(lower, upper),
        x_scale="jac",
        ftol=_TOLERANCE,
        xtol=_TOLERANCE,
        gtol=_TOLERANCE,
        max_nfev=200,
    )
    return _plateaus(x, y, *knots(found.x))


def _share(x: Floats, a1: float, a3: float) -> Floats:
    """How far down the falling line each step count is, from 0 to 1."""
    return np.clip((x - a1) / (a3 - a1), 0, 1)


def _goodness(y: Floats, fitted: Floats) -> tuple[float, float]:
    """Return the root mean square residual and R²."""
    error, total = float(((y - fitted) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    rounding = len(y) * (np.finfo(np.float64).eps * float(np.abs(y).max())) ** 2
    return float(np.sqrt(error / len(y))), 1.0 if total <= rounding else 1 - error / total


def _checked(steps: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if (
        x.shape != y.shape
        or x.ndim != 1
        or len(np.unique(x)) < 2
        or not (np.isfinite(x).all() and np.isfinite(y).all())
    ):
        raise ValueError(f"a fit needs finite values at two or more step counts, got shapes {x.shape} and {y.shape}")
    return x, y
