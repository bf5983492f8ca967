# SPDX-License-Identifier: Apache-2.0
"""Fleets that differ only in their units: rules do the same there, and learners see and label the same."""

from typing import Any

import numpy as np
import pytest
import torch

from edgegen.algorithms.fleet.episodes import label_caches, label_requests, play_brain
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.spec import FleetSpec, make_chain
from edgegen.algorithms.methods.fleet import METHOD
from edgegen.algorithms.rules.fleet import rule_of
from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.algorithms.rules.fleet_families import Families, Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.physics import DELAY, SITE, UTILITY
from edgegen.envs.fleet.scenario import FleetScenario

UNITS = {"minutes": (60.0, 1.0), "megabits": (1.0, 1000.0), "both": (128.0, 1024.0)}
SETTINGS = METHOD.make_settings("joint", {"prices": {"noise": 0.0, "weight_power": 0.7}})
HARD = {
    "frames": 2,
    "upload_mbit": 80,
    "result_mbit": 20,
    "refuse_price": 0.2,
    "power_w": (700, 300),
    "speed": (2.0, 0.6),
    "memory_gb": (10.0, 6.0),
    "electricity": {"price_per_kwh": [[0.1, 4.0], [3.0, 0.2]] * 4, "day_s": 60},
    "objective": {"energy": 0.05, "electricity": 30.0, "transfer": 0.0001},
}


def in_units(time: float, data: float, **changes: Any) -> FleetScenario:
    """A fleet with all times so many times as long, and all data and memories so many times as large, as numbers."""
    fields = load_scenario("fleet-8:scarce", {**HARD, **changes}).model_dump()
    for model in fields["models"]:
        for name in ("load_s", "step_s", "fixed_s"):
            model[name] *= time
        model["size_gb"] *= data
    fields["memory_gb"] = [size * data for size in fields["memory_gb"]]
    fields["cloud"]["distance_s"] *= time
    for name in ("hop_s", "frame_s", "report_s"):
        fields[name] *= time
    for name in ("upload_mbit", "result_mbit"):
        fields[name] *= data
    fields["rate_mbit_s"] *= data / time
    fields["delay_price"] /= time
    fields["bursts"] |= {name: fields["bursts"][name] * time for name in ("mean_calm_s", "mean_burst_s")}
    shape = fields["deadline_s"]["shape"]
    fields["deadline_s"] |= {end: fields["deadline_s"][end] * time for end in ("low", "high")}
    fields["deadline_s"]["shape"] = {**shape, "points": [point * time for point in shape["points"]]}
    if fields.get("electricity"):
        fields["electricity"]["day_s"] *= time
    # A kilojoule is a kilowatt for a second, whatever that is.
    scales = {"energy": time, "electricity": time, "transfer": data}
    fields["objective"] = {name: weight / scales[name] for name, weight in fields.get("objective", {}).items()}
    return build_scenario({**fields, "unit_s": time}, FleetScenario)


def policy_in(scenario: FleetScenario) -> FleetPolicy:
    """A policy whose chains add something."""
    torch.manual_seed(0)
    spec = FleetSpec.of(scenario, SETTINGS)
    chains: dict[str, torch.nn.Module] = {role: make_chain(spec, role) for role in spec.learn}
    for chain in chains.values():
        torch.nn.init.normal_(chain.get_parameter("out"), std=0.5)
    return FleetPolicy(chains, spec, scenario)


def rules_in(scenario: FleetScenario) -> dict[str, Rule]:
    """Rules that draw nothing."""
    families = [
        Families(noise=0.0),
        Families(
            noise=0.0,
            router="priced-load",
            steps="own-ladder",
            residency="proactive",
            load_crowding=0.1,
            load_price=0.5,
        ),
        Families(noise=0.0, router="affinity", steps="fleet-ladder", residency="lfu"),
    ]
    of_families = {f"{family.router}, {family.steps}": family.rule(scenario) for family in families}
    plain = {name: rule_of(name, scenario) for name in ("home", "affinity", "earliest")}
    return {**plain, "price-greedy": Prices(noise=0.0).rule(scenario), **of_families}


@pytest.mark.parametrize("units", UNITS)
def test_units_change_nothing_of_what_rules_do(units: str) -> None:
    time, data = UNITS[units]
    plain, other = in_units(1.0, 1.0), in_units(time, data)
    one, two = (draw_requests(scenario, 3, range(3)) for scenario in (plain, other))
    assert np.allclose(two.arrival_s, one.arrival_s * time, equal_nan=True)
    others = rules_in(other)
    for name, rule in rules_in(plain).items():
        first, second = play_drawn(plain, rule, one)[2], play_drawn(other, others[name], two)[2]
        assert np.array_equal(first[..., SITE], second[..., SITE]), name
        assert np.allclose(first[..., UTILITY], second[..., UTILITY], rtol=1e-8, atol=1e-8), name
        assert np.allclose(first[..., DELAY] * time, second[..., DELAY]), name


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("charged", [True, False])
def test_units_change_nothing_of_what_learners_see_and_learn_from(units: str, charged: bool) -> None:
    changes: dict[str, Any] = {} if charged else {"objective": {}}
    found = []
    for time, data in ((1.0, 1.0), UNITS[units]):
        scenario = in_units(time, data, **changes)
        policy, requests = policy_in(scenario), draw_requests(scenario, 3, range(2))
        utility = play_brain(scenario, policy.brain, requests)[2][..., UTILITY]
        draw = np.random.default_rng(0).random(requests.arrival_s.shape)
        marked = np.where(draw < 0.1, 1, np.where(draw < 0.2, 2, 0)).astype(np.uint8)
        horizon_s = 12.0 * scenario.unit_s
        routes, shares = label_requests(scenario, policy.brain, requests, marked, horizon_s)
        chosen = np.ones((2, scenario.frames, scenario.sites), dtype=np.uint8)
        caches = label_caches(scenario, policy.brain, requests, chosen, horizon_s)
        found.append((utility, routes, shares, caches))
    (utility, *labels), (others_utility, *others_labels) = found
    assert np.allclose(utility, others_utility, rtol=1e-7, atol=1e-7)
    for mine, theirs in zip(labels, others_labels, strict=True):
        assert len(mine.features) > 10
        assert mine.features.std() > 0
        for name in ("features", "scores", "value", "limit"):
            assert np.allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-6, atol=1e-6), name


def test_a_world_in_seconds_says_nothing_of_its_unit() -> None:
    assert "unit_s" not in in_units(1.0, 1.0).model_dump()
    assert in_units(60.0, 1.0).model_dump()["unit_s"] == 60
