# SPDX-License-Identifier: Apache-2.0
"""The genetic algorithm: better than equal shares, near the optimum, repeatable."""

import pytest
import torch

from edgegen.algorithms.rules.allocation_optimum import best_allocation
from edgegen.algorithms.rules.allocation_search import SearchSettings, search_allocation
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.world import ProvisioningWorld


def slot(name: str, copies: int = 6, **changes):
    scenario = load_scenario(name, changes)
    simulator = ProvisioningWorld(scenario, copies)
    simulator.reset(seed=3)
    cache = torch.zeros(copies, scenario.cells, scenario.models, dtype=torch.bool)
    cache[..., [0, 1, 4]] = True
    simulator.cache(cache)
    return scenario, simulator.observe_slot()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "changes",
    [{}, {"allocation_amender.shares": "scale"}, {"allocation_amender.map": "absolute"}],
)
def test_the_search_lies_between_equal_shares_and_the_optimum(changes):
    scenario, seen = slot("t2drl-contended", **changes)
    found = serve(scenario, seen, *search_allocation(scenario, seen, generator())).cost.mean(-1)
    equal = serve(scenario, seen, equal_bandwidth(seen), equal_compute(seen)).cost.mean(-1)
    best = serve(scenario, seen, *best_allocation(scenario, seen)).cost.mean(-1)
    assert bool((found < equal).all())
    assert bool((found >= best * (1 - 1e-6)).all())
    assert float((found - best).mean()) < 0.5 * float((equal - best).mean())


def test_without_any_generation_equal_shares_are_the_least_that_is_found():
    scenario, seen = slot("t2drl-contended:cells3")
    settings = SearchSettings(population=2, generations=0)
    found = serve(scenario, seen, *search_allocation(scenario, seen, generator(), settings)).cost.mean(-1)
    equal = serve(scenario, seen, equal_bandwidth(seen), equal_compute(seen)).cost.mean(-1)
    assert bool((found <= equal * (1 + 1e-6)).all())


def test_more_generations_never_lose_what_was_found():
    scenario, seen = slot("t2drl-contended")
    costs = []
    for generations in (0, 5, 20):
        shares = search_allocation(scenario, seen, generator(), SearchSettings(generations=generations))
        costs.append(serve(scenario, seen, *shares).cost.mean(-1))
    assert bool((costs[1] <= costs[0]).all())
    assert bool((costs[2] <= costs[1]).all())


def test_the_same_seed_finds_the_same_shares():
    scenario, seen = slot("t2drl-default")
    settings = SearchSettings(generations=5)
    first, again, other = (search_allocation(scenario, seen, generator(seed), settings) for seed in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_shares_are_feasible_and_misses_get_no_steps():
    scenario, seen = slot("t2drl-default")
    bandwidth, compute = search_allocation(scenario, seen, generator(), SearchSettings(generations=3))
    assert bandwidth.shape == compute.shape == seen.gain.shape
    assert bool((bandwidth.sum(-1) <= 1 + 1e-6).all())
    assert bool((compute.sum(-1) <= 1 + 1e-6).all())
    assert not bool((compute * ~seen.hit).any())
