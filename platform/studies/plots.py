# SPDX-License-Identifier: Apache-2.0
"""Figures of studies from plain numbers: lines with bands, and dots with intervals, readable in grey."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.platform.canvas import (
    drawing,
    grey_safe_colours,
    logarithmic,
    new_figure,
    no_minor_ticks,
    save,
    whole_numbers,
)
from edgegen.platform.files import PLOT_ENDINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 1, 1, 1, 1, 1)))
_RULE_DASHES: tuple[Any, ...] = ((0, (1, 2)), (0, (4, 3)), (0, (8, 3)), (0, (6, 2, 1, 2)), (0, (2, 1)), "-")
_LOG_RANGE = 5.0
_MOST_MARKERS = 12


@drawing
def draw(figure: Mapping[str, Any], path: Path, endings: Sequence[str] = PLOT_ENDINGS) -> list[Path]:
    """Draw a figure and write it, in several formats.

    Args:
        figure: ``kind`` (``lines`` or ``dots``), ``panels``, and what each needs, see :func:`draw_lines` and
            :func:`draw_dots`.
        path: One of the files.
        endings: Of all of them.

    Returns:
        The files written.
    """
    drawn = (draw_lines if figure["kind"] == "lines" else draw_dots)(figure["panels"])
    return save(drawn, path, endings=endings)


@drawing
def draw_lines(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw lines with bands, a panel each, with one legend for all.

    Args:
        panels: Each with ``x_label``, ``y_label``, perhaps ``title``, ``log_x``, ``level`` (a horizontal line), and
            ``lines``: ``label``, ``rule``, ``x``, ``estimate``, ``low``, ``high``. An x that is text is a category.
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(line["label"] for panel in panels for line in panel["lines"]))
    rules = [name for name in names if _is_rule(panels, name)]
    styles = _styles([name for name in names if name not in rules], rules)
    legend_rows = math.ceil(len(names) / (3 if columns == 1 else 5))
    figure = new_figure(6.2 if columns == 1 else 10.5, 3.7 * rows + 0.25 * legend_rows)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _lines(axes, panel, styles)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in grid[: len(panels)]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3 if columns == 1 else 5, frameon=False,
        fontsize=8, handlelength=3.5,
    )  # fmt: skip
    return figure


@drawing
def draw_dots(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw estimates with intervals, one row each, panels side by side.

    Args:
        panels: Each with ``x_label``, perhaps ``level`` (a vertical line), and ``rows``, the first at the top:
            ``label``, ``rule``, ``estimate``, ``low``, ``high``, perhaps ``points``.
    """
    most = max(len(panel["rows"]) for panel in panels)
    figure = new_figure(5.2 * len(panels), 1.1 + 0.34 * most)
    grid = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, panel in zip(grid, panels, strict=True):
        rows = panel["rows"][::-1]
        if panel.get("level") is not None:
            axes.axvline(panel["level"], color="0.5", linewidth=1, linestyle="--", zorder=1)
        for y, row in enumerate(rows):
            color, face = ("0.45", "white") if row["rule"] else ("0.1", "0.1")
            points = row.get("points", [])
            axes.plot(points, [y] * len(points), "|", color="0.65", markersize=9, zorder=1)
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2, solid_capstyle="butt", zorder=2)
            axes.plot([row["estimate"]], [y], "o", color=color, markerfacecolor=face, markersize=6, zorder=3)
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.set_ylim(-0.6, most - 0.4)
        values = [value for row in rows for value in (row["estimate"], *row.get("points", []))]
        if panel.get("log", True) and min(values) > 0 and max(values) > _LOG_RANGE * min(values):
            logarithmic(axes, "x")
            panel = {**panel, "x_label": _with_note(panel["x_label"], "logarithmic")}
        axes.set_xlabel(panel["x_label"])
        _plain(axes, "x")
    return figure


def _lines(axes: Axes, panel: Mapping[str, Any], styles: Mapping[str, dict[str, Any]]) -> None:
    lines = panel["lines"]
    words = any(isinstance(x, str) for line in lines for x in line["x"])
    categories = list(dict.fromkeys(x for line in lines for x in line["x"])) if words else []
    if panel.get("level") is not None:
        axes.axhline(panel["level"], color="0.6", linewidth=1, zorder=1)
    for line in lines:
        x = np.array([categories.index(value) for value in line["x"]] if words else line["x"], dtype=np.float64)
        y, low, high = (np.array(line[part], dtype=np.float64) for part in ("estimate", "low", "high"))
        style = dict(styles[line["label"]])
        if words:
            style["linestyle"] = "none"
        every = max(1, len(x) // (_MOST_MARKERS // 2 if line["rule"] and len(x) > _MOST_MARKERS else _MOST_MARKERS))
        axes.plot(x, y, label=line["label"], markevery=every, zorder=2 if line["rule"] else 3, **style)
        if not np.isfinite(low).any():
            continue
        if words or len(x) <= _MOST_MARKERS:
            errors = np.stack([np.maximum(y - low, 0), np.maximum(high - y, 0)])
            axes.errorbar(x, y, errors, fmt="none", ecolor=style["color"], elinewidth=1, capsize=2, zorder=2)
        elif not line["rule"]:
            axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0, zorder=1)
    values = np.array([value for line in lines for value in line["estimate"]], dtype=np.float64)
    values = values[np.isfinite(values)]
    y_label = panel["y_label"]
    if values.size and values.min() > 0 and values.max() > _LOG_RANGE * values.min():
        logarithmic(axes, "y")
        y_label = _with_note(y_label, "logarithmic", long=True)
    if words:
        axes.set_xticks(range(len(categories)), categories, rotation=30, ha="right")
    elif panel.get("log_x"):
        axes.set_xscale("log")
        ticks = sorted({x for line in lines for x in line["x"]})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        no_minor_ticks(axes.xaxis)
    elif all(float(x).is_integer() for line in lines for x in line["x"]):
        whole_numbers(axes.xaxis)
    axes.set_xlabel(panel["x_label"])
    axes.set_ylabel(y_label)
    if panel.get("title"):
        axes.set_title(panel["title"], fontsize=10)
    _plain(axes, "both")


def _is_rule(panels: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(line["rule"] for panel in panels for line in panel["lines"] if line["label"] == name)


def _styles(learned: Sequence[str], rules: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of every name: luminance, dashes and markers each tell them apart."""
    colors = grey_safe_colours(len(learned))
    styles: dict[str, dict[str, Any]] = {
        name: {
            "color": colors[n],
            "linestyle": _DASHES[n % len(_DASHES)],
            "marker": _MARKERS[n % len(_MARKERS)],
            "markersize": 5,
            "linewidth": 1.6,
        }
        for n, name in enumerate(learned)
    }
    for n, name in enumerate(rules):
        grey = ("0.2", "0.45", "0.6")[n % 3]
        styles[name] = {
            "color": grey,
            "linestyle": _RULE_DASHES[n % len(_RULE_DASHES)],
            "marker": _MARKERS[(n + 3) % len(_MARKERS)],
            "markersize": 4,
            "markerfacecolor": "white",
            "linewidth": 1.1,
        }
    return styles


def _with_note(label: str, note: str, long: bool = False) -> str:
    if label.endswith(")"):
        return f"{label[:-1]}, {note})"
    return f"{label}{chr(10) if long else ' '}({note})"  # labels along the height have less room


def _plain(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="0.92")  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
