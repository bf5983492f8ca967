# SPDX-License-Identifier: Apache-2.0
"""Where the objective charges for the work of sites, the learned fleet sees that; elsewhere nothing is changed."""

from typing import Any

import numpy as np
import torch

from edgegen.algorithms.fleet.episodes import play_brain
from edgegen.algorithms.fleet.nets import ResidualChain
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.spec import FEATURES, FleetSpec, make_chain
from edgegen.algorithms.methods.fleet import METHOD
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.physics import GENERATION, SITE, STEPS
from edgegen.envs.fleet.scenario import FleetScenario
from tests.algorithms.fleet.both_ways import check_both_ways
from tests.envs.fleet.fleets import small

SETTINGS = METHOD.make_settings("joint", {"prices": {"noise": 0.0}})
CHARGED: dict[str, Any] = {"power_w": (100, 2000, 100), "objective": {"energy": 0.4}}


def policy_in(scenario: FleetScenario, **weights: float) -> FleetPolicy:
    """A policy whose chains add, by role, a multiple of what is charged for the work of a site, and nothing else."""
    torch.manual_seed(0)
    spec = FleetSpec.of(scenario, SETTINGS)
    chains: dict[str, ResidualChain] = {role: make_chain(spec, role) for role in spec.learn}
    for role, weight in weights.items():
        for part in chains[role].parameters():
            torch.nn.init.zeros_(part)
        chains[role].features.data[-1, 0] = 1.0
        chains[role].out.data[0] = weight
    return FleetPolicy({**chains}, spec, scenario)


def test_only_charged_worlds_have_the_feature() -> None:
    plain, charged = (FleetSpec.of(small(**changes), SETTINGS) for changes in ({}, CHARGED))
    for role, width in FEATURES.items():
        assert make_chain(plain, role).features.shape[0] == width
        assert make_chain(charged, role).features.shape[0] == width + (role != "cacher")
    weightless = FleetSpec.of(small(**{**CHARGED, "objective": {"energy": 0.0}}), SETTINGS)
    assert not weightless.charged


def test_before_it_has_learned_it_is_the_rule_in_its_steps_too() -> None:
    scenario = small(**CHARGED)
    requests = draw_requests(scenario, 5, range(4))
    rule = play_drawn(scenario, Prices(noise=0.0).rule(scenario), requests)[2]
    assert np.array_equal(play_brain(scenario, policy_in(scenario).brain, requests)[2], rule)


def test_turn_by_turn_and_in_the_kernel_it_decides_alike() -> None:
    scenario = small(**CHARGED)
    check_both_ways(scenario, policy_in(scenario, router=-3.0, allocator=-0.5))


def test_what_is_charged_moves_the_choices_of_router_and_allocator() -> None:
    scenario = small(**CHARGED, load=0.4)
    requests = draw_requests(scenario, 5, range(8))

    def played(**weights: float) -> np.ndarray:
        return play_brain(scenario, policy_in(scenario, **weights).brain, requests)[2]

    usual, averse, thrifty = played(), played(router=-200.0), played(allocator=-5.0)

    def share(results: np.ndarray) -> float:
        there = results[..., GENERATION] > 0
        return float(((results[..., SITE] == 1) & there).sum() / there.sum())

    assert share(averse) < share(played(router=200.0))
    assert share(averse) < 0.5 * share(usual) or share(usual) == 0
    at_dear = usual[..., SITE] == 1
    both = at_dear & (thrifty[..., SITE] == 1)
    assert thrifty[..., STEPS].sum() < usual[..., STEPS].sum()
    assert (thrifty[both][:, STEPS] <= usual[both][:, STEPS]).all()
