# SPDX-License-Identifier: Apache-2.0
"""Other people's libraries on the PettingZoo environments: they are wrapped, and play or learn a little."""

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supersuit
import torch
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, TerminateIllegalWrapper
from stable_baselines3 import PPO
from torchrl.data import Composite
from torchrl.envs import PettingZooWrapper
from torchrl.envs.utils import check_env_specs
from torchrl.modules import MaskedCategorical

from edgegen.envs import pettingzoo
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.pettingzoo import RoundsEnv

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

OBSERVATIONS = pytest.mark.parametrize("observation", ["dict", "vector"])
WORLDS = pytest.mark.parametrize("name", ["demo", "stale:b5", "failing:unheard", "recorded:b5"])


@pytest.fixture(autouse=True)
def drawn_alike() -> Iterator[None]:
    """TorchRL draws from torch's own generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def offloading(name: str = "demo", **arguments: Any) -> RoundsEnv:
    return RoundsEnv(load_scenario(name, {"slots": 3}), **arguments)


@OBSERVATIONS
@WORLDS
@pytest.mark.parametrize("arguments", [{}, {"categorical_actions": False}, {"use_mask": True}], ids=str)
def test_torchrl_plays_whole_episodes(name: str, observation: str, arguments: dict[str, Any]) -> None:
    env = PettingZooWrapper(offloading(name, observation=observation), seed=0, **arguments)
    assert isinstance(env.observation_spec, Composite)
    rollout = env.rollout(1000)
    assert rollout["next", "done"][-1].all()
    assert rollout["edge", "action_mask"].all()
    assert torch.isfinite(rollout["next", "edge", "reward"]).all()
    vector = (
        rollout["edge", "observation"] if observation == "vector" else rollout["edge", "observation", "observation"]
    )
    assert (vector[..., TASKS_LEFT] == 0).any()  # somebody waited
    check_env_specs(env)


def test_torchrls_masked_distribution_holds_for_agents_that_wait() -> None:
    env = PettingZooWrapper(offloading(), seed=0)
    masks = env.rollout(1000)["edge", "action_mask"]
    chosen = MaskedCategorical(logits=torch.zeros(masks.shape), mask=masks)
    assert torch.isfinite(chosen.log_prob(chosen.sample())).all()


def test_torchrl_plays_agent_by_agent() -> None:
    env = PettingZooWrapper(pettingzoo.env(scenario=load_scenario("stale:b5", {"slots": 2})), use_mask=True, seed=0)
    assert env.rollout(1000)["next", "done"][-1].all()
    check_env_specs(env)


@pytest.mark.parametrize("cache_action", ["bits", "index"])
@pytest.mark.parametrize("name", ["t2drl-default", "t2drl-contended:cells3"])
def test_torchrl_takes_turns(name: str, cache_action: str) -> None:
    scenario = load_scenario(name, {"frames": 2, "slots_per_frame": 2})
    env = PettingZooWrapper(pettingzoo.env(scenario=scenario, cache_action=cache_action), use_mask=True, seed=0)
    rollout = env.rollout(1000)
    assert len(rollout) == 2 * 3 * scenario.cells  # a round of caching and two of allocation in every frame
    assert rollout["next", "done"][-1].all()
    check_env_specs(env)


@OBSERVATIONS
def test_stable_baselines_learns_one_policy_for_all_servers(observation: str) -> None:
    agents = supersuit.pettingzoo_env_to_vec_env_v1(offloading("stale:b5", observation=observation))
    agents = supersuit.concat_vec_envs_v1(agents, 2, base_class="stable_baselines3")
    kind = "MlpPolicy" if observation == "vector" else "MultiInputPolicy"
    model = PPO(kind, agents, n_steps=20, batch_size=100, gamma=0.0, device="cpu")
    before = [values.clone() for values in model.policy.parameters()]
    model.learn(total_timesteps=400)
    assert model.num_timesteps == 400
    after = list(model.policy.parameters())
    assert all(torch.isfinite(values).all() for values in after)
    assert any((one != other).any() for one, other in zip(before, after, strict=True))


@OBSERVATIONS
def test_no_choice_of_an_agent_that_waits_ends_the_game(observation: str) -> None:
    make = partial(pettingzoo.env, scenario=load_scenario("demo", {"slots": 2}), observation=observation)
    env = AssertOutOfBoundsWrapper(TerminateIllegalWrapper(make(), illegal_reward=-1e9))
    env.reset(seed=0)
    rng, waited = np.random.default_rng(0), False
    for agent in env.agent_iter():
        seen, reward, terminated, truncated, _ = env.last()
        assert not terminated
        assert reward > -1e9
        waited |= not (seen if observation == "vector" else seen["observation"])[TASKS_LEFT]
        env.step(None if truncated else int(rng.integers(env.action_space(agent).n)))
    assert waited


def test_torchrl_trains_a_policy_that_all_servers_share() -> None:
    spec = importlib.util.spec_from_file_location("ippo", Path(__file__).parents[2] / "examples/torchrl/ippo.py")
    assert spec is not None
    assert spec.loader is not None
    ippo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ippo)
    # Server 0 is a hundred times as fast as the other: whoever learns anything learns to go there.
    scenario = load_scenario("demo", {"slots": 12, "capacity_gcycles_s": [200, 2], "rate_mbit_s": [450, 450]})
    rewards = ippo.train(scenario, episodes=12, epochs=12)
    assert np.mean(rewards[-3:]) > 0.7 * np.mean(rewards[:3])  # minus s
