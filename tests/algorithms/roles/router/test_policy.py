# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.world import OffloadingWorld

SCENARIO = load_scenario("demo", {"tasks_per_slot.high": 4, "slots": 3})


def make(preset="paper", seed=0, **overrides):
    torch.manual_seed(5)
    return LADTSPolicy(router_for(SCENARIO, METHOD.make_settings(preset, overrides)).actor(), seed=seed)


@pytest.mark.parametrize(("memory", "shape"), [("slot", (2, 4, 5, 4, 5)), ("task", (2, 5, 4, 5))])
def test_latents_of_present_tasks_become_their_probabilities(memory, shape):
    policy = make(memory=memory)
    simulator = OffloadingWorld(SCENARIO, 2)
    observation = simulator.reset(1)
    latents = policy.begin("router", observation)
    assert latents["latent"].shape == shape
    before = latents["latent"].clone()
    decision = policy.place(observation, latents)
    cells = (latents["latent"], before) if memory == "task" else (latents["latent"][:, 0], before[:, 0])
    present = observation.tasks.present
    assert torch.equal(cells[0][present], decision.probability[present])
    assert torch.equal(cells[0][~present], cells[1][~present])
    assert torch.equal(decision.latent, cells[1])  # the chain started from what was there before
    if memory == "slot":
        assert torch.equal(latents["latent"][:, 1:], before[:, 1:])


def test_same_seed_same_decisions_and_exploration_samples():
    simulator = OffloadingWorld(SCENARIO, 64)
    observation = simulator.reset(2)
    runs = [make(seed=seed).place(observation, make(seed=0).begin("router", observation)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0].action, runs[1].action)
    assert not torch.equal(runs[0].action, runs[2].action)
    assert not torch.equal(runs[0].action, runs[0].probability.argmax(-1))
    policy = make(seed=1)
    greedy = policy.place(observation, make(seed=0).begin("router", observation), explore=False)
    assert torch.equal(greedy.action, greedy.probability.argmax(-1))


def test_a_servers_own_placements_reach_its_next_state_and_no_other():
    policy = make("improved")
    simulator = OffloadingWorld(SCENARIO, 3)
    observation = simulator.reset(4)
    decision = policy.place(observation, policy.begin("router", observation))
    tasks = observation.tasks
    own = torch.zeros(3, 5, 5)
    for n in range(4):
        expected = torch.log1p(5 * own / observation.capacity_gcycles_s[:, None])
        assert torch.allclose(decision.state[:, :, n, 7:12], expected, atol=1e-6)
        work = torch.where(tasks.present[..., n], tasks.workload_gcycles[..., n], 0.0)
        own.scatter_add_(-1, decision.action[..., n : n + 1], work[..., None])


def test_slots_and_indices_beyond_training_wrap_around():
    policy = make(memory="slot")
    wide = load_scenario("demo", {"tasks_per_slot.low": 9, "tasks_per_slot.high": 9, "slots": 9})
    simulator = OffloadingWorld(wide)
    observation = simulator.reset(0)
    memory = policy.begin("router", observation)
    for _ in range(9):
        action, memory = policy.act("router", observation, memory)
        assert action.shape == (1, 5, 9)
        simulator.decide(action)
        observation = simulator.observe()
    assert memory["latent"].shape == (1, 4, 5, 4, 5)


def test_gaussian_memory_carries_nothing():
    policy = make(memory="gaussian")
    observation = OffloadingWorld(SCENARIO, 2).reset(0)
    assert policy.begin("router", observation) == {}
    assert policy.act("router", observation, {})[1] == {}
