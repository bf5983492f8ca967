# SPDX-License-Identifier: Apache-2.0
"""The optimum of tiny fleets by trying everything: no rule passes it, and the informed one comes near."""

from typing import Any

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import metered
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.draws import Requests
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.world import FleetWorld
from tests.envs.fleet.fleets import given_requests, result_of

MODEL = {"size_gb": 2, "load_s": 1.5, "step_s": 0.2, "least_steps": 8, "least_quality": 0.6, "full_steps": 10}
SCENARIO = build_scenario(
    {
        "kind": "fleet",
        "name": "tiny",
        "sites": 2,
        "speed": [2, 1],
        "memory_gb": [3, 3],
        "frames": 1,
        "frame_s": 4,
        "models": [{**MODEL, "full_quality": 0.9}, {**MODEL, "size_gb": 3, "full_quality": 1}],
        "cloud": {"speed": 1, "distance_s": 2, "price": 0.3},
        "load": 1,
        "report_s": 2,
        "deadline_s": {"low": 2, "high": 6},
        "weight": {"low": 0.5, "high": 2},
    },
    FleetScenario,
)
REQUESTS = 4
CHOICES = np.stack(np.meshgrid(range(3), (0.0, 0.5, 1.0), indexing="ij"), -1).reshape(-1, 2)
"""Two sites and the cloud, with 8, 9 or 10 steps."""
KEPT = np.array([[[0, 0], [0, 0]], *([[a, 1 - a], [b, 1 - b]] for a in (0, 1) for b in (0, 1))], dtype=bool)
"""Nothing, or one of the two models at each site: there is room for one."""


def tiny_requests(seed: int) -> Requests:
    """Four requests within four seconds."""
    rng = np.random.default_rng(seed)
    arrival_s, home, model = np.sort(rng.random(REQUESTS) * 4), rng.integers(2, size=4), rng.integers(2, size=4)
    deadline_s, weight = 2 + 4 * rng.random(4), rng.choice([0.5, 1, 2], 4)
    return given_requests(SCENARIO, arrival_s, home, model, np.ones(4), deadline_s, weight)


def optimum(requests: Requests) -> float:
    """Highest total utility of all decisions that there are, each played in a copy of its own."""
    plans = np.stack(np.meshgrid(*[range(len(CHOICES))] * REQUESTS, indexing="ij"), -1).reshape(-1, REQUESTS)
    copies = len(plans)
    columns: Any = [np.repeat(column, copies, 0) for column in requests]
    world = FleetWorld(SCENARIO, copies, requests=Requests(*columns))
    best = -np.inf
    for kept in KEPT:
        world.reset(seed=0)
        world.decide(torch.from_numpy(np.broadcast_to(kept, (copies, 2, 2)).copy()))
        total = np.zeros(copies)
        for number in range(REQUESTS):
            site, share = CHOICES[plans[:, number]].T
            world.decide(torch.from_numpy(site.astype(np.int64))[:, None])
            outcome = world.decide(torch.from_numpy(share.reshape(-1, 1, 1, 1).copy()))
            total += result_of(outcome)[:, physics.UTILITY].numpy()
        assert world.turn is None
        best = max(best, total.max())
    return float(best)


@pytest.fixture(scope="module")
def tried() -> list[tuple[Requests, float]]:
    return [(requests, optimum(requests)) for requests in map(tiny_requests, range(6))]


def utility_of(name: str, requests: Requests) -> float:
    world = FleetWorld(SCENARIO, requests=requests)
    return REQUESTS * float(metered(world, make_policy(name, SCENARIO)).values()["utility"][0])


def test_no_rule_passes_the_optimum_and_that_not_the_bound(tried: list[tuple[Requests, float]]) -> None:
    for requests, best in tried:
        assert best <= FleetWorld(SCENARIO, requests=requests).bounds.sum() + 1e-9
        for name in ("home", "affinity", "earliest", "price-greedy", "fleet-rule", "informed-greedy"):
            assert utility_of(name, requests) <= best + 1e-9


def test_the_informed_rule_is_near_the_optimum(tried: list[tuple[Requests, float]]) -> None:
    best = sum(value for _, value in tried)
    near, home = (sum(utility_of(name, requests) for requests, _ in tried) for name in ("informed-greedy", "home"))
    assert near > 0.9 * best
    assert home < near
