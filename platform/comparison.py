"""Honest comparison: every policy meets identical arrivals, and differences come with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgegen.algorithms.policy import Policy
from edgegen.envs.errors import InputError, did_you_mean
from edgegen.envs.scenario import Scenario
from edgegen.platform.evaluation import EpisodeResults, run_episodes
from edgegen.platform.statistics import (
    Interval,
    improvement_probability,
    mean_interval,
    mean_ratio,
    paired_difference,
)

DEFAULT_REFERENCE = "capacity-weighted"
"""The static rule that a learned policy has to beat to be worth its cost."""

_METRICS = ("mean_delay_s", "transfer_s", "wait_s", "compute_s", "return_s", "p95_delay_s", "p99_delay_s")


@dataclass(frozen=True)
class Row:
    """One policy of a comparison.

    Attributes:
        label: Name in the table.
        information: What the policy uses beyond its own server's tasks.
        results: Per-episode values.
        mean: Mean delay over episodes, s.
        difference: Paired difference of the mean delay to the reference, s; negative is better.
        ratio: Mean delay over the reference's.
        improvement: Probability that the policy's delay in an episode is below the reference's, ties half.
    """

    label: str
    information: str
    results: EpisodeResults
    mean: Interval
    difference: Interval
    ratio: Interval
    improvement: float


@dataclass(frozen=True)
class Comparison:
    """Policies on identical arrivals, best first.

    Attributes:
        scenario: The world.
        seed: The person's seed.
        episodes: Episodes per policy.
        reference: Label of the policy the others are compared with.
        rows: One per policy, lowest mean delay first.
    """

    scenario: Scenario
    seed: int
    episodes: int
    reference: str
    rows: tuple[Row, ...]

    def row(self, label: str) -> Row:
        """Return the row of a label."""
        return next(row for row in self.rows if row.label == label)

    def table(self) -> Table:
        """Lay the comparison out for a terminal."""
        table = Table(
            title=f"{self.scenario.name}: {self.episodes} episodes with identical arrivals, seed {self.seed}",
            caption=f"± is a 95 % interval over episodes. Differences, ratios, and the share of episodes with a lower "
            f"delay (better): paired with {self.reference}.",
            title_justify="left",
            caption_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("policy", no_wrap=True)
        table.add_column("delay, s", no_wrap=True)
        table.add_column("difference, s", no_wrap=True)
        table.add_column("ratio", justify="right", no_wrap=True)
        table.add_column("better", justify="right", no_wrap=True)
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
                row.information or "not stated",
                style="bold" if base else None,
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values.

        ``marl_eval`` follows the layout of instadeepai/marl-eval: environment, task, algorithm, run, step, metric.
        A run there is one seed with one array entry per episode.
        """
        runs = {}
        for row in self.rows:
            metrics: dict[str, Any] = {metric: getattr(row.results, metric).tolist() for metric in _METRICS}
            # Tools of that layout expect at least one metric where more is better.
            metrics["mean_reward"] = [-delay for delay in metrics["mean_delay_s"]]
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
                    "mean_delay_s": row.mean.to_json(),
                    "difference_s": row.difference.to_json(),
                    "ratio": row.ratio.to_json(),
                    "improvement_probability": row.improvement,
                    "per_episode": row.results.to_json(),
                }
                for row in self.rows
            },
            "marl_eval": {"offloading": {self.scenario.name: runs}},
        }


def compare(
    scenario: Scenario,
    policies: Mapping[str, Policy],
    episodes: int,
    seed: int,
    reference: str = DEFAULT_REFERENCE,
    explore: bool = True,
    device: torch.device | str = "cpu",
    on_policy: Callable[[str], None] | None = None,
) -> Comparison:
    """Let every policy play the same evaluation episodes and compare it with the reference.

    Args:
        scenario: The world.
        policies: Policies by label.
        episodes: Episodes per policy.
        seed: The person's seed, for arrivals and for the policies' own random numbers.
        reference: Label of the policy to compare with.
        explore: Sample actions of trained policies; otherwise take the most likely ones.
        device: Where simulator and observations live.
        on_policy: Called with each label before it plays.

    Raises:
        InputError: If the reference is not among the policies, or seed or episodes are out of range.
    """
    if reference not in policies:
        raise InputError(
            f"The reference '{reference}' is not among the compared policies {', '.join(policies)}."
            f"{did_you_mean(reference, policies)}"
        )
    results: dict[str, EpisodeResults] = {}
    for label, policy in policies.items():
        if on_policy is not None:
            on_policy(label)
        results[label] = run_episodes(scenario, policy, episodes, seed, explore, device).renamed(label)
    base = results[reference].mean_delay_s
    rows = [
        Row(
            label=label,
            information=policies[label].information,
            results=result,
            mean=mean_interval(result.mean_delay_s),
            difference=paired_difference(result.mean_delay_s, base),
            ratio=mean_ratio(result.mean_delay_s, base),
            improvement=improvement_probability(result.mean_delay_s, base),
        )
        for label, result in results.items()
    ]
    rows.sort(key=lambda row: row.mean.estimate)
    return Comparison(scenario, seed, episodes, reference, tuple(rows))


def decimals_for(smallest: float) -> int:
    """Decimals that show at least three significant digits of the smallest value of a column."""
    return 2 if smallest >= 1 else 3 if smallest >= 0.1 else 4
