# SPDX-License-Identifier: Apache-2.0
"""The fleet kind: what is particular about it, for everything that works for every kind."""

from __future__ import annotations

from edgegen.envs.core.kinds import Column, Kind, Measure
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.timeline import FleetTimeline
from edgegen.envs.fleet.world import FleetWorld, entries

KIND = Kind(
    name="fleet",
    scenario=FleetScenario,
    world=FleetWorld,
    meter=UtilityMeter,
    timeline=FleetTimeline,
    default_scenario="fleet-8",
    entries=entries,
    size=lambda scenario: {
        "sites": scenario.sites,
        "models": len(scenario.kinds_of_models),
        "load": scenario.load,
    },
    rounds=lambda scenario: scenario.frames,
    shape=lambda scenario: {"sites": scenario.sites, "models": len(scenario.kinds_of_models)},
    effort=lambda scenario: (int(scenario.requests_at_most), scenario.sites),
    metric="lost_utility",
    quantity="lost utility",
    axis="utility of a request that an episode loses",
    interval_name="lost_utility_interval",
    paired_by="requests",
    seed_name="request_seed",
    counted="requests",
    reference="earliest",
    averaged="Utility, delay and loads are averaged over requests.",
    metrics=(
        *(
            "lost_utility",
            "utility",
            "late_share",
            "refused_share",
            "quality",
            "delay_s",
            "network_s",
            "wait_s",
            "loading_s",
        ),
        *(
            "generation_s",
            "p50_delay_s",
            "p95_delay_s",
            "p99_delay_s",
            "goodput_per_s",
            "loads",
            "cloud_share",
            "fairness",
        ),
    ),
    gains=("utility", "quality", "goodput_per_s", "fairness"),
    shown=(
        Measure("utility", "utility", 3),
        Measure("late, %", "late_share", 1, 100),
        Measure("quality", "quality", 3),
        Measure("delay, s", "delay_s"),
        Measure("p95, s", "p95_delay_s"),
        Measure("loads, %", "loads", 1, 100),
        Measure("cloud, %", "cloud_share", 1, 100),
    ),
    detailed=(
        Measure("utility", "utility", 3),
        Measure("late, % of requests", "late_share", 1, 100),
        Measure("refused, % of requests", "refused_share", 1, 100),
        Measure("quality of those in time", "quality", 3),
        Measure("mean delay, s", "delay_s"),
        Measure("  ways, s", "network_s"),
        Measure("  wait, s", "wait_s"),
        Measure("  loading, s", "loading_s"),
        Measure("  generation, s", "generation_s"),
        Measure("p50 delay, s", "p50_delay_s"),
        Measure("p95 delay, s", "p95_delay_s"),
        Measure("p99 delay, s", "p99_delay_s"),
        Measure("in time, per second", "goodput_per_s"),
        Measure("loads, % of requests", "loads", 1, 100),
        Measure("in the cloud, % of requests", "cloud_share", 1, 100),
        Measure("fairness over sites", "fairness", 3),
    ),
    columns=(
        Column("sites", lambda scenario: str(scenario.sites)),
        Column("models", lambda scenario: str(len(scenario.kinds_of_models))),
        Column("load", lambda scenario: f"{scenario.load:.2f}"),
        Column("cloud\nprice", lambda scenario: f"{scenario.cloud.price:g}"),
    ),
    caption="load: arriving work with all steps over the speed of all sites.",
    descriptions_apart=True,
)
"""The entry of the registry."""
