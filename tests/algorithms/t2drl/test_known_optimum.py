"""D3PG in worlds whose best allocation a solver knows."""

from collections.abc import Callable

import pytest
import torch

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.rules.allocation_optimum import best_allocation
from edgegen.algorithms.t2drl.config import T2DRLConfig
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView
from edgegen.envs.provisioning.world import ProvisioningWorld

pytestmark = pytest.mark.e2e

Allocation = Callable[[AllocatorView], tuple[torch.Tensor, torch.Tensor]]

# Both are cached. Steps are worth nearly four times as much to the first, and only one picture can have all it wants.
STEEP = {"a1_steps": 20, "a2_tv": 120, "a3_steps": 150, "a4_tv": 10, "b1_s_per_step": 0.05, "b2_s": 1}
FLAT = {"a1_steps": 20, "a2_tv": 80, "a3_steps": 150, "a4_tv": 50, "b1_s_per_step": 0.03, "b2_s": 1}


def two_models(users: int) -> ProvisioningScenario:
    return load_scenario(
        "t2drl-default",
        {
            "users": users,
            "models": 2,
            "frames": 4,
            "slots_per_frame": 5,
            "size_gb": [5, 5],
            "storage_gb": 10,
            "steps_per_slot": 150,
            "distance_factor": {"low": 0.5, "high": 2},
            "curves": {"source": "this test", "curves": [STEEP, FLAT]},
            "skewness": {"states": [0.5], "transition": [[1.0]]},
        },
    )


def mean_cost(world: ProvisioningScenario, allocate: Allocation) -> float:
    simulator = ProvisioningWorld(world, 64)
    simulator.reset(seed=99)
    costs = []
    while not simulator.done:
        if simulator.caching:
            simulator.cache(torch.ones(64, 1, 2, dtype=torch.bool))
        costs.append(simulator.allocate(*allocate(simulator.observe_slot())).cost.mean())
    return float(torch.stack(costs).mean())


@pytest.mark.parametrize(("users", "iterations", "seed"), [(1, 4, 0), pytest.param(2, 8, 1, marks=pytest.mark.soak)])
def test_d3pg_comes_within_two_percent_of_the_best_allocation(users, iterations, seed):
    world = two_models(users)
    best = mean_cost(world, lambda slot: best_allocation(world, slot))
    if users == 2:  # there is something to learn
        assert mean_cost(world, lambda slot: (torch.full_like(slot.gain, 0.5),) * 2) > 1.15 * best
    config = T2DRLConfig().scenario(world).preset("improved", copies=8, updates_per_slot=1.0, replay_warmup=64)
    config = config.training(lr_hold_episodes=32, lr_fall_episodes=32)
    with ray_session(num_cpus=1):
        algorithm = config.debugging(seed=seed).build_algo()
        for _ in range(iterations):
            algorithm.train()
        policy = algorithm.policy(seed=5)
        learned = mean_cost(world, lambda slot: policy.act("allocator", slot, {})[0].unbind(-1))
        algorithm.stop()
    assert best <= learned * (1 + 1e-6)
    assert learned < 1.02 * best
