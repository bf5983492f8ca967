# SPDX-License-Identifier: Apache-2.0
"""Simulators, rules and policies do on a GPU what they do on the CPU: the host draws all random numbers."""

import pytest
import torch

from edgegen.algorithms.core.play import Turn, play
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.methods.t2drl import METHOD, T2DRLPolicy, T2DRLSpec
from edgegen.algorithms.rules.benchmarks import SCHRS, BestAllocation, Oracle
from edgegen.algorithms.rules.caching import PROVISIONING_RULES, RecentPopular, make_provisioning_rule
from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.bench.offloading import untrained_policy

pytestmark = pytest.mark.gpu
GPU = "cuda:0"
WORLD = load_scenario("t2drl-contended", {"frames": 3, "slots_per_frame": 2})


def delays(policy: Policy, scenario_name: str, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Delay of every task of two short episodes, s."""
    simulator = OffloadingWorld(load_scenario(scenario_name, {"slots": 8}), copies=2, device=device, dtype=dtype)
    observation, slots = simulator.reset(seed=1), []
    memory = policy.begin("router", observation)
    with torch.no_grad():
        while not simulator.done:
            server, memory = policy.act("router", simulator.observe(), memory)
            assert server.device.type == torch.device(device).type
            slots.append(simulator.decide(server).delays.total_s)
    return torch.cat(slots).cpu()


@pytest.mark.parametrize("scenario_name", ["demo", "stale", "failing"])
@pytest.mark.parametrize("name", list(RULES))
def test_offloading_with_every_rule(name: str, scenario_name: str) -> None:
    here, there = (delays(make_rule(name, seed=3), scenario_name, device, torch.float64) for device in ("cpu", GPU))
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize("preset", ["paper", "improved", "set", "d2sac-ts", "sac-ts", "dqn-ts", "agod"])
def test_ladts_policies(preset: str) -> None:
    results = []
    for device in ("cpu", GPU):
        torch.manual_seed(0)
        policy = untrained_policy(load_scenario("demo"), preset, seed=3)
        policy.actor.to(device)
        results.append(delays(policy, "demo", device, torch.float32))
    # A probability that rounds differently may send a task elsewhere, and others wait for it.
    assert (results[0] - results[1]).abs().median() < 1e-4


def costs(policy: Policy, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Cost of every slot of two short episodes."""
    simulator = ProvisioningWorld(WORLD, copies=2, device=device, dtype=dtype)
    simulator.reset(seed=1)
    slots = []

    def watch(turn: Turn) -> None:
        assert turn.action.device.type == torch.device(device).type
        if turn.role == "allocator":
            slots.append(turn.outcome.cost)

    play(simulator, policy, watch=watch)
    return torch.stack(slots).cpu()


@pytest.mark.parametrize("name", list(PROVISIONING_RULES))
def test_provisioning_with_every_rule(name: str) -> None:
    here, there = (costs(make_provisioning_rule(name, seed=3), device, torch.float64) for device in ("cpu", GPU))
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize(
    "make",
    [
        SCHRS,
        Oracle,
        lambda world: Oracle(world, knows="popularity"),
        lambda world: BestAllocation(RecentPopular(), world),
    ],
    ids=["schrs", "oracle", "oracle-popularity", "best-allocation"],
)
def test_provisioning_with_searches_and_oracles(make) -> None:
    here, there = (costs(make(WORLD), device, torch.float64) for device in ("cpu", GPU))
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize("preset", ["paper", "improved", "ddpg"])
def test_t2drl_policies(preset: str) -> None:
    results = []
    for device in ("cpu", GPU):
        torch.manual_seed(0)
        spec = T2DRLSpec.of(WORLD, METHOD.make_settings(preset))
        policy = T2DRLPolicy(spec, spec.actor().to(device), spec.cacher().to(device), WORLD, seed=1)
        policy.cacher.epsilon, policy.allocator.noise, policy.allocator.serve_some = 0.5, 0.1, 0.5
        results.append(costs(policy, device, torch.float32))
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)
