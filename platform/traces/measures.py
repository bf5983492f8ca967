# SPDX-License-Identifier: Apache-2.0
"""What is measured of a trace: rates over the day, bursts, popularity, and what memories would have had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegen.envs.core.errors import InputError
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.hits import belady_hits, lru_hits
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.traces import Floats, Trace

DAY_S = 86_400.0
PARTS = 24
"""Parts of a day, or of a whole trace that is shorter than two days."""
WINDOWS_S = (60.0, 600.0, 3600.0)
ROOMS = np.array([1, 2, 4, 8])
MOST_BINS = 200_000
"""Seconds of a world that are drawn at most to be measured."""


def curve_period_s(trace: Trace) -> float:
    """Length of what is taken for a day, s: a day, or the whole of a trace that is shorter than two."""
    return DAY_S if trace.period_s >= 2 * DAY_S else trace.period_s


def day_curve(trace: Trace, period_s: float) -> Floats:
    """Requests of each part of a day over the mean ``[24]``, in the mean of all days.

    Args:
        trace: The trace; its first request comes at the beginning of a day.
        period_s: Length of a day, s.
    """
    whole_s = max(trace.period_s, period_s)  # a day after whose last request nobody comes is a day all the same
    part = np.arange(np.ceil(whole_s / period_s * PARTS).astype(np.int64))
    begin_s = part * period_s / PARTS
    length_s = np.minimum(whole_s - begin_s, period_s / PARTS)  # the last part may have been cut off
    count = np.bincount((trace.arrival_s * PARTS / period_s).astype(np.int64), minlength=len(part))[: len(part)]
    rate = np.bincount(part % PARTS, count, PARTS) / np.bincount(part % PARTS, length_s, PARTS)
    return np.asarray(rate / rate.mean())


def counts(trace: Trace, window_s: float) -> Floats:
    """Requests in windows one after the other ``[W]``; what remains at the end is left out."""
    windows = int(trace.period_s // window_s)
    number = (trace.arrival_s / window_s).astype(np.int64)
    return np.bincount(number[number < windows], minlength=windows).astype(np.float64)


def dispersion(trace: Trace, window_s: float) -> float | None:
    """Variance over mean of the requests in windows; 1 if they come by themselves. None with fewer than 8 windows."""
    count = counts(trace, window_s)
    return float(count.var() / count.mean()) if len(count) >= 8 and count.any() else None


@dataclass(frozen=True)
class Measures:
    """What is measured of a trace; all times are those of the recording.

    Attributes:
        requests: Number of requests.
        rate_s: Requests a second, of the recording.
        period_s: What is taken for a day, s.
        curve: Rates of the parts of the day over the mean ``[24]``.
        dispersion: Variance over mean in each of :data:`WINDOWS_S`; None where the trace is too short.
        shares: Shares of the models, the most popular first; None if they are not recorded.
        lru: Hit ratios of a memory for each of :data:`ROOMS` models that evicts what was asked for longest ago.
        belady: The best there can be.
    """

    requests: int
    rate_s: float
    period_s: float
    curve: Floats
    dispersion: tuple[float | None, ...]
    shares: Floats | None
    lru: Floats | None
    belady: Floats | None


def measured(trace: Trace, period_s: float) -> Measures:
    """Measure a trace.

    Args:
        trace: The trace.
        period_s: What is taken for a day, s.
    """
    rank = trace.rank
    return Measures(
        requests=len(trace),
        rate_s=len(trace) / trace.period_s,
        period_s=period_s,
        curve=day_curve(trace, period_s),
        dispersion=tuple(dispersion(trace, window_s) for window_s in WINDOWS_S),
        shares=None if rank is None else np.bincount(rank) / len(rank),
        lru=None if rank is None else lru_hits(rank, ROOMS),
        belady=None if rank is None else belady_hits(rank, ROOMS),
    )


def world_rate_s(scenario: FleetScenario) -> float:
    """Requests a second of a world, in the mean of many episodes."""
    work_s = scenario.mean_work_s * scenario.seconds_per_work_s
    # Without shares, ranks are drawn per episode.
    mean_s = np.average(work_s, weights=scenario.popularity.shares or None)
    return scenario.load * sum(scenario.site_speed) / float(mean_s)


def drawn_trace(scenario: FleetScenario, trace: Trace, seed: int) -> Trace:
    """Requests of a world as if they had been recorded beside a trace: as many, in the time of the recording.

    Args:
        scenario: The world; one long episode of it is drawn.
        trace: The trace.
        seed: Seed of the episode.

    Raises:
        InputError: If the world draws fewer than two requests.
    """
    second_s = len(trace) / trace.period_s / world_rate_s(scenario)
    length_s = min(trace.period_s * second_s, float(MOST_BINS))
    long = scenario.model_copy(update={"frame_s": length_s, "frames": 1})
    requests = draw_requests(long, seed, range(1))
    some = slice(int(requests.number[0]))
    if some.stop < 2:
        raise InputError(f"The world '{scenario.name}' brings fewer than two requests in {length_s:g} s.")
    names = np.array([f"{model:04d}" for model in requests.model[0, some]], dtype=object)
    columns = {"arrival_s": requests.arrival_s[0, some] / second_s, "model": names}
    return Trace.of(columns, f"What the world '{scenario.name}' draws", lambda row: f"request {row + 1}")
