# SPDX-License-Identifier: Apache-2.0
"""The parallel form for other libraries: the contract, episodes that follow the seed, copies and pictures."""

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test

from edgegen.envs import pettingzoo
from edgegen.envs.pettingzoo import RoundsEnv
from tests.envs.rounds import SHORT, play

KINDS = pytest.mark.parametrize("observation", ["dict", "vector"])


@KINDS
def test_contract_of_parallel_environments(observation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(pettingzoo.parallel_env(observation=observation), num_cycles=700)
        parallel_seed_test(lambda: pettingzoo.parallel_env(observation=observation), num_cycles=60)


@KINDS
@pytest.mark.filterwarnings("ignore::UserWarning")  # hints at observations that are not one of a few usual kinds
def test_contract_of_the_agent_by_agent_form(observation: str) -> None:
    api_test(pettingzoo.env(observation=observation), num_cycles=150)
    seed_test(lambda: pettingzoo.env(observation=observation), num_cycles=30)


def test_max_cycles_truncates() -> None:
    max_cycles_test(pettingzoo)
    env = pettingzoo.parallel_env(max_cycles=3)
    env.reset(seed=0)
    log = play(env, np.random.default_rng(0))
    assert len(log) == 3
    *_, terminations, truncations, _ = log[-1]
    assert not any(terminations.values())
    assert all(truncations.values())
    assert not any(log[-2][3].values())


def test_names_and_spaces() -> None:
    env = RoundsEnv()
    assert env.metadata["name"] == "edgegen_offloading_v0"
    assert env.possible_agents == ["edge_0", "edge_1", "edge_2", "edge_3", "edge_4"]
    for agent in env.possible_agents:
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.action_space(agent) == gymnasium.spaces.Discrete(5)
        seen = env.observation_space(agent)
        assert isinstance(seen, gymnasium.spaces.Dict)
        assert seen["observation"].shape == (4 + 4 * 5,)
    space = RoundsEnv("ladts-paper", observation="vector").observation_space("edge_19")
    assert isinstance(space, gymnasium.spaces.Box)
    assert space.shape == (84,)
    assert space.dtype == np.float32
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()


def test_episodes_follow_the_seed() -> None:
    one, two = RoundsEnv(SHORT), RoundsEnv(SHORT)
    np.random.seed(0)  # noqa: NPY002 - no global generator may play a part
    first = one.reset(seed=3)
    np.random.seed(1)  # noqa: NPY002
    assert data_equivalence(first, two.reset(seed=3))
    play(one, np.random.default_rng(0), steps=5)
    second = one.reset()  # the next episode of the same stream, however far the last one was played
    assert not data_equivalence(first, second)
    assert data_equivalence(second, two.reset())
    assert data_equivalence(one.reset(seed=3), first)
    assert not data_equivalence(RoundsEnv(SHORT).reset(), RoundsEnv(SHORT).reset())


@KINDS
def test_a_pickle_mid_episode_plays_on_identically(observation: str) -> None:
    env = RoundsEnv(SHORT, observation=observation)
    env.reset(seed=13)
    play(env, np.random.default_rng(0), steps=20)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(play(env, np.random.default_rng(1)), play(copy, np.random.default_rng(1)))
    assert data_equivalence(env.reset(), copy.reset())


def test_the_queues_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    env = RoundsEnv(SHORT, render_mode="ansi")
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, 1))
    picture = env.render()
    assert isinstance(picture, str)
    lines = picture.splitlines()
    assert len(lines) == 6
    assert lines[0] == "slot 0 of 6, round 1"
    assert "#" not in lines[1]
    assert "#" * 40 in lines[2]  # everything went to the second server
    assert capsys.readouterr().out == ""
    human = RoundsEnv(SHORT, render_mode="human")
    human.reset(seed=0)
    human.step(dict.fromkeys(human.agents, 1))
    assert capsys.readouterr().out.endswith(picture)
    with pytest.warns(UserWarning, match="needs a render_mode"):
        assert RoundsEnv(SHORT).render() is None
