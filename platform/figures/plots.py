"""Plots for people: axes with units, readable in grey, drawn without a display."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgegen.platform.canvas import drawing, logarithmic, new_figure, plain_numbers, save, whole_numbers
from edgegen.platform.files import check_plot_path
from edgegen.platform.runs.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgegen.serve.profile.curve_report import Report

_LOG_RANGE = 5.0  # above this ratio of slowest to fastest a linear axis squeezes the good policies together
_DARK, _MID, _LIGHT = "0.1", "0.45", "0.75"


@drawing
def plot_comparison(comparison: Comparison, path: Path) -> list[Path]:
    """Draw mean delays or costs with intervals, every episode as a dot, and paired differences; write PNG and SVG.

    Returns:
        The files written.

    Raises:
        InputError: If the files can not be written, or the name has another ending.
    """
    check_plot_path(path)
    rows, kind = comparison.rows[::-1], comparison.kind  # the first row of the table at the top
    others = [row for row in rows if row.label != comparison.reference]
    figure = new_figure(10, 1.8 + 0.42 * len(rows))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    jitter = np.random.default_rng(0)
    for y, row in enumerate(rows):
        values = row.results.deciding
        left.plot(values, y + jitter.uniform(-0.18, 0.18, len(values)), ".", color=_LIGHT, markersize=4, zorder=1)
        _interval(left, y, row.mean.estimate, row.mean.low, row.mean.high, row.label == comparison.reference)
    left.set_yticks(range(len(rows)), [row.label for row in rows])
    notes = [note for note in (kind.unit.strip(", "),) if note]
    means = [row.mean.estimate for row in rows]
    if max(means) > _LOG_RANGE * min(means):
        logarithmic(left, "x")
        notes.append("logarithmic")
    left.set_xlabel(kind.axis + (f" ({', '.join(notes)})" if notes else ""))
    for y, row in enumerate(others):
        _interval(
            right, y, 100 * (row.ratio.estimate - 1), 100 * (row.ratio.low - 1), 100 * (row.ratio.high - 1), False
        )
    right.axvline(0, color=_MID, linewidth=1, linestyle="--")
    right.set_yticks(range(len(others)), [row.label for row in others])
    right.set_xlabel(f"{kind.quantity} against {comparison.reference} (%)")
    if others and max(100 * abs(row.ratio.estimate - 1) for row in others) > 100:
        right.set_xscale("symlog", linthresh=20)
        right.set_xticks([-50, -20, 0, 20, 100, 1000])
        plain_numbers(right.xaxis)
        high = max(100 * (row.ratio.estimate - 1) for row in others)
        low = min(100 * (row.ratio.estimate - 1) for row in others)
        right.set_xlim(min(1.6 * low, -15), max(1.6 * high, 15))
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(-0.6, max(len(rows if axes is left else others), 1) - 0.4)
    figure.suptitle(
        f"{comparison.scenario.name}, {comparison.episodes} episodes with identical {kind.paired_by}, "
        f"seed {comparison.seed}\n"
        "dots: episodes; markers with bars: mean and 95 % interval; open marker: reference",
        fontsize=10,
    )
    return save(figure, path)


@drawing
def plot_delays(delays_s: Mapping[str, NDArray[np.float64]], path: Path) -> list[Path]:
    """Draw which share of the requests had their pictures within which time, a line per policy.

    Args:
        delays_s: Delays by label, s; infinite where there were no pictures.
        path: Where to.

    Returns:
        The files written.

    Raises:
        InputError: If the files can not be written, or the name has another ending.
    """
    check_plot_path(path)
    figure = new_figure(7, 4)
    axes = figure.subplots()
    styles = ("-", "--", ":", "-.")
    for number, (label, own_s) in enumerate(delays_s.items()):
        answered_s = np.sort(own_s[np.isfinite(own_s)])
        share = 100 * np.arange(1, len(answered_s) + 1) / max(len(own_s), 1)
        style = styles[number % len(styles)]
        axes.step(answered_s, share, where="post", label=label, linestyle=style, color=(_DARK, _MID)[number // 4 % 2])
    for level in (50, 95, 99):
        axes.axhline(level, color="0.9", linewidth=0.8, zorder=0)
    axes.set_ylim(0, 101)
    axes.set_xlim(left=0)
    axes.set_xlabel("delay, s")
    axes.set_ylabel("requests with pictures (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return save(figure, path)


@drawing
def plot_training(
    values: Sequence[float], path: Path, title: str, label: str = "mean delay, s", window: int = 10
) -> list[Path]:
    """Draw the learning curve: a value per training episode and its running mean; write PNG and SVG.

    Args:
        values: Value of each episode.
        path: Where to; .png or .svg, the other one is written beside it.
        title: Heading.
        label: What the values are, with their unit.
        window: Episodes in the running mean.
    """
    check_plot_path(path)
    figure = new_figure(7, 4)
    axes = figure.subplots()
    episodes = np.arange(1, len(values) + 1)
    axes.plot(episodes, values, ".", color=_LIGHT, markersize=4, label="episode")
    if len(values) >= window:
        running = np.convolve(np.asarray(values, dtype=np.float64), np.full(window, 1 / window), mode="valid")
        axes.plot(episodes[window - 1 :], running, color=_DARK, label=f"mean of the last {window}")
    axes.set_xlabel("training episode")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=10)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return save(figure, path)


@drawing
def plot_profile(report: Report, path: Path) -> list[Path]:
    """Draw measured quality and time against denoising steps with the fitted curves; write PNG and SVG.

    Args:
        report: Measurements and fits.
        path: Where to; .png or .svg, the other one is written beside it.
    """
    check_plot_path(path)
    profile, clock = report.profile, report.profile.clock
    steps = np.array([point.steps for point in profile.points])
    fine = np.geomspace(steps[0], steps[-1], 2000)
    line = np.array([0, steps[-1]])
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    shown = [point.quality[report.measure] for point in profile.points]
    for count, estimate in zip(steps, shown, strict=True):
        if np.isfinite(estimate.low):
            left.plot([count, count], [estimate.low, estimate.high], color=_MID, linewidth=2, solid_capstyle="butt")
    left.plot(
        steps,
        [estimate.mean for estimate in shown],
        "o",
        color=_DARK,
        markersize=4,
        clip_on=False,  # a share of 0 lies on the axis
        zorder=3,
        label="mean and 95 % interval",
    )
    left.plot(fine, report.quality.at(fine), color=_DARK, linewidth=1, label="fitted curve")
    left.set_ylabel(
        {
            "tv": "total variation (grey levels per pixel)",
            "inaccuracy": "wrong pictures (%)",
            "distance": "distance to most steps (% of range)",
        }[report.measure]
    )
    for point in profile.points:
        times = point.cpu_s if clock == "cpu" else point.wall_s
        right.plot([point.steps] * len(times), times, ".", color=_LIGHT, markersize=4, zorder=1)
    right.plot(steps, [point.time_s(clock) for point in profile.points], "o", color=_DARK, markersize=4, label="least")
    right.plot(
        steps,
        [point.time_s(clock, statistics.median) for point in profile.points],
        "o",
        color=_DARK,
        markerfacecolor="white",
        markersize=4,
        label="median",
    )
    right.plot(line, report.time.at(line), color=_DARK, linewidth=1, label="fitted line")
    right.set_ylabel({"cpu": "processor time per picture (s)", "wall": "time per picture (s)"}[clock])
    for axes in (left, right):
        axes.set_xlabel("denoising steps")
        axes.set_ylim(bottom=0)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    right.set_xlim(left=0)
    whole_numbers(right.xaxis)
    whole_numbers(left.xaxis)
    if steps[-1] > _LOG_RANGE * steps[0]:
        logarithmic(left, "x")  # quality changes where steps are few; straight lines look bent
        left.set_xlabel("denoising steps (logarithmic)")
    request = profile.request
    figure.suptitle(
        f"{request.model} on {request.device}: {request.pictures} pictures and {request.repeats} timed ones per step "
        f"count, seed {request.seed}",
        fontsize=10,
    )
    return save(figure, path)


def _interval(axes: Axes, y: float, estimate: float, low: float, high: float, is_open: bool) -> None:
    if np.isfinite(low):
        axes.plot([low, high], [y, y], color=_DARK, linewidth=2, solid_capstyle="butt", zorder=2)
    face: ArrayLike | str = "white" if is_open else _DARK
    axes.plot([estimate], [y], "o", color=_DARK, markerfacecolor=face, markersize=6, zorder=3)
