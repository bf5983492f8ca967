# SPDX-License-Identifier: Apache-2.0
"""Figures as targets: each knows the numbers it shows, and is drawn again only if they or its files are not there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.envs.core.kinds import Array, Kind
from edgegen.platform.files import PDF, PLOT_ENDINGS, draw_or_tell, write_json
from edgegen.platform.runs.statistics import (
    Band,
    Interval,
    improvement_interval,
    iqm_band,
    profile_band,
)
from edgegen.platform.studies.data import ExperimentData
from edgegen.platform.studies.levels import (
    block_width,
    blocks,
    level_interval,
    place_ratio,
    ratio_blocks,
    ratio_interval,
)
from edgegen.platform.studies.plots import draw

logger = logging.getLogger(__name__)

FIGURE_FOLDER = "figures"
STAMPS_FILE = "drawn.json"
STYLE = 3
"""Raised when figures look different, so that all are drawn again."""
_THRESHOLDS = 80


@dataclass(frozen=True)
class FigureTarget:
    """A figure that can be drawn.

    Attributes:
        name: Name of its files, without ending.
        caption: What it shows, one or two sentences.
        figure: The numbers, see :func:`edgegen.platform.studies.plots.draw`.
    """

    name: str
    caption: str
    figure: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hash of all that the figure depends on."""
        text = json.dumps([STYLE, self.figure], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def files(self, folder: Path, endings: Sequence[str]) -> list[Path]:
        """Its files in a folder."""
        return [folder / f"{self.name}{ending}" for ending in endings]


def draw_missing(targets: Iterable[FigureTarget], folder: Path, pdf: bool = False) -> list[str]:
    """Draw the figures whose files are missing, or were drawn of other numbers; returns their names.

    Args:
        targets: All figures.
        folder: Where their files are: .png and .svg.
        pdf: Whether there is to be a .pdf, too.
    """
    endings = (*PLOT_ENDINGS, PDF) if pdf else PLOT_ENDINGS
    stamps = _stamps(folder)
    drawn = []
    for target in targets:
        if stamps.get(target.name) == target.digest and all(path.exists() for path in target.files(folder, endings)):
            continue
        if not draw_or_tell(partial(draw, target.figure, folder / f"{target.name}.png", endings), logger.warning):
            continue
        stamps[target.name] = target.digest
        drawn.append(target.name)
        write_json(folder / STAMPS_FILE, stamps)
    return drawn


def _stamps(folder: Path) -> dict[str, str]:
    try:
        stamps: dict[str, str] = json.loads((folder / STAMPS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps


def targets_of(data: ExperimentData) -> list[FigureTarget]:
    """Return the figures of an experiment."""
    makers = {
        "curves": _curves,
        "efficiency": _efficiency,
        "final": _final,
        "improvement": _improvement,
        "profile": _profile,
        "axis": _axis,
    }
    targets = []
    for kind in data.experiment.figures:
        if kind == "improvement" and len(data.learned) < 2:
            continue
        if kind in ("curves", "efficiency") and not data.learned:
            continue
        caption, figure = makers[kind](data)
        targets.append(FigureTarget(f"{data.name}-{kind}", caption, figure))
    return targets


def metric_label(kind: Kind, metric: str) -> str:
    """What a metric is called on an axis."""
    if metric == kind.metric:
        return f"mean {kind.quantity}" + (f" ({kind.unit.strip(', ')})" if kind.unit else "")
    words = {"hit_ratio": "hits (share of requests)", "tv": "total variation (grey levels)"}
    if metric in words:
        return words[metric]
    return f"{metric.removesuffix('_s').replace('_', ' ')} (s)" if metric.endswith("_s") else metric.replace("_", " ")


def _line(label: str, rule: bool, x: Sequence[Any] | Array, band: Band | Sequence[Interval]) -> dict[str, Any]:
    if not isinstance(band, Band):
        band = Band(*(np.array([getattr(point, part) for point in band]) for part in ("estimate", "low", "high")))
    parts = {part: _numbers(getattr(band, part)) for part in ("estimate", "low", "high")}
    return {"label": label, "rule": rule, "x": list(x), **parts}


def _numbers(values: Array) -> list[float | None]:
    """Values as JSON has them, with as many digits as a figure can show."""
    return [float(f"{value:.8g}") if np.isfinite(value) else None for value in values]


def _dot(label: str, rule: bool, interval: Interval, points: Array | None = None) -> dict[str, Any]:
    values = np.array([interval.estimate, interval.low, interval.high])
    estimate, low, high = _numbers(values)
    return {
        "label": label,
        "rule": rule,
        "estimate": estimate,
        "low": low,
        "high": high,
        "points": [] if points is None else _numbers(points),
    }


def _curves(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    panels = []
    for place in data.places:
        lines = []
        for label in data.labels:
            found = data.found(place, label)
            x, means = blocks(found.curves)
            lines.append(_line(data.title(label), not found.learned, x, iqm_band([means])))
        title = data.title(place[0]) if len(data.places) > 1 else ""
        y_label = metric_label(data.kind, data.kind.metric)
        panels.append({"x_label": "training episode", "y_label": y_label, "title": title, "lines": lines})
    width = block_width(data.found(data.places[0], data.learned[0]).curves.shape[1])
    caption = (
        f"{data.kind.quantity.capitalize()} while training, exploration included: interquartile mean over training "
        f"seeds of means over {_episodes(width)}, with 95 % t bands; rules on the same "
        f"{data.kind.paired_by}."
    )
    return caption, {"kind": "lines", "panels": panels}


def _efficiency(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    lines = []
    for label in data.learned:
        x, strata = ratio_blocks(data, label)
        lines.append(_line(data.title(label), False, x, iqm_band(strata)))
    panel: dict[str, Any] = {
        "x_label": "training episode",
        "y_label": f"{data.kind.quantity} relative to {data.title(data.reference)}",
        "level": 1.0,
        "lines": lines,
    }
    caption = (
        f"Sample efficiency: {data.kind.quantity} while training over that of {data.title(data.reference)} on the same "
        f"{data.kind.paired_by}, interquartile mean over training seeds"
        + (" and scenarios" if len(data.places) > 1 else "")
        + ", with 95 % t bands. Below the line a learner is better than the static rule."
    )
    return caption, {"kind": "lines", "panels": [panel]}


def _final(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    single = len(data.places) == 1
    ordered = sorted(data.labels, key=lambda label: float(np.mean([data.ratios(p, label) for p in data.places])))
    ratio_rows = []
    for label in ordered:
        strata = [data.ratios(place, label) for place in data.places]
        points = strata[0] if single and data.found(data.places[0], label).seeded else None
        rule = label not in data.learned
        ratio_rows.append(_dot(data.title(label), rule, ratio_interval(data, label), points))
    panels: list[dict[str, Any]] = []
    if single:
        rows = [
            _dot(
                data.title(label),
                label not in data.learned,
                level_interval(data, data.places[0], label),
                data.means(data.places[0], label) if data.found(data.places[0], label).seeded else None,
            )
            for label in ordered
        ]
        panels.append({"x_label": metric_label(data.kind, data.kind.metric), "rows": rows})
    panels.append(
        {"x_label": f"{data.kind.quantity} relative to {data.title(data.reference)}", "level": 1.0, "rows": ratio_rows}
    )
    caption = (
        f"After training, {data.raw['evaluation']['episodes']} evaluation episodes with identical "
        f"{data.kind.paired_by}. Filled: learned, interquartile mean over training seeds with its 95 % t "
        "interval"
        + (", a tick for every seed" if single else ", over seeds and scenarios")
        + ". Open: rules and benchmarks, mean over episodes with its 95 % interval"
        + ("; those that were tuned like learned ones." if data.tuned else ".")
    )
    return caption, {"kind": "dots", "panels": panels}


def _improvement(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    first = data.learned[0]
    rows = []
    for other in data.learned[1:]:
        own = [data.means(place, first) for place in data.places]
        theirs = [data.means(place, other) for place in data.places]
        rows.append(
            _dot(f"{data.title(first)} better than {data.title(other)}", False, improvement_interval(own, theirs))
        )
    panel: dict[str, Any] = {"x_label": "probability of improvement", "level": 0.5, "rows": rows, "log": False}
    caption = (
        f"Probability that a training of {data.title(first)} ends with a lower {data.kind.quantity} than a training of "
        "the other method, with 95 % t intervals."
    )
    return caption, {"kind": "dots", "panels": [panel]}


def _profile(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    by_label = {}
    for label in data.labels:
        if label == data.reference:
            continue
        by_label[label] = [data.found(p, label).values(data.kind.metric) / data.base(p) for p in data.places]
    shown = data.learned or list(by_label)
    pooled = np.concatenate([np.ravel(values) for label in shown for values in by_label[label]])
    low, high = np.percentile(pooled, (0, 98))
    thresholds = np.linspace(min(low, 0.98), max(high, 1.02), _THRESHOLDS)
    lines = [
        _line(data.title(label), label not in data.learned, _numbers(thresholds), profile_band(strata, thresholds))
        for label, strata in by_label.items()
    ]
    panel = {
        "x_label": f"{data.kind.quantity} relative to {data.title(data.reference)}, at most",
        "y_label": "share of evaluation episodes",
        "lines": lines,
    }
    caption = (
        f"Performance profile: share of evaluation episodes, over all seeds, in which the {data.kind.quantity} is at "
        f"most so many times that of {data.title(data.reference)}; higher is better. Bands: 95 % t intervals over "
        "seeds."
    )
    return caption, {"kind": "lines", "panels": [panel]}


def _axis(data: ExperimentData) -> tuple[str, dict[str, Any]]:
    axis = data.experiment.axis
    if axis is None:
        raise ValueError(f"experiment {data.name} has no axis")
    metrics = data.experiment.metrics or (data.kind.metric,)
    panels = []
    for scenario in data.experiment.scenarios:
        places = [place for place in data.places if place[0] == scenario]
        x = [place[1] for place in places]
        head: dict[str, Any] = {
            "x_label": axis.label,
            "log_x": axis.log,
            "title": data.title(scenario) if len(data.experiment.scenarios) > 1 else "",
        }
        for metric in metrics:
            lines = [
                _line(
                    data.title(label),
                    label not in data.learned,
                    x,
                    [level_interval(data, p, label, metric) for p in places],
                )
                for label in data.labels
            ]
            panels.append({**head, "y_label": metric_label(data.kind, metric), "lines": lines})
        if len(metrics) == 1:
            lines = [
                _line(data.title(label), label not in data.learned, x, [place_ratio(data, p, label) for p in places])
                for label in data.labels
                if label != data.reference
            ]
            y_label = f"{data.kind.quantity} relative to {data.title(data.reference)}"
            panels.append({**head, "y_label": y_label, "level": 1.0, "lines": lines})
    caption = (
        f"{data.raw['evaluation']['episodes']} evaluation episodes with identical {data.kind.paired_by} at every value."
        f" Learned{' and tuned' if data.tuned else ''}: interquartile mean over training seeds with 95 % t intervals; "
        "rules: mean over episodes with 95 % intervals."
    )
    return caption, {"kind": "lines", "panels": panels}


def _episodes(width: int) -> str:
    return "each episode" if width == 1 else f"{width} episodes"
