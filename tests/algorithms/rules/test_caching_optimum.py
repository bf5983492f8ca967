# SPDX-License-Identifier: Apache-2.0
"""The plan of the oracle, against trying every sequence of caches."""

import itertools

import pytest
import torch

from edgegen.algorithms.rules import caching_costs, caching_optimum
from edgegen.algorithms.rules.allocation_optimum import best_allocation
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.algorithms.rules.caching_optimum import is_plannable, plan_caching
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import ProvisioningWorld

COPIES = 3
TINY = {
    "models": 3,
    "users": 4,
    "frames": 2,
    "slots_per_frame": 2,
    "size_gb": [4, 5, 7],
    "storage_gb": 10,
    "steps_per_slot": 250,
}


def tiny(**changes) -> ProvisioningScenario:
    return load_scenario("t2drl-contended", TINY | changes, ProvisioningScenario)


def cost_of(scenario: ProvisioningScenario, caches: torch.Tensor, allocation: str = "best") -> torch.Tensor:
    """Play caches ``[T, C, M]`` in every copy; cost with charges ``[E]``."""
    simulator = ProvisioningWorld(scenario, COPIES, dtype=torch.float64)
    simulator.reset(seed=8)
    total = torch.zeros(COPIES, dtype=torch.float64)
    while not simulator.done:
        if simulator.caching:
            simulator.cache(caches[simulator.state.frame].expand(COPIES, -1, -1))
        seen = simulator.observe_slot()
        if allocation == "best":
            outcome = simulator.allocate(*best_allocation(scenario, seen))
        else:
            outcome = simulator.allocate(equal_bandwidth(seen), equal_compute(seen))
        total += outcome.cost.mean((1, 2)) / scenario.slots
        if simulator.caching or simulator.done:
            total += simulator.state.penalty.mean(-1) / scenario.frames
    return total


def every_sequence(scenario: ProvisioningScenario) -> list[torch.Tensor]:
    sizes = torch.tensor(scenario.size_gb)
    bits = torch.tensor(list(itertools.product([False, True], repeat=scenario.models)))
    if scenario.caching_amender == "drop":
        bits = bits[(bits * sizes).sum(-1) <= scenario.storage_gb[0]]
    places = scenario.frames * scenario.cells
    shape = (scenario.frames, scenario.cells, scenario.models)
    return [torch.stack(chosen).view(shape) for chosen in itertools.product(bits, repeat=places)]


@pytest.mark.parametrize("allocation", ["best", "equal"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backhaul_shared_by": "misses"},
        {"switching_weight": 0.01},
        {"caching_amender": "penalty", "overflow_penalty_per_gb": 1.5},
        {"delay_weight": 0.2},  # the cloud is often better: to cache more is not always better
        {"curves.drawn": "per_episode"},
        {"backhaul_shared_by": "misses", "switching_weight": 0.005, "backhaul_mbit_s": 5},
    ],
)
def test_a_plan_is_as_good_as_trying_every_sequence(changes, allocation):
    scenario = tiny(**changes)
    simulator = ProvisioningWorld(scenario, COPIES, dtype=torch.float64)
    simulator.reset(seed=8)
    plan = plan_caching(scenario, simulator.future, allocation)
    tried = torch.stack([cost_of(scenario, caches, allocation) for caches in every_sequence(scenario)])
    torch.testing.assert_close(plan.cost, tried.amin(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(plan.bound, plan.cost)
    for copy in range(COPIES):  # and it costs what it says
        played = cost_of(scenario, plan.cache[copy], allocation)[copy]
        torch.testing.assert_close(played, plan.cost[copy], rtol=1e-7, atol=0)


@pytest.mark.parametrize("allocation", ["best", "equal"])
@pytest.mark.parametrize("shared_by", ["users", "misses"])
def test_plans_of_several_cells(shared_by, allocation):
    scenario = tiny(cells=2, frames=1, backhaul_shared_by=shared_by, backhaul_mbit_s=30, storage_gb=[10, 10])
    simulator = ProvisioningWorld(scenario, COPIES, dtype=torch.float64)
    simulator.reset(seed=8)
    plan = plan_caching(scenario, simulator.future, allocation)
    tried = torch.stack([cost_of(scenario, caches, allocation) for caches in every_sequence(scenario)]).amin(0)
    for copy in range(COPIES):
        played = cost_of(scenario, plan.cache[copy], allocation)[copy]
        torch.testing.assert_close(played, plan.cost[copy], rtol=1e-7, atol=0)
    if shared_by == "users":
        torch.testing.assert_close(plan.cost, tried, rtol=1e-7, atol=0)
        torch.testing.assert_close(plan.bound, plan.cost)
    else:  # coupled: near, and both between the bounds
        assert bool((plan.bound <= tried + 1e-9).all())
        assert bool((plan.cost >= tried - 1e-9).all())
        assert bool((plan.cost <= tried * 1.005).all())


def test_coupled_plans_stay_near_their_bound_with_switching():
    simulator = ProvisioningWorld(load_scenario("t2drl-contended:cells3", {"switching_weight": 0.001}), 2)
    simulator.reset(seed=1)
    plan = plan_caching(simulator.scenario, simulator.future)
    assert bool((plan.bound <= plan.cost).all())
    assert float((plan.cost / plan.bound).max()) < 1.04


def test_pieces_give_the_same_plan(monkeypatch):
    simulator = ProvisioningWorld(load_scenario("t2drl-contended", {"frames": 3}), 4)
    simulator.reset(seed=1)
    whole = plan_caching(simulator.scenario, simulator.future)
    monkeypatch.setattr(caching_optimum, "MOST_ENTRIES", 60_000)
    monkeypatch.setattr(caching_costs, "MOST_ENTRIES", 20_000)
    pieces = plan_caching(simulator.scenario, simulator.future)
    assert torch.equal(whole.cache, pieces.cache)
    torch.testing.assert_close(whole.cost, pieces.cost)


@pytest.mark.parametrize(
    "changes", [{}, {"switching_weight": 0.003}, {"cells": 2, "backhaul_shared_by": "misses", "frames": 1}]
)
def test_alike_episodes_get_the_caches_of_the_least_mean_cost(changes):
    scenario = tiny(**changes)
    simulator = ProvisioningWorld(scenario, COPIES, dtype=torch.float64)
    simulator.reset(seed=8)
    plan = plan_caching(scenario, simulator.future, alike=COPIES)
    assert plan.cache.shape == (1, scenario.frames, scenario.cells, 3)
    tried = torch.stack([cost_of(scenario, caches).mean() for caches in every_sequence(scenario)]).amin()
    torch.testing.assert_close(plan.cost[0], tried, rtol=1e-7 if scenario.cells == 1 else 5e-3, atol=0)
    torch.testing.assert_close(cost_of(scenario, plan.cache[0]).mean(), plan.cost[0], rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"max_delay_s": 50, "late_penalty": 10}, "late_penalty"),
        ({"models": 17}, "17 models"),
        ({"models": 16, "storage_gb": 200}, "65536 ways"),
    ],
)
def test_what_can_not_be_planned_is_refused(changes, complaint):
    scenario = load_scenario("t2drl-default", {"frames": 1, "slots_per_frame": 1, **changes})
    assert not is_plannable(scenario)
    with pytest.raises(InputError, match=complaint):
        plan_caching(scenario, ProvisioningWorld(scenario).future)
