# SPDX-License-Identifier: Apache-2.0
"""The offloading kind: what is particular about it, for everything that works for every kind."""

from __future__ import annotations

from edgegen.envs.core.kinds import Column, Kind, Measure, Traits
from edgegen.envs.offloading.agents import OffloadingAgents
from edgegen.envs.offloading.batched import BatchedOffloadingAgents
from edgegen.envs.offloading.meter import OBJECTIVE, DelayMeter
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld


def _tasks(scenario: OffloadingScenario) -> str:
    asked = [member.tasks_per_slot for member in scenario.members]
    return f"{min(tasks.low for tasks in asked)}-{max(tasks.high for tasks in asked)}"


def _traits(scenario: OffloadingScenario) -> Traits:
    sets = scenario.server_sets
    several = sets is not None and sets.drawn == "per_episode"
    load = sets.load if sets is not None and several else None
    loads = (scenario.load, scenario.load) if load is None or isinstance(load, float) else (load.low, load.high)
    capacity = scenario.capacity_gcycles_s
    spread = (max(capacity) / min(capacity),) * 2
    if sets is not None and several:
        spread = (1.0, sets.capacity_gcycles_s.high / sets.capacity_gcycles_s.low)
    asked = scenario.members
    cycles = scenario.cycles_per_step_gcycles
    return {
        "servers": (scenario.servers, scenario.servers),
        "fastest over slowest server": spread,
        "tasks per server and slot": (min(member.tasks_per_slot.low for member in asked), scenario.max_tasks),
        "Gcycle per task": (
            cycles.low * min(member.steps.low for member in asked),
            scenario.max_workload_gcycles,
        ),
        "load": loads,
    }


_METRICS = ("mean_delay_s", "transfer_s", "wait_s", "compute_s", "return_s", "p95_delay_s", "p99_delay_s")
_DETAILED = (
    Measure("  transfer, s", "transfer_s", None),
    Measure("  wait, s", "wait_s", None),
    Measure("  compute, s", "compute_s", None),
    Measure("  return, s", "return_s", None),
    Measure("p95 delay, s", "p95_delay_s", None),
    Measure("p99 delay, s", "p99_delay_s", None),
)

KIND = Kind(
    name="offloading",
    scenario=OffloadingScenario,
    world=OffloadingWorld,
    meter=DelayMeter,
    agents=OffloadingAgents,
    batched=BatchedOffloadingAgents,
    default_scenario="demo",
    entries=lambda scenario: scenario.cells_of_an_episode,
    size=lambda scenario: {"servers": scenario.servers, "load": scenario.load},
    rounds=lambda scenario: scenario.slots,
    shape=lambda scenario: {"servers": scenario.servers},
    effort=lambda scenario: (scenario.slots, scenario.servers, scenario.max_tasks),
    traits=_traits,
    metric="mean_delay_s",
    quantity="delay",
    axis="mean service delay of an episode",
    suffix="_s",
    unit=", s",
    interval_name="mean_delay_interval_s",
    paired_by="arrivals",
    seed_name="arrival_seed",
    counted="tasks",
    reference="capacity-weighted",
    averaged="Delays are averaged over tasks.",
    metrics=_METRICS,
    detailed=_DETAILED,
    columns=(
        Column("servers", lambda scenario: str(scenario.servers)),
        Column("tasks/slot", _tasks),
        Column("load", lambda scenario: f"{scenario.load:.2f}"),
    ),
    caption="tasks/slot: per server; load: offered work over the capacity of all servers.",
    judged={
        "metric": OBJECTIVE,
        "quantity": "objective",
        "axis": "mean objective of a task in an episode",
        "suffix": "",
        "unit": "",
        "interval_name": "objective_interval",
        "averaged": "The objective, its terms and delays are averaged over tasks.",
        "metrics": (OBJECTIVE, *_METRICS),
        "shown": (Measure("delay, s", "mean_delay_s", None),),
        "detailed": (Measure("mean delay, s", "mean_delay_s", None), *_DETAILED),
    },
)
"""The entry of the registry."""
