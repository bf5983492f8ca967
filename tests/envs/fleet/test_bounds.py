# SPDX-License-Identifier: Apache-2.0
"""What requests would be worth on an idle fleet: by hand, and never passed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.fleet import physics
from edgegen.envs.fleet.bounds import idle_bounds
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.world import FleetWorld
from tests.envs.fleet.fleets import DATA, requests_of, result_of, small


def bound_of(scenario: FleetScenario, *row: float) -> float:
    requests = requests_of([row])  # type: ignore[list-item]
    return float(idle_bounds(scenario, physics.fixed_of(scenario), requests)[0, 0])


def test_bounds_by_hand() -> None:
    # Model 1 takes 0.2 s a step at speed 1, 4 steps are worth 0.3 and 10 steps 1. Homes 0, 1, 2 have speeds 2, 1, 0.5.
    scenario = small()
    assert bound_of(scenario, 1.0, 0, 1, 1.0, 8.0, 2.0) == pytest.approx(2 - 0.005 * 1)
    # From the slowest site away: 4 s at home, 1.3 s and a hop for 0.01 at the fastest.
    assert bound_of(scenario, 1.0, 2, 1, 1.0, 8.0, 1.0) == pytest.approx(1 - 0.005 * 1.3 - 0.01)
    # Two pictures within 1.75 s: 8 steps take 1.6 s at the fastest site, their quality is 0.3 + 4/6 · 0.7.
    assert bound_of(scenario, 1.0, 0, 1, 2.0, 1.75, 1.0) == pytest.approx(0.3 + 4 / 6 * 0.7 - 0.005 * 1.6)
    # Nobody makes it in 0.2 s: the least late, or refused where that is cheaper.
    late = bound_of(scenario, 1.0, 0, 1, 1.0, 0.2, 1.0)
    assert late == pytest.approx(-0.2 - 0.005 * 0.4)
    assert bound_of(small(refuse_price=0.1), 1.0, 0, 1, 1.0, 0.2, 1.0) == pytest.approx(-0.1)
    # Only the cloud is fast.
    cloud = small(cloud={"speed": 20, "distance_s": 0.5, "price": 0.1})
    assert bound_of(cloud, 1.0, 2, 1, 2.0, 0.75, 1.0) == pytest.approx(1 - 0.005 * 0.7 - 0.1)


RICH = {
    "asked_steps": {"low": 3, "high": 14},
    "service_noise": {"low": 0.7, "high": 1.4},
    "late_decay": 1.5,
    "models": [{**model, "least_quality": None} for model in DATA["models"]],
    "curve": {"kind": "exponential", "rate": 3.5},
    "outages": {"factor": 0, "mean_up_s": 6, "mean_down_s": 2, "keeps_models": False},
}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    load=st.floats(0.1, 2),
    refuse=st.sampled_from([None, 0.05]),
    price=st.floats(0, 0.1),
    rich=st.booleans(),
)
def test_no_request_is_worth_more(seed: int, load: float, refuse: float | None, price: float, rich: bool) -> None:
    costs = {"refuse_price": refuse, "delay_price": price, "result_mbit": 100, "upload_mbit": 50}
    scenario = small(load=load, **costs, **(RICH if rich else {}))
    world, rng = FleetWorld(scenario, 2), np.random.default_rng(seed)
    world.reset(seed=seed)
    found = []
    while world.turn is not None:
        if world.turn == "cacher":
            world.decide(torch.from_numpy(rng.random((2, 3, 3)) < 0.5))
        elif world.turn == "router":
            world.decide(torch.from_numpy(rng.integers(scenario.choices, size=(2, 1))))
        else:
            share = torch.from_numpy(rng.choice([0.0, 1.0, rng.random()], size=(2, 1, 1, 1)))
            outcome = world.decide(share)
            assert outcome.bound is not None
            found.append((outcome.bound - result_of(outcome)[:, physics.UTILITY])[outcome.due])
    assert (torch.cat(found) >= -1e-12).all()
