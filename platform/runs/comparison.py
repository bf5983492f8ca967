# SPDX-License-Identifier: Apache-2.0
"""Honest comparison: every policy meets identical arrivals or requests, and differences come with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import Array, Kind, Measure, Values, kind_of
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.files import check_table_path, write_text
from edgegen.platform.runs.evaluation import Results, evaluate, known_mean
from edgegen.platform.runs.statistics import (
    Interval,
    crossed_difference,
    crossed_ratio,
    improvement_probability,
    mean_interval,
    mean_ratio,
    paired_difference,
)
from edgegen.platform.screen import PlainTable
from edgegen.platform.sheet import Column, Sheet

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Row:
    """One policy of a comparison. The metric that decides is that of the kind of world.

    Attributes:
        label: Name in the table.
        information: What the policy uses beyond its own server's tasks, or its own cell's requests.
        results: Per-episode values.
        mean: Mean of the metric that decides, over episodes.
        difference: Paired difference to the reference; negative is better.
        ratio: Mean over the reference's.
        improvement: Probability that the policy is better than the reference in an episode, ties half.
        closed: Share of the way from the reference to the ceiling that the policy goes; None without a ceiling.
        trainings: Per-episode values by training seed, where several trainings of a method are pooled. ``results`` are
            then their means, and intervals cover training seeds and episodes.
    """

    label: str
    information: str
    results: Results
    mean: Interval
    difference: Interval
    ratio: Interval
    improvement: float
    closed: Interval | None = None
    trainings: Mapping[int, Results] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Policies on identical arrivals or requests, best first.

    Attributes:
        scenario: The world.
        seed: The person's seed.
        episodes: Episodes per policy.
        reference: Label of the policy the others are compared with.
        rows: One per policy, best first.
    """

    scenario: WorldScenario
    seed: int
    episodes: int
    reference: str
    rows: tuple[Row, ...]

    @property
    def kind(self) -> Kind:
        """What the policies are judged by."""
        return kind_of(self.scenario)

    def row(self, label: str) -> Row:
        """Return the row of a label."""
        return next(row for row in self.rows if row.label == label)

    def table(self) -> PlainTable:
        """Lay the comparison out for a terminal."""
        return self.sheet().to_rich()

    def sheet(self) -> Sheet:
        """Return the comparison as a table of texts."""
        kind = self.kind
        shown = [measure for measure in kind.shown if not measure.if_any or self._any(measure)]
        with_closed = any(row.closed is not None for row in self.rows)
        pooled = any(row.trainings for row in self.rows)
        columns = [
            Column("policy"),
            *([Column("trainings", number=True)] if pooled else []),
            Column(f"{kind.quantity}{kind.unit}"),
            Column(f"difference{kind.unit}"),
            Column("ratio", number=True),
            Column("better", number=True),
            *([Column("closed", number=True)] if with_closed else []),
            *(Column(measure.title, number=True, wraps=True) for measure in shown),
            Column("information used", wraps=True),
        ]
        decimals = decimals_for(min(row.mean.estimate for row in self.rows))
        rows = []
        for row in self.rows:
            base = row.label == self.reference
            rows.append(
                [
                    row.label,
                    *([str(len(row.trainings) or "")] if pooled else []),
                    row.mean.text(decimals),
                    "reference" if base else row.difference.text(decimals, sign=True),
                    "1" if base else f"{row.ratio.estimate:.3f}",
                    "" if base else f"{100 * row.improvement:.0f} %",
                    *([_percent(row.closed)] if with_closed else []),
                    *(measure_text(measure, row.results) for measure in shown),
                    row.information or "not stated",
                ]
            )
        marked = next((index for index, row in enumerate(self.rows) if row.label == self.reference), None)
        return Sheet(self._title(), self._caption(pooled, with_closed), columns, rows, marked)

    def _title(self) -> str:
        load = self.kind.size(self.scenario).get("load")
        return (
            f"{self.scenario.name}{'' if load is None else f', load {load:.2f}'}: {self.episodes} episodes with "
            f"identical {self.kind.paired_by}, seed {self.seed}"
        )

    def _caption(self, pooled: bool, with_closed: bool) -> str:
        kind = self.kind
        over = "episodes; of several trainings, over their seeds and episodes" if pooled else "episodes"
        caption = (
            f"± is a 95 % interval over {over}. Differences, ratios, and the share of episodes with a lower "
            f"{kind.quantity} (better): paired with {self.reference}."
        )
        load = kind.size(self.scenario).get("load")
        if load is not None and load > 1:
            caption += f" More work arrives than can be done (load {load:.2f}): longer episodes are worse."
        if with_closed:
            caption += f" Closed: share of the way from there to the {kind.ceiling}."
        return caption

    def _any(self, measure: Measure) -> bool:
        return any(bool(np.any(row.results[measure.metric])) for row in self.rows)

    def with_rows(self, rows: Iterable[Row]) -> Comparison:
        """Return the comparison with other rows, best first."""
        return replace(self, rows=tuple(sorted(rows, key=lambda row: row.mean.estimate)))

    def write_table(self, path: Path) -> None:
        """Write the table, as its ending says: .csv with plain numbers, .tex for ``booktabs``, or .md.

        Raises:
            InputError: If the file can not be written, or has another ending.
        """
        ending = check_table_path(path).suffix.lower()
        if ending == ".csv":
            text = self.to_frame().to_csv(index=False, lineterminator="\n")
        else:
            text = self.sheet().to_latex() if ending == ".tex" else self.sheet().to_markdown()
        write_text(path, text)

    def to_frame(self) -> DataFrame:
        """Return a row for each policy, best first, as a pandas frame: estimates, ends of intervals, and measures."""
        import pandas as pd

        kind, found = self.kind, []
        for row in self.rows:
            line: dict[str, Any] = {"policy": row.label, "trainings": len(row.trainings) or None}
            for name, interval in (
                (kind.metric, row.mean),
                (f"difference{kind.suffix}", row.difference),
                ("ratio", row.ratio),
                *([("gap_closed", row.closed)] if row.closed is not None else []),
            ):
                line |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
            line["improvement_probability"] = row.improvement
            line |= {name: known_mean(row.results[name]) for name in kind.metrics if name != kind.metric}
            found.append({**line, "information": row.information})
        return pd.DataFrame(found)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values.

        ``marl_eval`` follows the layout of instadeepai/marl-eval: environment, task, algorithm, run, step, metric.
        A run there is one seed with one array entry per episode.
        """
        kind, runs = self.kind, {}
        for row in self.rows:
            seeds = {}
            for seed, results in (row.trainings or {self.seed: row.results}).items():
                metrics: dict[str, Any] = {metric: results[metric].tolist() for metric in kind.metrics}
                # Tools of that layout expect at least one metric where more is better.
                metrics["mean_reward"] = [-value for value in metrics[kind.metric]]
                seeds[f"seed_{seed}"] = {"step_0": {"step_count": 0, **metrics}, "absolute_metrics": metrics}
            runs[row.label] = seeds
        return {
            "format": "edgegen-comparison-1",
            "scenario": self.scenario.model_dump(mode="json"),
            "seed": self.seed,
            "episodes": self.episodes,
            "reference": self.reference,
            "policies": {
                row.label: {
                    "information": row.information,
                    kind.metric: row.mean.to_json(),
                    f"difference{kind.suffix}": row.difference.to_json(),
                    "ratio": row.ratio.to_json(),
                    "improvement_probability": row.improvement,
                    **({"gap_closed": row.closed.to_json()} if row.closed is not None else {}),
                    "per_episode": row.results.to_json(),
                    **(
                        {"trainings": {str(seed): run.to_json() for seed, run in row.trainings.items()}}
                        if row.trainings
                        else {}
                    ),
                }
                for row in self.rows
            },
            "marl_eval": {kind.name: {self.scenario.name: runs}},
        }


def compare(
    scenario: WorldScenario,
    policies: Mapping[str, Policy],
    episodes: int,
    seed: int,
    reference: str | None = None,
    explore: bool = True,
    device: torch.device | str = "cpu",
    on_policy: Callable[[str], None] | None = None,
) -> Comparison:
    """Let every policy play the same evaluation episodes and compare it with the reference.

    Args:
        scenario: The world.
        policies: Policies by label, all for worlds of its kind.
        episodes: Episodes per policy.
        seed: The person's seed, for what happens from outside and for the policies' own random numbers.
        reference: Label of the policy to compare with, if not the usual one of the kind of world.
        explore: Sample actions of trained policies; otherwise take the most likely ones.
        device: Where simulator and observations live.
        on_policy: Called with each label before it plays.

    Raises:
        InputError: If the reference is not among the policies, or seed or episodes are out of range.
    """
    reference = kind_of(scenario).reference if reference is None else reference
    if reference not in policies:
        raise InputError(
            f"The reference '{reference}' is not among the compared policies {', '.join(policies)}."
            f"{did_you_mean(reference, policies)}"
        )
    results: dict[str, Results] = {}
    for label, policy in policies.items():
        if on_policy is not None:
            on_policy(label)
        results[label] = evaluate(scenario, policy, episodes, seed, explore, device).renamed(label)
    return comparison_of(results, {label: policy.information for label, policy in policies.items()}, reference)


def comparison_of(results: Mapping[str, Results], information: Mapping[str, str], reference: str) -> Comparison:
    """Compare results of the same episodes with those of the reference.

    Args:
        results: Results by label, the reference's among them.
        information: What each policy uses, by label.
        reference: Label of the policy to compare with.
    """
    base = results[reference]
    ceiling = results.get(base.kind.ceiling or "")
    rows = [row_of(label, information[label], result, base, ceiling) for label, result in results.items()]
    return Comparison(base.scenario, base.seed, base.episodes, reference, ()).with_rows(rows)


def row_of(label: str, information: str, results: Results, reference: Results, ceiling: Results | None) -> Row:
    """Judge one policy.

    Args:
        label: Name in the table.
        information: What it uses.
        results: Per-episode values.
        reference: Of the policy to compare with.
        ceiling: Of the policy that no other can beat, if it is there.
    """
    values, base = results.deciding, reference.deciding
    return Row(
        label=label,
        information=information,
        results=results,
        mean=mean_interval(values),
        difference=paired_difference(values, base),
        ratio=mean_ratio(values, base),
        improvement=improvement_probability(values, base),
        closed=_closed(values, base, None if ceiling is None else ceiling.deciding),
    )


def pooled_row(
    label: str, information: str, trainings: Mapping[int, Results], reference: Results, ceiling: Results | None
) -> Row:
    """Judge several trainings of a method together; see :func:`row_of`.

    Args:
        label: Name in the table.
        information: What they use.
        trainings: Per-episode values by training seed.
        reference: Of the policy to compare with, which was not trained.
        ceiling: Of the policy that no other can beat, if it is there.
    """
    every = list(trainings.values())
    means = {name: np.mean([one[name] for one in every], axis=0) for name in every[0].values}
    wall_s = float(np.mean([one.decision_wall_s for one in every]))
    together = replace(every[0], policy=label, values=means, decision_wall_s=wall_s)
    values, base = np.stack([one.deciding for one in every]), reference.deciding
    return replace(
        row_of(label, information, together, reference, ceiling),
        mean=crossed_difference(values, np.zeros_like(base)),
        difference=crossed_difference(values, base),
        ratio=crossed_ratio(values, base),
        improvement=improvement_probability(values.ravel(), np.tile(base, len(values))),
        trainings=trainings,
    )


def measure_text(measure: Measure, results: Results | Values) -> str:
    """Return the mean of a measure over the episodes that have it, as text; a dash if none has."""
    mean = known_mean(results[measure.metric])
    decimals = 2 if measure.decimals is None else measure.decimals
    return f"{measure.factor * mean:,.{decimals}f}" if mean is not None else "-"


def _closed(values: Array, base: Array, ceiling: Array | None) -> Interval | None:
    """Share of the way from the reference to the ceiling, as a ratio of mean differences."""
    if ceiling is None or not bool(np.all(base > ceiling)):
        return None  # nothing to close, or in some episode nothing
    return mean_ratio(base - values, base - ceiling)


def _percent(share: Interval | None) -> str:
    return "" if share is None else f"{100 * share.estimate:.0f} %"


def decimals_for(smallest: float) -> int:
    """Decimals that show at least three significant digits of the smallest value of a column."""
    return 2 if smallest >= 1 else 3 if smallest >= 0.1 else 4
