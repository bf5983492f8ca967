# SPDX-License-Identifier: Apache-2.0
"""The names RLlib knows: the environment is made as configured, and a stock algorithm trains on it."""

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import ray
from gymnasium.utils.env_checker import data_equivalence
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import _global_registry

from edgegen.algorithms.rllib.environments import (
    OFFLOADING_ENV,
    TURNS_ENV,
    make_offloading_env,
    make_turns_env,
    register_rllib_envs,
)
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.agents import OffloadingAgents
from edgegen.envs.pettingzoo import RoundsEnv


def test_the_environment_is_made_as_configured() -> None:
    env = make_offloading_env({"scenario": "ladts-paper:n10", "max_cycles": 2})
    observations, _ = env.reset(seed=0)
    assert sorted(observations) == sorted(f"edge_{b}" for b in range(20))
    assert env.observation_space["edge_0"] == gymnasium.spaces.Box(
        env.observation_space["edge_0"].low, env.observation_space["edge_0"].high, (84,)
    )
    assert env.action_space["edge_0"] == gymnasium.spaces.Discrete(20)
    _, _, _, first, _ = env.step(dict.fromkeys(observations, 0))
    _, _, terminations, second, _ = env.step(dict.fromkeys(observations, 0))
    assert (first["__all__"], second["__all__"], terminations["__all__"]) == (False, True, False)
    assert make_offloading_env({}).par_env.scenario.name == "demo"
    assert pickle.loads(pickle.dumps(env)).par_env.max_cycles == 2


VALUES = {
    "scenario": load_scenario("stale:b5", {"slots": 2}),
    "observation": "dict",
    "max_cycles": 3,
    "render_mode": "ansi",
    "normalise": True,
    "identity": True,
}
"""A value of every argument of the class, none of them RLlib's default."""


def test_every_argument_of_the_class_can_be_given() -> None:
    parameters = {*inspect.signature(RoundsEnv).parameters, *inspect.signature(OffloadingAgents).parameters}
    assert set(VALUES) == parameters - {"options", "world"}
    for name, value in VALUES.items():
        made, expected = make_offloading_env({name: value}), RoundsEnv(**{name: value})
        assert getattr(made.par_env, name, None) == getattr(expected, name, None)
    env = make_offloading_env(VALUES)
    seen = env.reset(seed=1)[0]["edge_0"]
    assert env.observation_space["edge_0"].contains(seen)
    assert sorted(seen) == ["action_mask", "observation"]
    assert env.render_mode == "ansi"
    picture = env.render()
    assert picture is not None
    assert picture.startswith("slot 0 of 2")


def test_the_environment_is_of_the_seed() -> None:
    one, other = make_offloading_env({}), make_offloading_env({})
    assert data_equivalence(one.reset(seed=5), other.reset(seed=5))
    assert data_equivalence(one.reset(), other.reset())
    assert not data_equivalence(one.reset(seed=5), other.reset(seed=6))


def test_servers_whose_reports_are_late_show_their_age() -> None:
    env = make_offloading_env({"scenario": "stale:b5"})
    assert env.observation_space["edge_0"].shape == (4 + 5 * 5,)


@pytest.mark.parametrize(
    ("env_config", "complaint"),
    [
        (
            {"scenaro": "demo"},
            r"^env_config of 'edgegen-offloading-v0' has no 'scenaro'; it has scenario, max_cycles, render_mode, "
            r"normalise, identity, observation\. Did you mean 'scenario'\?$",
        ),
        ({"seed": 3}, r"has no 'seed'; it has scenario, max_cycles, render_mode, normalise, identity, observation\.$"),
        ({1: 2}, r"has no 1; it has scenario, max_cycles, render_mode, normalise, identity, observation\.$"),
        ({"scenario": "dmeo"}, r"Did you mean 'demo'\?$"),
        ({"observation": "image"}, "observation is 'image', but must be 'dict' or 'vector'"),
        ({"max_cycles": "ten"}, "max_cycles is 'ten', but must be a whole number"),
        ({"render_mode": "rgb_array"}, "'ansi', 'human' or None"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(env_config: dict[Any, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make_offloading_env(env_config)


@pytest.mark.parametrize("name", ["demo", "t2drl-default", "fleet-8"])
def test_agents_of_every_kind_take_turns_behind_rllib(name: str) -> None:
    changes = {"demo": {"slots": 2}, "t2drl-default": {"frames": 1, "slots_per_frame": 2}, "fleet-8": {"frames": 1}}
    scenario = load_scenario(name, changes[name])
    env = make_turns_env({"scenario": scenario, "normalise": True, "identity": True, "max_cycles": 6})
    seen, infos = env.reset(seed=1)
    assert seen.keys() == infos.keys()
    acted, over = 0, False
    while not over:
        (agent,) = (name for name in seen if not env.env.truncations.get(name, True))
        assert env.observation_space[agent].contains(seen[agent])
        seen, rewards, _, truncations, _ = env.step({agent: env.action_space[agent].sample()})
        acted, over = acted + 1, truncations["__all__"]
        assert all(np.isfinite(reward) for reward in rewards.values())
    assert acted >= 2
    with pytest.raises(InputError, match="env_config of 'edgegen-turns-v0' has no 'sed'"):
        make_turns_env({"scenario": scenario, "sed": 1})


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stock_ppo_trains_one_policy_for_all_servers(local_ray: None) -> None:
    register_rllib_envs()
    register_rllib_envs()
    assert _global_registry.contains("env_creator", OFFLOADING_ENV)
    assert _global_registry.contains("env_creator", TURNS_ENV)
    env_config = {"scenario": "stale:b5", "max_cycles": 20, "observation": "vector", "render_mode": "ansi"}
    config = (
        PPOConfig()
        .environment(OFFLOADING_ENV, env_config=env_config)
        .multi_agent(policies={"shared"}, policy_mapping_fn=lambda agent_id, episode, **kwargs: "shared")
        .env_runners(num_env_runners=0, rollout_fragment_length=20)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    try:
        results = [algorithm.train() for _ in range(2)]
    finally:
        algorithm.stop()
    runners = results[-1]["env_runners"]
    assert runners["num_env_steps_sampled_lifetime"] == 80
    assert runners["num_agent_steps_sampled_lifetime"]["edge_4"] == 80
    assert runners["episode_return_mean"] < 0  # minus seconds of delay
    assert results[-1]["learners"]["shared"]["num_module_steps_trained_lifetime"] > 0
