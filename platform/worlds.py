"""Kinds of worlds: what evaluating and comparing policies means in each, so that every command works for all.

Offloading policies are judged by the mean service delay, provisioning policies by the mean cost of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from edgegen.algorithms.core.catalog import make_policy, make_provisioning_policy, provisioning_rules
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.rules.offloading import RULES
from edgegen.envs.core.scenario_files import scenario_kind
from edgegen.envs.offloading.scenario import OffloadingScenario, load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario, load_provisioning
from edgegen.platform.runs.episodes import Array
from edgegen.platform.runs.evaluation import EpisodeResults
from edgegen.platform.runs.provisioning_evaluation import ProvisioningResults

World = OffloadingScenario | ProvisioningScenario
AnyPolicy = Policy | ProvisioningPolicy
Results = EpisodeResults | ProvisioningResults


@dataclass(frozen=True)
class Measure:
    """A quantity that a table shows beside the one that decides.

    Attributes:
        title: Heading, with the unit.
        metric: Attribute of the results.
        decimals: Digits after the point; None for as many as what decides has.
        factor: What the values are multiplied by.
        if_any: Shown only if some value is not zero.
    """

    title: str
    metric: str
    decimals: int | None = 2
    factor: float = 1.0
    if_any: bool = False


@dataclass(frozen=True)
class Kind:
    """What policies of one kind of world are judged by, and how they are named.

    Attributes:
        name: Name of the kind, also of the environment in the layout of marl-eval.
        metric: Attribute of the results that decides; lower is better.
        quantity: What it is called in tables.
        axis: What it is called on the axis of a plot.
        suffix: Unit of the metric as in names, for example ``_s``.
        unit: Unit of the metric as in headings, for example ``, s``.
        paired_by: What is identical for all policies.
        reference: The rule a learned policy has to beat to be worth its cost.
        ceiling: The policy that no other can beat, if there is one.
        averaged: What means are taken over, as a sentence.
        counted: What is counted in the last rows of an evaluation.
        interval_name: What the interval of the metric is called in files.
        metrics: All metrics, one value per episode each.
        shown: Further columns of a comparison.
        detailed: Further rows of an evaluation; parts of the row above are indented.
    """

    name: str
    metric: str
    quantity: str
    axis: str
    suffix: str
    unit: str
    paired_by: str
    reference: str
    ceiling: str | None
    averaged: str
    counted: str
    interval_name: str
    metrics: tuple[str, ...]
    shown: tuple[Measure, ...]
    detailed: tuple[Measure, ...]

    def values(self, results: Results) -> Array:
        """Return what decides, one value per episode ``[K]``."""
        values: Array = getattr(results, self.metric)
        return values


OFFLOADING = Kind(
    name="offloading",
    metric="mean_delay_s",
    quantity="delay",
    axis="mean service delay of an episode",
    suffix="_s",
    unit=", s",
    paired_by="arrivals",
    reference="capacity-weighted",
    ceiling=None,
    averaged="Delays are averaged over tasks.",
    counted="tasks",
    interval_name="mean_delay_interval_s",
    metrics=("mean_delay_s", "transfer_s", "wait_s", "compute_s", "return_s", "p95_delay_s", "p99_delay_s"),
    shown=(),
    detailed=(
        Measure("  transfer, s", "transfer_s", None),
        Measure("  wait, s", "wait_s", None),
        Measure("  compute, s", "compute_s", None),
        Measure("  return, s", "return_s", None),
        Measure("p95 delay, s", "p95_delay_s", None),
        Measure("p99 delay, s", "p99_delay_s", None),
    ),
)

PROVISIONING = Kind(
    name="provisioning",
    metric="mean_cost",
    quantity="cost",
    axis="mean cost of a request in an episode",
    suffix="",
    unit="",
    paired_by="requests",
    reference="popular-static",
    ceiling="oracle",
    averaged="Cost, delay and TV are averaged over requests.",
    counted="requests",
    interval_name="mean_cost_interval",
    metrics=(
        "mean_cost",
        "delay_s",
        "uplink_s",
        "backhaul_s",
        "generation_s",
        "downlink_s",
        "tv",
        "hit_ratio",
        "useless_hits",
        "late_share",
        "fetch_s",
        "overflow_gb",
    ),
    shown=(
        Measure("delay, s", "delay_s"),
        Measure("TV", "tv"),
        Measure("hits, %", "hit_ratio", 1, 100),
        Measure("useless, %", "useless_hits", 1, 100),
        Measure("late, %", "late_share", 1, 100, if_any=True),
        Measure("fetch, s", "fetch_s", 0),
        Measure("overflow, GB", "overflow_gb", 2, if_any=True),
    ),
    detailed=(
        Measure("mean delay, s", "delay_s"),
        Measure("  uplink, s", "uplink_s"),
        Measure("  backhaul, s", "backhaul_s"),
        Measure("  generation, s", "generation_s"),
        Measure("  downlink, s", "downlink_s"),
        Measure("mean TV", "tv"),
        Measure("hits, % of requests", "hit_ratio", 1, 100),
        Measure("useless steps, % of hits", "useless_hits", 1, 100),
        Measure("late, % of requests", "late_share", 1, 100),
        Measure("fetching models, s per frame", "fetch_s", 1),
        Measure("storage overflow, GB per frame", "overflow_gb"),
    ),
)


def kind_of(world: World) -> Kind:
    """Return the kind of a world."""
    return PROVISIONING if isinstance(world, ProvisioningScenario) else OFFLOADING


def load_world(name_or_path: str, overrides: Callable[[Collection[str]], dict[str, Any]] | None = None) -> World:
    """Load a scenario of any kind.

    Args:
        name_or_path: ``name``, ``name:variant``, or the path of a file.
        overrides: Gives values by dotted field name, once it is known which fields the scenario has.

    Raises:
        InputError: If the scenario or a field is unknown, or a value is impossible.
    """
    if scenario_kind(name_or_path) == PROVISIONING.name:
        return load_provisioning(
            name_or_path, overrides(set(ProvisioningScenario.model_fields) - {"kind"}) if overrides else None
        )
    return load_scenario(name_or_path, overrides(OffloadingScenario.model_fields) if overrides else None)


def rules_for(world: World) -> list[str]:
    """Names of the rules and benchmarks that can play a world, without any training."""
    return provisioning_rules(world) if isinstance(world, ProvisioningScenario) else list(RULES)


def policy_for(name_or_path: str, world: World, seed: int) -> AnyPolicy:
    """Make a rule or a benchmark, or load a trained policy.

    Raises:
        InputError: If there is no such policy, or it does not fit the world.
    """
    if isinstance(world, ProvisioningScenario):
        return make_provisioning_policy(name_or_path, world, seed)
    return make_policy(name_or_path, world, seed)
