# SPDX-License-Identifier: Apache-2.0
"""A trace beside a world: what both are measured to be, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgegen.platform.canvas import drawing, logarithmic, new_figure, save, whole_numbers
from edgegen.platform.traces.measures import PARTS, ROOMS, WINDOWS_S, Measures

TRACE, WORLD = "trace", "world"
_MARKS = {TRACE: {"color": "0.1", "linestyle": "-"}, WORLD: {"color": "0.5", "linestyle": "--"}}


def facts(trace: Measures, world: Measures) -> list[tuple[str, float | None, float | None]]:
    """Measured quantities with their titles: of the trace, and of the world; None where there is nothing to measure."""
    rows: list[tuple[str, float | None, float | None]] = [
        ("requests", trace.requests, world.requests),
        ("busiest part of the day over the mean", float(trace.curve.max()), float(world.curve.max())),
    ]
    rows += [
        (f"variance over mean in {window_s / 60:g} min", own, other)
        for window_s, own, other in zip(WINDOWS_S, trace.dispersion, world.dispersion, strict=True)
    ]
    for count in (1, 5, 20):
        rows.append((f"share of the {count} most popular", _first(trace.shares, count), _first(world.shares, count)))
    for name, own_hits, other_hits in (("LRU", trace.lru, world.lru), ("Belady", trace.belady, world.belady)):
        for at, room in enumerate(ROOMS):
            values = (None if hits is None else float(hits[at]) for hits in (own_hits, other_hits))
            rows.append((f"hit ratio of {name} with room for {room}", *values))  # type: ignore[arg-type]  # two of them
    return rows


def _first(shares: Any, count: int) -> float | None:
    return None if shares is None else float(shares[:count].sum())


@drawing
def plot_traces(trace: Measures, world: Measures, name: str, path: Path) -> list[Path]:
    """Draw rates over the day, dispersion, popularity and hit ratios of a trace and a world; write PNG and SVG.

    Args:
        trace: Measured of the trace.
        world: Measured of the world.
        name: What is compared.
        path: Where to; .png or .svg.

    Returns:
        The files written.

    Raises:
        InputError: If the files can not be written.
    """
    figure = new_figure(11, 7)
    (rates, spread), (popular, hits) = figure.subplots(2, 2)
    for label, own in ((TRACE, trace), (WORLD, world)):
        marks: dict[str, Any] = {**_MARKS[label], "label": label}
        hours = (np.arange(PARTS) + 0.5) * own.period_s / PARTS / 3600
        # A world's day begins at any time: what can be compared is how long it is busy, and how busy.
        rates.plot(hours, np.sort(own.curve)[::-1], marker=".", **marks)
        known = [
            (window_s / 60, value)
            for window_s, value in zip(WINDOWS_S, own.dispersion, strict=True)
            if value is not None and value > 0
        ]
        if known:
            spread.plot(*zip(*known, strict=True), marker="o", **marks)
        if own.shares is None or own.lru is None or own.belady is None:
            continue
        popular.plot(np.arange(1, len(own.shares) + 1), own.shares, marker=".", **marks)
        hits.plot(ROOMS, own.lru, marker="o", **{**marks, "label": f"{label}, LRU"})
        hits.plot(ROOMS, own.belady, marker="s", **{**marks, "label": f"{label}, Belady"})
    for axes, x, y in (
        (rates, "parts of the day, the busiest first (h)", "rate over the mean"),
        (spread, "window (min)", "variance over mean"),
        (popular, "rank of the model", "share of the requests"),
        (hits, "room for models", "hit ratio"),
    ):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    for axes in (spread, popular):
        if axes.lines:
            logarithmic(axes, "x")
            logarithmic(axes, "y")
    whole_numbers(hits.xaxis)
    hits.set_ylim(0, 1)
    figure.suptitle(name, fontsize=10)
    return save(figure, path)
