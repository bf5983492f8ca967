# SPDX-License-Identifier: Apache-2.0
"""The provisioning kind: what is particular about it, for everything that works for every kind."""

from __future__ import annotations

from collections.abc import Sequence

from edgegen.envs.core.kinds import Column, Kind, Measure
from edgegen.envs.provisioning.agents import ProvisioningAgents
from edgegen.envs.provisioning.meter import CostMeter, requests_per_episode
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import ProvisioningWorld


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


KIND = Kind(
    name="provisioning",
    scenario=ProvisioningScenario,
    world=ProvisioningWorld,
    meter=CostMeter,
    agents=ProvisioningAgents,
    default_scenario="t2drl-contended",
    # Curves and draws hold some sixteen numbers per request.
    entries=lambda scenario: 16 * requests_per_episode(scenario),
    size=lambda scenario: {"cells": scenario.cells, "users": scenario.users, "models": scenario.models},
    rounds=lambda scenario: scenario.frames,
    slots_per_round=lambda scenario: scenario.slots_per_frame,
    shape=lambda scenario: {"cells": scenario.cells, "users": scenario.users, "models": scenario.models},
    effort=lambda scenario: (scenario.slots, scenario.cells, scenario.users, scenario.models),
    metric="mean_cost",
    quantity="cost",
    axis="mean cost of a request in an episode",
    interval_name="mean_cost_interval",
    paired_by="requests",
    seed_name="request_seed",
    counted="requests",
    constant=lambda scenario: {"requests": requests_per_episode(scenario)},
    reference="popular-static",
    ceiling="oracle",
    averaged="Cost, delay and TV are averaged over requests.",
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
    gains=("hit_ratio",),
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
    columns=(
        # Headings of two lines: names must not be cut, also where a terminal is narrow.
        Column("cells", lambda scenario: str(scenario.cells)),
        Column("users", lambda scenario: str(scenario.users)),
        Column("models", lambda scenario: str(scenario.models)),
        Column("storage,\nGB", lambda scenario: _span(scenario.storage_per_cell_gb)),
        Column("steps/\nslot", lambda scenario: _span(scenario.steps_per_cell)),
        Column("backhaul,\nMbit/s", lambda scenario: f"{scenario.backhaul_mbit_s:g}"),
    ),
    caption="users, storage and steps/slot: per cell; models are cached once per frame.",
    descriptions_apart=True,
)
"""The entry of the registry."""
