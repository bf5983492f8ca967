"""Honest comparison: every policy meets identical arrivals or requests, and differences come with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import Array, Kind, Measure, Values, kind_of
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.runs.evaluation import Results, evaluate, known_mean
from edgegen.platform.runs.statistics import (
    Interval,
    improvement_probability,
    mean_interval,
    mean_ratio,
    paired_difference,
)
from edgegen.platform.screen import PlainTable


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
    """

    label: str
    information: str
    results: Results
    mean: Interval
    difference: Interval
    ratio: Interval
    improvement: float
    closed: Interval | None = None


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
        kind = self.kind
        shown = [measure for measure in kind.shown if not measure.if_any or self._any(measure)]
        with_closed = any(row.closed is not None for row in self.rows)
        caption = (
            f"± is a 95 % interval over episodes. Differences, ratios, and the share of episodes with a lower "
            f"{kind.quantity} (better): paired with {self.reference}."
        )
        load = kind.size(self.scenario).get("load")
        if load is not None and load > 1:
            caption += f" More work arrives than can be done (load {load:.2f}): longer episodes are worse."
        if with_closed:
            caption += f" Closed: share of the way from there to the {kind.ceiling}."
        table = PlainTable(
            title=f"{self.scenario.name}{'' if load is None else f', load {load:.2f}'}: {self.episodes} episodes with "
            f"identical {kind.paired_by}, seed {self.seed}",
            caption=caption,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("policy", no_wrap=True)
        table.add_column(f"{kind.quantity}{kind.unit}", no_wrap=True)
        table.add_column(f"difference{kind.unit}", no_wrap=True)
        table.add_column("ratio", justify="right", no_wrap=True)
        table.add_column("better", justify="right", no_wrap=True)
        if with_closed:
            table.add_column("closed", justify="right", no_wrap=True)
        for measure in shown:
            table.add_column(measure.title, justify="right")
        table.add_column("information used")
        decimals = decimals_for(min(row.mean.estimate for row in self.rows))
        for row in self.rows:
            base = row.label == self.reference
            table.add_row(
                row.label,
                row.mean.text(decimals),
                "reference" if base else row.difference.text(decimals, sign=True),
                "1" if base else f"{row.ratio.estimate:.3f}",
                "" if base else f"{100 * row.improvement:.0f} %",
                *([_percent(row.closed)] if with_closed else []),
                *(measure_text(measure, row.results) for measure in shown),
                row.information or "not stated",
                style="bold" if base else None,
            )
        return table

    def _any(self, measure: Measure) -> bool:
        return any(bool(np.any(row.results[measure.metric])) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values.

        ``marl_eval`` follows the layout of instadeepai/marl-eval: environment, task, algorithm, run, step, metric.
        A run there is one seed with one array entry per episode.
        """
        kind, runs = self.kind, {}
        for row in self.rows:
            metrics: dict[str, Any] = {metric: row.results[metric].tolist() for metric in kind.metrics}
            # Tools of that layout expect at least one metric where more is better.
            metrics["mean_reward"] = [-value for value in metrics[kind.metric]]
            runs[row.label] = {
                f"seed_{self.seed}": {"step_0": {"step_count": 0, **metrics}, "absolute_metrics": metrics}
            }
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
    of_reference = results[reference]
    kind = of_reference.kind
    values = {label: result.deciding for label, result in results.items()}
    base, ceiling = values[reference], values.get(kind.ceiling or "")
    rows = [
        Row(
            label=label,
            information=information[label],
            results=result,
            mean=mean_interval(values[label]),
            difference=paired_difference(values[label], base),
            ratio=mean_ratio(values[label], base),
            improvement=improvement_probability(values[label], base),
            closed=_closed(values[label], base, ceiling),
        )
        for label, result in results.items()
    ]
    rows.sort(key=lambda row: row.mean.estimate)
    return Comparison(of_reference.scenario, of_reference.seed, of_reference.episodes, reference, tuple(rows))


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
