# SPDX-License-Identifier: Apache-2.0
"""Tables of a report, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgegen.platform.engine.tuning import budget_text
from edgegen.platform.engine.unit import GREEDY
from edgegen.platform.runs.comparison import decimals_for
from edgegen.platform.runs.statistics import Interval, crossed_difference, mean_interval, paired_difference
from edgegen.platform.studies.claims import published_points, published_rows, verdicts, worth_learning
from edgegen.platform.studies.data import ExperimentData, Found, Place
from edgegen.platform.studies.levels import (
    block_width,
    blocks,
    level_interval,
    place_ratio,
    ratio_blocks,
    ratio_interval,
)
from edgegen.platform.studies.plan import shown_value

_LEVELS = (1.5, 1.25, 1.1, 1.05, 1.0)
_TABLE_BLOCKS = 12
_NONE = "\N{EN DASH}"


def one_world(data: ExperimentData, place: Place) -> list[str]:
    """Every method and rule in one world, best first."""
    kind = data.kind
    base = data.base(place)
    ceiling = float(data.means(place, kind.ceiling)[0]) if kind.ceiling in data.labels else None
    decimals = decimals_for(float(min(data.means(place, label).min() for label in data.labels)))
    rows = []
    for label in sorted(data.labels, key=lambda name: float(np.mean(data.means(place, name)))):
        found = data.found(place, label)
        values = found.values(kind.metric)
        difference = crossed_difference(values, base) if found.seeded else paired_difference(values[0], base)
        better = float((values < base).mean())
        greedy = float(data.means(place, label, mode=GREEDY).mean()) if found.learned else None
        same = label == data.reference
        others = [
            f"{measure.factor * float(np.nanmean(values)):,.{measure.decimals}f}"
            if np.isfinite(values).any()
            else _NONE
            for measure in kind.shown
            if not measure.if_any
            for values in (found.values(measure.metric),)
        ]
        title = f"**{data.title(label)}**" if found.learned else data.named(label)
        closed = [] if ceiling is None else [f"{100 * (base.mean() - values.mean()) / (base.mean() - ceiling):.0f}"]
        rows.append(
            [
                title,
                level_interval(data, place, label).text(decimals),
                "reference" if same else difference.text(decimals, sign=True),
                "1" if same else place_ratio(data, place, label).text(3),
                *closed,
                "" if same else f"{100 * better:.0f}",
                "" if greedy is None else f"{greedy:.{decimals}f}",
                *([trained_on(found)] if data.learned or data.tuned else []),
                *others,
                f"{data.raw['provenance']['decision_us'][label]:,.1f}",
                data.raw["information"][label],
            ]
        )
    shown = [measure.title for measure in kind.shown if not measure.if_any]
    head = [
        "policy",
        f"{kind.quantity}{kind.unit}",
        f"difference to {data.named(data.reference)}{kind.unit}",
        "ratio",
        *([] if ceiling is None else ["closed, %"]),
        "better, % of episodes",
        "greedy",
        *(["training episodes"] if data.learned or data.tuned else []),
        *shown,
        "µs per decision",
        "information used",
    ]
    lines = [*table(head, rows), ""]
    if ceiling is not None:
        lines += [
            f"*Closed*: share of the way from {data.named(data.reference)} to the {kind.ceiling}.",
            "",
        ]
    return lines


def baseline_tables(data: ExperimentData) -> list[str]:
    """Every other method against the baseline, training by training of the same seed, on the same episodes."""
    baseline, kind = data.baseline, data.kind
    if baseline is None:
        return []
    lines: list[str] = []
    for place in data.places:
        decimals = decimals_for(float(min(data.means(place, label).min() for label in data.labels)))
        others = [label for label in (*data.learned, *data.tuned) if label != baseline]
        rows = [
            [
                data.named(label),
                to_baseline(data, place, label).text(decimals, sign=True),
                ", ".join(f"{mean:.{decimals}f}" for mean in data.means(place, label)),
            ]
            for label in sorted(others, key=lambda name: float(data.means(place, name).mean()), reverse=True)
        ]
        seeds = ", ".join(map(str, data.found(place, baseline).seeds))
        levels = ", ".join(f"{mean:.{decimals}f}" for mean in data.means(place, baseline))
        where = f" on {data.named(place[0])}" if len(data.places) > 1 else ""
        head = ["method", f"minus {data.title(baseline)}{kind.unit}", f"{kind.quantity} with seeds {seeds}{kind.unit}"]
        lines += [
            f"Against {data.title(baseline)}{where} ({levels}), paired by training seed and episode; the intervals "
            "cover both:",
            "",
            *table(head, rows),
            "",
        ]
    return lines


def to_baseline(data: ExperimentData, place: Place, label: str) -> Interval:
    """Difference of a method to the baseline of the experiment, paired by training seed and episode."""
    metric, baseline = data.kind.metric, data.found(place, str(data.baseline))
    return crossed_difference(data.found(place, label).values(metric), baseline.values(metric))


def axis_tables(data: ExperimentData) -> list[str]:
    """Levels at every value of the axis, and ratios to the reference."""
    axis, kind = data.experiment.axis, data.kind
    lines: list[str] = []
    for scenario in data.experiment.scenarios:
        places = [place for place in data.places if place[0] == scenario]
        decimals = decimals_for(float(min(data.means(p, label).min() for p in places for label in data.labels)))
        head = [axis.label if axis else "", *(data.named(label) for label in data.labels)]
        levels = [
            [shown_value(place[1] or 0), *(level_interval(data, place, label).text(decimals) for label in data.labels)]
            for place in places
        ]
        others = [label for label in data.labels if label != data.reference]
        ratios = [
            [shown_value(place[1] or 0), *(place_ratio(data, place, label).text(3) for label in others)]
            for place in places
        ]
        where = f" on {data.named(scenario)}" if len(data.experiment.scenarios) > 1 else ""
        lines += [f"{kind.quantity.capitalize()}{kind.unit}{where}:", "", *table(head, levels), ""]
        head = [head[0], *(data.named(label) for label in others)]
        lines += [f"Relative to {data.named(data.reference)}{where}:", "", *table(head, ratios), ""]
    return lines + _knowledge(data)


def _knowledge(data: ExperimentData) -> list[str]:
    """What each policy knows, for tables that have no column for it."""
    rows = [[data.named(label), data.raw["information"][label]] for label in data.labels]
    return [*table(["policy", "information used"], rows), ""]


def trained_on(found: Found) -> str:
    """Training episodes of a method or of a tuned rule, with what they were divided into."""
    if not found.tuning:
        return str(found.episodes) if found.learned else ""
    spent = found.tuning[0]
    final = spent.played - spent.trials * spent.episodes
    return f"{spent.trials} \N{MULTIPLICATION SIGN} {spent.episodes} + {final}"


def budgets(data: ExperimentData) -> list[str]:
    """Return what tunings took, a clause for each rule: trials × episodes × requests."""
    found = {label: data.found(data.places[0], label) for label in data.tuned}
    return [f"{data.named(label)}: {budget_text(one.tuning, one.episodes)}" for label, one in found.items()]


def many_worlds(data: ExperimentData) -> list[str]:
    """Levels in every world, all of them together, and where learning pays."""
    kind = data.kind
    head = [
        f"{kind.quantity}{kind.unit}",
        *(data.named(scenario) for scenario, _ in data.places),
        f"all, over {data.named(data.reference)}",
    ]
    decimals = {
        place: decimals_for(float(min(data.means(place, label).min() for label in data.labels)))
        for place in data.places
    }
    rows = [
        [
            f"**{data.title(label)}**" if label in data.learned else data.named(label),
            *(level_interval(data, place, label).text(decimals[place]) for place in data.places),
            ratio_interval(data, label).text(3),
        ]
        for label in sorted(data.labels, key=lambda name: float(np.mean([data.ratios(p, name) for p in data.places])))
    ]
    lines = [*table(head, rows), ""]
    lines += _knowledge(data)
    pays = [(place, found) for place in data.places if (found := worth_learning(data, place)) is not None]
    if pays:
        head = ["scenario", "best rule", "", "best learned", "", f"learned minus rule{kind.unit}", ""]
        keys = ["rule", "rule_level", "method", "method_level", "difference", "verdict"]
        if knowing := pays[0][1]["knowing"]:
            head.append(f"learned over {data.named(knowing)}")
            keys.append("to_knowing")
        lines += [
            "Where learning pays: the best learned method against the best rule, tuned or not, that uses nothing that "
            "no scheduler can know.",
            "",
            *table(head, [[data.named(place[0]), *(found[key] for key in keys)] for place, found in pays]),
            "",
        ]
    return lines


def training_tables(data: ExperimentData) -> list[str]:
    """Learning curves as numbers, and how soon methods come near the reference."""
    lines: list[str] = []
    for place in data.places:
        labels = [label for label in data.labels if data.found(place, label).curves.size]
        longest = max(data.found(place, label).curves.shape[1] for label in labels)
        width = block_width(longest, _TABLE_BLOCKS)
        decimals = 2
        ends: list[int] = []
        rows = []
        for label in labels:
            found = data.found(place, label)
            whole = found.curves.shape[1] // width
            if whole == 0:
                continue
            means = found.curves[:, : whole * width].reshape(len(found.curves), whole, width).mean(axis=2).mean(axis=0)
            ends = max(ends, [int(end) for end in np.arange(1, whole + 1) * width], key=len)
            rows.append([data.named(label), *(f"{value:.{decimals}f}" for value in means)])
        rows = [[*row, *[""] * (len(ends) + 1 - len(row))] for row in rows]
        head = ["training episodes", *(f"{end - width + 1}\N{EN DASH}{end}" if width > 1 else str(end) for end in ends)]
        where = f" on {data.named(place[0])}" if len(data.places) > 1 else ""
        lines += [
            f"{data.kind.quantity.capitalize()}{data.kind.unit} while training{where}, mean over seeds; rules on the "
            f"same {data.kind.paired_by}:",
            "",
            *table(head, rows),
            "",
        ]
    if data.learned:
        lines += _soon(data)
    return lines


def _soon(data: ExperimentData) -> list[str]:
    """After how many training episodes the mean over seeds first reaches a multiple of the reference."""
    rows = []
    for label in data.learned:
        x, strata = ratio_blocks(data, label)
        mean = np.concatenate(strata).mean(axis=0)
        reached = [np.flatnonzero(mean <= level) for level in _LEVELS]
        rows.append([data.title(label), *(f"{x[at[0]]:.0f}" if at.size else "not reached" for at in reached)])
    episodes = data.found(data.places[0], data.learned[0]).curves.shape[1]
    width = int(blocks(np.zeros((1, episodes)))[0][0])
    head = [
        "episodes until at most",
        *(f"{level:g} \N{MULTIPLICATION SIGN} {data.named(data.reference)}" for level in _LEVELS),
    ]
    return [*table(head, rows), "", f"By means over {width} episode{'s' * (width > 1)} and all seeds.", ""]


def published_tables(data: ExperimentData) -> list[str]:
    """Published numbers and statements beside ours."""
    published = data.experiment.published
    if published is None:
        return []
    lines = ["### Published numbers", "", published.source.strip(), ""]
    if rows := published_rows(data):
        best = rows[0]["best"]
        head = [
            "method", f"published{data.kind.unit}", f"published, over {best}", f"ours{data.kind.unit}",
            f"ours, over {best}", f"ours, over {data.named(data.reference)}",
        ]  # fmt: skip
        cells = [
            [
                row["label"],
                f"{row['published']:.2f}",
                f"{row['published_ratio']:.3f}",
                _text(row.get("ours"), 2),
                "1" if row["label"] == best else _text(row.get("to_best"), 3),
                _text(row.get("to_reference"), 3),
            ]
            for row in rows
        ]
        lines += [*table(head, cells), ""]
    if points := published_points(data):
        episodes = sorted({point["episode"] for point in points})
        titles = list(dict.fromkeys(point["label"] for point in points))
        by_key = {(point["label"], point["episode"]): point for point in points}
        cells = []
        for title in titles:
            row = [title]
            for episode in episodes:
                point = by_key.get((title, episode))
                row.append("" if point is None else f"{point['published']:.1f} / {point['ours'].estimate:.1f}")
            cells.append(row)
        head = ["published / ours at episode", *map(str, episodes)]
        lines += ["Ours: IQM over seeds of the mean over the ten episodes around.", "", *table(head, cells), ""]
    if judged := verdicts(data):
        head = ["published statement", "our data", "evidence"]
        lines += [*table(head, [[v.text, f"**{v.verdict}**", v.evidence] for v in judged]), ""]
    return lines


def _text(interval: Any, decimals: int) -> str:
    return "not run" if interval is None else interval.text(decimals)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]


def tables_json(data: ExperimentData) -> dict[str, Any]:
    """Return the numbers of an experiment's tables as plain values."""
    places: list[Mapping[str, Any]] = []
    for place in data.places:
        policies = {}
        for label in data.labels:
            found = data.found(place, label)
            values, base = found.values(data.kind.metric), data.base(place)
            policies[label] = {
                "title": data.title(label),
                "learned": found.learned,
                "information": data.raw["information"][label],
                data.kind.metric: level_interval(data, place, label).to_json(),
                "mean": mean_interval(values.mean(axis=1) if found.seeded else values[0]).to_json(),
                "difference": crossed_difference(values, base).to_json(),
                "ratio": place_ratio(data, place, label).to_json(),
                "better_share": float((values < base).mean()),
                **({"tuning": [vars(spent) for spent in found.tuning]} if found.tuning else {}),
            }
            if data.baseline is not None and found.learned:
                policies[label]["to_baseline"] = to_baseline(data, place, label).to_json()
        places.append({"scenario": place[0], "value": place[1], "policies": policies})
    return {
        "format": "edgegen-tables-1",
        "experiment": data.name,
        "reference": data.reference,
        **({} if data.baseline is None else {"baseline": data.baseline}),
        "evaluation": data.raw["evaluation"],
        "places": places,
        "verdicts": [verdict.to_json() for verdict in verdicts(data)],
    }
