# SPDX-License-Identifier: Apache-2.0
"""From measurements to the profile of a model: medians over the rounds, lines through them, and 95 % intervals.

Times are medians, which is what a queue has to expect, by the clock that can be trusted (:attr:`Profile.clock`); the
curve file holds the least ones. Intervals of lines and batches come from drawing the rounds anew, with replacement;
those of loads are Student's t. All of this is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgegen.serve.profile.curve_fits import fit_time
from edgegen.serve.profile.curve_report import Provenance
from edgegen.serve.profile.measurements import Profile
from edgegen.serve.profile.model_profile import BatchPoint, Interval, Intervals, ModelProfile, QualityPoint
from edgegen.serve.profile.picture_quality import Estimate

Floats = NDArray[np.float64]

DRAWS = 400  # of rounds, for an interval
ENOUGH = 0.5  # share of the best quality that makes pictures useful
QUALITY_OF = {
    "inaccuracy": "share of pictures that show what was asked for, as the judge of the model's subject tells",
    "distance": "share of the way from the pictures of the fewest steps to those of the most, by root mean square "
    "difference; it says how far from finished, not how good",
}


def model_profile(profile: Profile, provenance: Provenance) -> ModelProfile:
    """Return the profile of a model that was measured.

    Args:
        profile: The measurements.
        provenance: Where and how.
    """
    clock, loads = profile.clock, profile.holding.loads
    steps = [float(point.steps) for point in profile.points]
    times = np.array([point.cpu_s if clock == "cpu" else point.wall_s for point in profile.points])  # [counts, rounds]
    counts = [batch.pictures for batch in profile.batches]
    together = np.array([batch.times_s(clock) for batch in profile.batches])  # [counts, rounds]

    def lines(rounds: NDArray[np.int64]) -> tuple[float, float, float]:
        """Time per step, time beside them, and a further picture over the first, from some of the rounds."""
        line = fit_time(steps, np.median(times[:, rounds], axis=1).tolist())
        slope = _slope(counts, np.median(together[:, rounds], axis=1)) if len(counts) > 1 else line.b1_s_per_step
        work_s = profile.batch_steps * line.b1_s_per_step
        return line.b1_s_per_step, line.b2_s, max(0.0, slope / work_s) if len(counts) > 1 and work_s > 0 else 1.0

    rounds = times.shape[1]
    found = lines(np.arange(rounds))
    rng = np.random.default_rng(profile.request.seed)
    drawn = np.array([lines(np.asarray(rng.integers(rounds, size=rounds))) for _ in range(DRAWS if rounds > 1 else 0)])
    step_s, fixed_s, further = (
        _with_interval(value, drawn[:, i] if rounds > 1 else ()) for i, value in enumerate(found)
    )
    cold = (loads.cold_s or (loads.first_s,)) if loads else (profile.holding.first_load_s,)
    host = (loads.moved_s or loads.warm_s) if loads else (profile.holding.load_s,)
    load, from_host = _mean(cold), _mean(host)
    quality_of, quality = _quality(profile)
    best = max(quality, key=lambda point: point.quality)
    useful = ENOUGH * best.quality
    finished = max(useful, best.quality if best.low is None else best.low)
    return ModelProfile(
        model=profile.request.model,
        device=profile.request.device,
        machine=provenance.machine,
        dtype=profile.request.dtype,
        threads=profile.threads,
        measured=provenance.text(profile),
        size_gb=_digits(profile.holding.weights_gb),
        peak_gb=None if profile.holding.painting_gb is None else _digits(profile.holding.painting_gb),
        load_s=load[0],
        load_from_host_s=from_host[0],
        host="pipeline" if loads and loads.moved_s else "files",
        step_s=step_s[0],
        fixed_s=fixed_s[0],
        further_picture=further[0],
        quality_of=quality_of,
        quality=quality,
        least_steps=next(point.steps for point in quality if point.quality >= useful),
        full_steps=next(point.steps for point in quality if point.quality >= finished),
        native_size=profile.picture_shape[0],
        batch_steps=profile.batch_steps,
        batch=tuple(
            BatchPoint(pictures=count, time_s=_digits(float(np.median(row))), low_s=low, high_s=high)
            for count, row in zip(counts, together, strict=True)
            for low, high in [_ends_of_median(row, rng)]
        ),
        intervals=Intervals(
            load_s=load[1],
            load_from_host_s=from_host[1],
            step_s=step_s[1],
            fixed_s=fixed_s[1],
            further_picture=further[1],
        ),
    )


def _slope(counts: Sequence[int], times_s: Floats) -> float:
    """Time of a further picture: the slope of the line of least squares through the batch curve, s."""
    x = np.asarray(counts, dtype=np.float64)
    return float(((x - x.mean()) * (times_s - times_s.mean())).sum() / ((x - x.mean()) ** 2).sum())


def _quality(profile: Profile) -> tuple[str, tuple[QualityPoint, ...]]:
    """What quality is the measure of, and its points: 1 less the wrong pictures, or 1 less the distance to the end."""
    name = "inaccuracy" if "inaccuracy" in profile.points[0].quality else "distance"
    estimates = [point.quality[name] for point in profile.points]
    whole = 100.0 if name == "inaccuracy" else max(estimates[0].mean, 1e-9)
    points = tuple(_point(point.steps, e, whole) for point, e in zip(profile.points, estimates, strict=True))
    return QUALITY_OF[name], points


def _point(steps: int, estimate: Estimate, whole: float) -> QualityPoint:
    low, value, high = (float(np.clip(1 - part / whole, 0, 1)) for part in (estimate.high, estimate.mean, estimate.low))
    known = math.isfinite(low) and math.isfinite(high)
    value = round(value, 4)
    return QualityPoint(
        steps=steps,
        quality=value,
        low=min(value, round(low, 4)) if known else None,
        high=max(value, round(high, 4)) if known else None,
    )


def _with_interval(value: float, drawn: Sequence[float] | Floats) -> tuple[float, Interval | None]:
    """A value and where 95 % of the drawn ones lie, which includes the value itself."""
    value = _digits(value)
    if len(drawn) == 0:
        return value, None
    low, high = (_digits(float(end)) for end in np.quantile(np.asarray(drawn), (0.025, 0.975)))
    return value, (max(0.0, min(low, value)), max(high, value))


def _ends_of_median(row: Floats, rng: np.random.Generator) -> tuple[float | None, float | None]:
    if len(row) < 2:
        return None, None
    medians = np.median(row[rng.integers(len(row), size=(DRAWS, len(row)))], axis=1)
    _, ends = _with_interval(float(np.median(row)), medians)
    return ends or (None, None)


def _mean(seconds: Sequence[float]) -> tuple[float, Interval | None]:
    """Mean of some loads and its interval, s."""
    mean = _digits(float(np.mean(seconds)))
    if len(seconds) < 2:
        return mean, None
    half = float(stats.t.ppf(0.975, len(seconds) - 1) * np.std(seconds, ddof=1) / math.sqrt(len(seconds)))
    return mean, (max(0.0, min(mean, _digits(mean - half))), max(mean, _digits(mean + half)))


def _digits(value: float) -> float:
    """Round to four digits, which is more than a measurement carries."""
    return float(f"{value:.4g}")
