# SPDX-License-Identifier: Apache-2.0
"""Provisioning worlds that differ only in their units: rules and learners do the same there."""

import math
from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import play
from edgegen.algorithms.methods.configs import T2DRLConfig
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER
from edgegen.envs.provisioning.world import ProvisioningWorld
from tests.algorithms.roles.router.test_units import PlainTools

SMALL = {"users": 3, "models": 4, "frames": 3, "slots_per_frame": 2, "storage_gb": 12, "max_delay_s": 12}
QUICK = {"hidden": 8, "hidden_layers": 1, "cacher_hidden": 8, "denoising_steps": 2, "batch_size": 8}
UNITS = {"seconds": (60.0, 1.0), "data": (1.0, 1000.0), "both": (1 / 60, 1000.0)}


def in_units(time: float, data: float) -> ProvisioningScenario:
    """The world with all times so many times as long, and all data so many times as large, as numbers.

    Costs are then as many times as large as times, so TV is, too.
    """
    world = load_scenario("t2drl-default", SMALL)
    fields = world.model_dump()
    rate = data / time
    for curve in fields["curves"]["curves"]:
        for name in ("b1_s_per_step", "b2_s", "a2_tv", "a4_tv"):
            curve[name] *= time
    for name, factor in (("upload_mb", data), ("result_mb", data), ("size_gb", data)):
        fields[name] = {**fields[name], **{end: fields[name][end] * factor for end in ("low", "high")}}
    fields["storage_gb"] = [size * data for size in fields["storage_gb"]]
    for name in ("uplink_mhz", "downlink_mhz", "backhaul_mbit_s"):
        fields[name] *= rate
    fields["noise_dbm_hz"] -= 10 * math.log10(rate)  # the same noise over a band of more hertz
    fields["max_delay_s"] *= time
    fields["late_penalty"] = 0.5 * time
    fields["overflow_penalty_per_gb"] *= time / data
    fields["switching_weight"] = 0.1
    return build_scenario(fields, ProvisioningScenario)


def learned(world: ProvisioningScenario, preset: str) -> tuple[dict[str, torch.Tensor], list[float]]:
    """What learners of both roles meet in a world, and the losses of updates on it."""
    settings = {**QUICK, "copies": 4, "epsilon_hold_episodes": 0}
    config = T2DRLConfig().scenario(world).preset(preset, **settings).debugging(seed=0)
    runner = JointEnvRunner(config=config)
    parts = [runner.sample(num_timesteps=world.slots_per_frame * 4)[0] for _ in range(world.frames)]
    group = config.build_learner()
    group.build()
    learning = config.learning()
    columns: dict[str, torch.Tensor] = {}
    losses: list[float] = []
    for role in (ALLOCATOR, CACHER):
        module, learner = group.module[role], learning.roles[role]
        rows = [part.roles[role].columns for part in parts]
        batch = {name: torch.cat([row[name] for row in rows], 1) for name in rows[0]}
        columns |= {f"{role} {name}": values.clone() for name, values in batch.items()}
        tools = PlainTools(learner, module)
        for _ in range(8):
            losses += [float(value) for value in learner.update(module, dict(batch), tools).values()]
    return columns, losses


@pytest.mark.parametrize("preset", ["improved", "two-timescale"])
def test_units_change_nothing_of_what_is_learned(preset: str) -> None:
    columns, losses = learned(in_units(1.0, 1.0), preset)
    assert columns[f"{ALLOCATOR} {Columns.REWARDS}"].std() > 0.3  # of order one
    for name, factors in UNITS.items():
        others, other_losses = learned(in_units(*factors), preset)
        for column, values in columns.items():
            torch.testing.assert_close(
                others[column].float(), values.float(), rtol=2e-3, atol=2e-3, msg=f"{name} {column}"
            )
        assert other_losses == pytest.approx(losses, rel=2e-2, abs=2e-3), name


@pytest.mark.parametrize("rule", ["popular-static", "history-knapsack", "frame-knapsack", "schrs"])
def test_units_change_nothing_of_what_rules_do(rule: str) -> None:
    costs = {}
    for factors in ((1.0, 1.0), *UNITS.values()):
        scenario = in_units(*factors)
        world, told = ProvisioningWorld(scenario, 4), list[Any]()
        world.reset(seed=3)
        play(world, make_policy(rule, scenario), watch=told.append)
        slots = [turn.outcome.cost / factors[0] for turn in told if turn.role == ALLOCATOR]
        costs[factors] = torch.stack(slots)
    first = costs[1.0, 1.0]
    for factors, cost in costs.items():
        torch.testing.assert_close(cost, first, rtol=1e-3, atol=1e-3, msg=f"{factors}")
