# SPDX-License-Identifier: Apache-2.0
"""Streams that learners train on, and PPO as one of them: the same arrivals, the same world, the same numbers again."""

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.methods.registry import find_method
from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.platform.studies.ppo import PPOPolicy, PPOSettings, ScaledOffloading, export_ppo, load_ppo, train_ppo
from edgegen.platform.studies.streams import play_training_stream, training_arrivals_seed

WORLDS = ["demo", "stable:b5", "links:b5", "stale:b5", "failing:b5"]


def small(name: str) -> OffloadingScenario:
    return load_scenario(name, {"slots": 5, "tasks_per_slot.high": 4}, OffloadingScenario)


def module_for(scenario: OffloadingScenario, seed: int = 0) -> DefaultPPOTorchRLModule:
    torch.manual_seed(seed)
    box = gym.spaces.Box(-np.inf, np.inf, (4 + 4 * scenario.servers,), np.float32)
    return DefaultPPOTorchRLModule(
        observation_space=box,
        action_space=gym.spaces.Discrete(scenario.servers),
        model_config={"fcnet_hiddens": [8, 8]},
        catalog_class=_catalog(),
    )


def _catalog():
    from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog

    return PPOCatalog


def facade(scenario: OffloadingScenario, seed: int = 3, first_episode: int = 0) -> ScaledOffloading:
    plain = scenario.model_dump(mode="json")
    return ScaledOffloading({"scenario": plain, "seed": seed, "reward_scale": 0.5, "first_episode": first_episode})


def mean_delays(scenario: OffloadingScenario, policy: Policy, seed: int, episodes: int, explore: bool) -> list[float]:
    """One episode after the other, as a learner with one copy plays them."""
    simulator = OffloadingWorld(scenario)
    means = []
    for episode in range(episodes):
        simulator.reset(training_arrivals_seed(seed) if episode == 0 else None)
        memory: Memory = {}
        delays = []
        while not simulator.done:
            server, memory = policy.act("router", simulator.observe(), memory, explore)
            delays.append(simulator.decide(server).delays.total_s)
        means.append(float(torch.cat(delays).mean()))
    return means


def test_rules_meet_what_learners_train_on():
    world = small("demo")
    values = play_training_stream(world, make_rule("least-delay"), seed=4, episodes=20)
    assert values == pytest.approx(mean_delays(world, make_rule("least-delay"), 4, 20, True), rel=1e-5)
    assert values[:5].tolist() == play_training_stream(world, make_rule("least-delay"), 4, 5).tolist()
    assert (values[:5] != play_training_stream(world, make_rule("least-delay"), 5, 5)).all()


def test_costs_of_rules_on_training_episodes_of_provisioning():
    world = load_scenario("t2drl-default", {"frames": 2, "slots_per_frame": 2})
    values = play_training_stream(world, make_provisioning_rule("never-cache"), seed=1, episodes=18)
    assert len(values) == 18
    assert 40 < values.mean() < 50  # about 44.4 over whole episodes
    assert values[:3].tolist() == play_training_stream(world, make_provisioning_rule("never-cache"), 1, 3).tolist()


@pytest.mark.parametrize("algorithm", ["ladts", "t2drl"])
def test_the_seed_of_the_arrivals_is_the_learners(algorithm):
    learner = find_method(algorithm)
    config = learner.config().world(learner.load_scenario(learner.default_scenario)).debugging(seed=11)
    runner = config.env_runner_cls(config=config, worker_index=0)
    assert training_arrivals_seed(11) == runner.arrivals_seed


@pytest.mark.parametrize("name", WORLDS)
def test_the_policy_plays_as_the_facade_does(name):
    world = small(name)
    module = module_for(world)
    env = facade(world)
    for _ in range(2):
        observations, _ = env.reset(seed=999)  # RLlib's own seed does not matter
        over = False
        while not over:
            agents = list(observations)
            states = torch.from_numpy(np.stack([observations[agent] for agent in agents]))
            logits = module.forward_inference({"obs": states})["action_dist_inputs"]
            actions = dict(zip(agents, logits.argmax(-1).tolist(), strict=True))
            observations, _, _, truncations, _ = env.step(actions)
            over = truncations["__all__"]
    policy = PPOPolicy(module, world)
    assert env.delays_s == pytest.approx(mean_delays(world, policy, 3, 2, explore=False), rel=1e-4)


def test_the_facade_continues_at_an_episode_and_scales_rewards():
    world = small("demo")
    one, later = facade(world), facade(world, first_episode=2)
    for _ in range(3):
        expected, _ = one.reset()
    found, _ = later.reset()
    assert sorted(found) == sorted(expected)
    assert all((found[agent] == expected[agent]).all() for agent in found)
    rewards = one.step(dict.fromkeys(expected, 0))[1]
    assert set(rewards) == set(expected)
    assert all(-5 < reward < 0 for reward in rewards.values())


def test_states_stay_near_one():
    world = load_scenario("ladts-paper", {"slots": 5})
    env = facade(world)
    observations, _ = env.reset()
    while observations:
        assert max(abs(values).max() for values in observations.values()) < 6
        assert all(np.isfinite(values).all() for values in observations.values())
        observations, _, _, truncations, _ = env.step(dict.fromkeys(observations, 13))  # everything on one server
        if truncations["__all__"]:
            break


@pytest.fixture
def local_ray():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_that_was_cut_off_is_what_it_would_have_been(tmp_path, local_ray):
    world, settings = small("demo"), PPOSettings(hidden=8, minibatch=16)
    whole = train_ppo(world, settings, 6, 0, tmp_path / "whole", 2)
    assert train_ppo(world, settings, 4, 0, tmp_path / "parts", 2) == whole[:4]
    torch.rand(7)  # whatever the process does in between
    np.random.default_rng().random()
    assert train_ppo(world, settings, 6, 0, tmp_path / "parts", 2) == whole
    policies = []
    for name in ("whole", "parts"):
        export_ppo(tmp_path / name, tmp_path / f"{name}-policy")
        policies.append(load_ppo(tmp_path / f"{name}-policy", world))
    first, second = (dict(policy.module.named_parameters()) for policy in policies)
    assert all((first[name] == second[name]).all() for name in first)
    observation = OffloadingWorld(world, 8).reset(seed=0)
    chosen = [policy.act("router", observation, {}, explore=True)[0] for policy in policies]
    assert (chosen[0] == chosen[1]).all()
    assert len(chosen[0][observation.tasks.present].unique()) > 1
