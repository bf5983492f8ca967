# SPDX-License-Identifier: Apache-2.0
"""Worlds from traces: a day curve, bursts, popularity and mixes that bring requests like those that were recorded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import least_squares, minimize_scalar

from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.traces import Floats, Trace
from edgegen.platform.traces.measures import DAY_S, PARTS, counts, day_curve, world_rate_s

RAREST = 0.002
"""Steps and pictures that fewer than this share ask for are left out."""
QUANTILES = 20
BURST_SHARE, LEAST_CALM = 0.2, 0.1
LEAST_VARIANCE = 0.02
"""Below this variance of the rate there are no bursts to speak of."""


def zipf_slope(count: Floats, models: int) -> float:
    """Most likely exponent of a Zipf law over some models, of which as many as there are counts were asked for.

    Args:
        count: Requests for each model, the most popular first; those beyond ``models`` stand for the last one.
        models: Models that there are.
    """
    rank = np.log(np.arange(1, models + 1))
    own = np.minimum(np.arange(len(count)), models - 1)

    def unlikely(slope: float) -> float:
        return float(slope * (count @ rank[own]) + count.sum() * np.log(np.exp(-slope * rank).sum()))

    return float(minimize_scalar(unlikely, bounds=(0.0, 10.0), method="bounded").x)


def rate_variance(trace: Trace, curve: Floats | None, window_s: float) -> float:
    """Variance of the rate in windows over the squared mean, less what the day curve and mere chance bring."""
    count = counts(trace, window_s)
    expected = np.full(len(count), len(trace) / trace.period_s * window_s)
    if curve is not None:
        grid = max(1, math.ceil(window_s * PARTS / DAY_S)) * 4  # times within each window
        time_s = (np.arange(len(count))[:, None] + (np.arange(grid) + 0.5) / grid) * window_s
        expected *= curve[(time_s / DAY_S * PARTS).astype(np.int64) % PARTS].mean(1)
    return float((((count - expected) ** 2) - count).sum() / (expected**2).sum())


def bursts_of(trace: Trace, curve: Floats | None) -> dict[str, float] | None:
    """Calm and burst whose rate varies as much, and for as long, as that of a trace does beside its day curve.

    The rate of such a process has the autocovariance v·e^(−t/τ), so its mean over a window w varies by
    v·2(u − 1 + e^(−u))/u², u = w/τ. v and τ are fitted to windows of many lengths. A fifth of the time is burst, or as
    much less as lets a calm keep a tenth of the mean rate.

    Returns:
        Factors, and mean lengths in s of the recording; None if the rate hardly varies.
    """
    shortest_s, longest_s = 2 * trace.period_s / len(trace), min(trace.period_s / 20, DAY_S / 4)
    if longest_s <= shortest_s:
        return None
    windows_s = np.geomspace(shortest_s, longest_s, 8)
    variance = np.array([rate_variance(trace, curve, window_s) for window_s in windows_s])
    some = variance > LEAST_VARIANCE
    if some.sum() < 3:
        return None

    def off(logs: Floats) -> Floats:
        u = windows_s[some] / np.exp(logs[1])
        spread = logs[0] + np.log(2 * (u + np.expm1(-u)) / u**2)
        return np.asarray(spread - np.log(variance[some]))

    low, high = (np.log([1e-3, shortest_s / 10]), np.log([1e3, longest_s * 10]))
    start = np.log([min(max(variance[some][0], 2e-3), 500), math.sqrt(shortest_s * longest_s)])
    v, lasting_s = np.exp(least_squares(off, start, bounds=(low, high)).x)
    odds = min(BURST_SHARE / (1 - BURST_SHARE), (1 - LEAST_CALM) ** 2 / v)
    share = odds / (1 + odds)
    return {
        "calm": float(1 - math.sqrt(v * odds)),
        "burst": float(1 + math.sqrt(v / odds)),
        "mean_calm_s": float(lasting_s / share),
        "mean_burst_s": float(lasting_s / (1 - share)),
    }


def mix(values: Floats) -> dict[str, Any]:
    """The values that are asked for and how often, as a field of a scenario."""
    points, count = np.unique(values, return_counts=True)
    often = count >= RAREST * len(values)
    often[count.argmax()] = True
    points, weights = points[often], (count[often] / count[often].sum()).round(4)
    shape = {"kind": "empirical", "points": points.tolist(), "weights": weights.tolist()}
    return {"low": float(points[0]), "high": float(points[-1]), "shape": shape}


def fitted(trace: Trace, base: FleetScenario) -> dict[str, Any]:
    """The fields of a world that brings requests like those of a trace, beside those of a base.

    Args:
        trace: The trace.
        base: Says the sites, the models, the load, and everything that the trace does not.

    Returns:
        Fields, as plain data; None for what the base has and the trace stands instead of. Times are those of the base:
        they are shortened as much as the load demands.

    Raises:
        InputError: If what is fitted fits no world.
    """
    data: dict[str, Any] = {"recorded": None, "bursts": None, "day": None}
    if trace.rank is not None:
        count = np.bincount(trace.rank).astype(np.float64)
        data["popularity"] = {"exponents": [round(zipf_slope(count, len(base.kinds_of_models)), 3)]}
    if trace.pictures is not None:
        data["pictures"] = mix(trace.pictures)
    if trace.steps is not None:
        data["asked_steps"] = mix(trace.steps)
    if trace.factor is not None:
        middle = np.quantile(trace.factor, (np.arange(QUANTILES) + 0.5) / QUANTILES)
        points = sorted(float(f"{value:.4g}") for value in middle / middle.mean())
        shape = {"kind": "empirical", "points": points}
        data["service_noise"] = {"low": points[0], "high": points[-1], "shape": shape}
    plain = build_scenario({**base.model_dump(mode="json"), **data}, FleetScenario)
    second_s = len(trace) / trace.period_s / world_rate_s(plain)
    curve = day_curve(trace, DAY_S) if trace.period_s >= 2 * DAY_S else None
    if curve is not None:
        data["day"] = {"period_s": round(DAY_S * second_s, 3), "hours": curve.round(3).tolist()}
    bursts = bursts_of(trace, curve)
    if bursts is not None:
        lengths = {name: bursts[name] * second_s for name in ("mean_calm_s", "mean_burst_s")}
        short = max(1.0, 1 / min(lengths.values()))  # no burst of a world is shorter than a second
        bursts |= {name: length_s * short for name, length_s in lengths.items()}
        data["bursts"] = {name: round(value, 4) for name, value in bursts.items()}
    build_scenario({**plain.model_dump(mode="json"), **data}, FleetScenario)
    return data
