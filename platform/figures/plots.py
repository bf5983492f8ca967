# SPDX-License-Identifier: Apache-2.0
"""Plots for people: axes with units, readable in grey, drawn without a display."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgegen.platform.canvas import drawing, logarithmic, new_figure, save, whole_numbers
from edgegen.platform.files import check_plot_path
from edgegen.platform.runs.comparison import Comparison, Row
from edgegen.platform.runs.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgegen.serve.profile.curve_report import Report

_LOG_RANGE = 5.0  # above this ratio of slowest to fastest a linear axis squeezes the good policies together
_CLOSE = 20.0  # per cent around the reference that the paired panel shows at most
_DARK, _MID, _LIGHT = "0.1", "0.45", "0.75"


def plot_comparison(comparison: Comparison, path: Path) -> list[Path]:
    """Draw :func:`comparison_figure` and write it.

    Returns:
        The files written: PNG and SVG, or PDF.

    Raises:
        InputError: If the files can not be written, or the name has another ending.
    """
    check_plot_path(path)
    return save(comparison_figure(comparison), path)


@drawing
def comparison_figure(
    comparison: Comparison, labels: Mapping[str, str] | None = None, title: str | None = None
) -> Figure:
    """Draw means with intervals and every episode or training as a dot, and paired ratios where they are close.

    Args:
        comparison: The comparison.
        labels: Other names for policies, by label.
        title: Heading; what was played if not given.
    """
    rows, kind = comparison.rows[::-1], comparison.kind  # the first row of the table at the top
    others = [row for row in rows if row.label != comparison.reference]
    names = {row.label: (labels or {}).get(row.label, row.label) for row in rows}
    figure = new_figure(10, 2.1 + 0.42 * len(rows))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    jitter = np.random.default_rng(0)
    for y, row in enumerate(rows):
        values = row.results.deciding
        if row.trainings:
            values = np.array([results.deciding.mean() for results in row.trainings.values()])
        spread = y + jitter.uniform(-0.18, 0.18, len(values))
        left.plot(values, spread, "D" if row.trainings else ".", color=_LIGHT, markersize=4, zorder=1)
        _interval(left, y, row.mean, row.label == comparison.reference, bool(row.trainings))
    left.set_yticks(range(len(rows)), [names[row.label] for row in rows])
    notes = [note for note in (kind.unit.strip(", "),) if note]
    means = [row.mean.estimate for row in rows]
    if max(means) > _LOG_RANGE * min(means):
        logarithmic(left, "x")
        notes.append("logarithmic")
    left.set_xlabel(kind.axis + (f" ({', '.join(notes)})" if notes else ""))
    _close_range(right, others)
    right.set_yticks(range(len(others)), [names[row.label] for row in others])
    right.set_xlabel(f"{kind.quantity} against {names[comparison.reference]} (%)")
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(-0.6, max(len(rows if axes is left else others), 1) - 0.4)
    usual = (
        f"{comparison.scenario.name}, {comparison.episodes} episodes with identical {kind.paired_by}, "
        f"seed {comparison.seed}"
    )
    figure.suptitle(usual if title is None else title, fontsize=10)
    _explain(figure, rows)
    return figure


def _close_range(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw ratios as percentages within a range around 0; what lies outside stands at its edge, as a number."""
    percent = [tuple(100 * (end - 1) for end in (row.ratio.estimate, row.ratio.low, row.ratio.high)) for row in rows]
    ends = [abs(end) for triple in percent for end in triple if np.isfinite(end)]
    reach = min(_CLOSE, max(2.0, 1.25 * max(ends, default=0.0)))
    for y, (row, (estimate, low, high)) in enumerate(zip(rows, percent, strict=True)):
        if abs(estimate) <= reach:
            shown = Interval(estimate, max(low, -reach), min(high, reach), row.ratio.method)
            _interval(axes, y, shown, False, bool(row.trainings))
            continue
        side = 1 if estimate > 0 else -1
        axes.plot([side * reach], [y], ">" if side > 0 else "<", color=_DARK, markersize=6, clip_on=False, zorder=3)
        axes.annotate(
            f"{estimate:+.0f} %",
            (side * reach, y),
            (-8 * side, 0),
            textcoords="offset points",
            ha="right" if side > 0 else "left",
            va="center",
            fontsize=8,
        )
    axes.axvline(0, color=_MID, linewidth=1, linestyle="--")
    axes.set_xlim(-reach, reach)


def _explain(figure: Figure, rows: Sequence[Row]) -> None:
    """Say in the figure what its marks are: intervals over episodes and over training seeds are not the same."""
    from matplotlib.lines import Line2D

    marks: list[Line2D] = []
    if any(not row.trainings for row in rows):
        marks.append(Line2D([], [], color=_LIGHT, marker=".", linestyle="", label="an episode"))
        marks.append(Line2D([], [], color=_DARK, marker="o", linewidth=2, label="mean, 95 % interval over episodes"))
    if any(row.trainings for row in rows):
        marks.append(Line2D([], [], color=_LIGHT, marker="D", markersize=4, linestyle="", label="a training"))
        label = "mean, 95 % interval over training seeds and episodes"
        marks.append(Line2D([], [], color=_DARK, marker="s", linewidth=4, label=label))
    marks.append(Line2D([], [], color=_DARK, marker="o", markerfacecolor="white", linestyle="", label="the reference"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=8)


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


def plot_training(
    values: Sequence[float], path: Path, title: str, label: str = "mean delay, s", window: int = 10
) -> list[Path]:
    """Draw :func:`training_figure` and write it as PNG and SVG, or as PDF.

    Args:
        values: Value of each episode.
        path: Where to.
        title: Heading.
        label: What the values are, with their unit.
        window: Episodes in the running mean.
    """
    check_plot_path(path)
    return save(training_figure(values, title, label, window), path)


@drawing
def training_figure(values: Sequence[float], title: str, label: str = "mean delay, s", window: int = 10) -> Figure:
    """Draw the learning curve: a value per training episode and its running mean.

    Args:
        values: Value of each episode.
        title: Heading.
        label: What the values are, with their unit.
        window: Episodes in the running mean.
    """
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
    return figure


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


def _interval(axes: Axes, y: float, interval: Interval, is_open: bool, over_seeds: bool) -> None:
    if np.isfinite(interval.low):
        width = 4 if over_seeds else 2
        axes.plot([interval.low, interval.high], [y, y], color=_DARK, linewidth=width, solid_capstyle="butt", zorder=2)
    face: ArrayLike | str = "white" if is_open else _DARK
    mark = "s" if over_seeds else "o"
    axes.plot([interval.estimate], [y], mark, color=_DARK, markerfacecolor=face, markersize=6, zorder=3)
