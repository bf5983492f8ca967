# SPDX-License-Identifier: Apache-2.0
"""What other libraries send: actions, seeds and arguments, and what of it is refused in a sentence."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence

from edgegen.envs import pettingzoo
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.pettingzoo import RoundsEnv
from tests.envs.rounds import SHORT, random_actions


def waits(observation: Any) -> bool:
    return bool(observation["observation"][TASKS_LEFT] == 0)


def test_actions_of_agents_that_wait_are_ignored() -> None:
    env, strict, other = (RoundsEnv(SHORT) for _ in range(3))
    observations, _ = env.reset(seed=0)
    strict.reset(seed=0)
    other.reset(seed=0)
    rng = np.random.default_rng(0)
    idle_seen = False
    while env.agents:
        actions: dict[str, Any] = random_actions(env, rng)
        needed = {agent: actions[agent] for agent in env.agents if not waits(observations[agent])}
        idle_seen |= len(needed) < len(actions)
        result = env.step(actions)
        assert all(result[1][agent] == 0 for agent in actions if agent not in needed)
        assert data_equivalence(result, strict.step(needed))
        noise = {agent: rng.choice([(action + 1) % 5, 999, np.nan]) for agent, action in actions.items()}
        assert data_equivalence(result, other.step(noise | needed))
        observations = result[0]
    assert idle_seen


@pytest.mark.parametrize(
    "send", [int, np.int64, np.uint8, np.array, lambda a: np.array([a]), lambda a: [a], torch.tensor]
)
@pytest.mark.parametrize("form", ["parallel", "agent by agent"])
def test_choices_come_as_numbers_and_as_arrays_of_one(send: Any, form: str) -> None:
    if form == "parallel":
        env, plain = RoundsEnv(SHORT), RoundsEnv(SHORT)
        env.reset(seed=0)
        plain.reset(seed=0)
        for n in range(20):
            actions = {agent: (b + n) % 5 for b, agent in enumerate(env.agents)}
            sent = {agent: send(action) for agent, action in actions.items()}
            assert data_equivalence(env.step(sent), plain.step(actions))
        return
    turn, plain_turn = pettingzoo.env(scenario=SHORT), pettingzoo.env(scenario=SHORT)
    turn.reset(seed=0)
    plain_turn.reset(seed=0)
    for n in range(50):
        turn.step(send(n % 5))
        plain_turn.step(n % 5)
        assert data_equivalence(turn.last(), plain_turn.last())


@pytest.mark.parametrize(
    "action",
    [
        *(-1, 5, 1.5, 2.0, np.nan, "2", None, 2**70, True, [], [1, 2], [[1], [2, 3]], {"server": 1}),
        *(np.zeros((1, 1), int), np.zeros(1), np.arange(100), torch.ones(1, requires_grad=True)),
    ],
)
def test_impossible_actions_are_refused_and_change_nothing(action: Any) -> None:
    env, untouched = RoundsEnv(SHORT), RoundsEnv(SHORT)
    env.reset(seed=0)
    untouched.reset(seed=0)
    actions = dict.fromkeys(env.agents, 0)
    with pytest.raises(InputError, match=r"edge_2 .* must be a server 0\.\.4") as caught:
        env.step(actions | {"edge_2": action})
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 220
    assert data_equivalence(env.step(actions), untouched.step(actions))


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (dict.fromkeys(["edge_0", "edge_1", "edge_2", "edge_3"], 0), "edge_4 has a waiting task but no action"),
        ({}, "edge_0 has a waiting task but no action"),
        (dict.fromkeys([f"edge_{b}" for b in range(6)], 0), r"an agent 'edge_5', but the agents are edge_0 … edge_4"),
        ({0: 0}, "an agent 0, but"),
        ([0] * 5, r"\[0, 0, 0, 0, 0\], but must be a dictionary"),
        (None, "None, but must be a dictionary"),
    ],
)
def test_actions_of_other_agents_are_refused_and_change_nothing(actions: Any, complaint: str) -> None:
    env, untouched = RoundsEnv(SHORT), RoundsEnv(SHORT)
    env.reset(seed=0)
    untouched.reset(seed=0)
    with pytest.raises(InputError, match=complaint):
        env.step(actions)
    possible = dict.fromkeys(env.agents, 0)
    assert data_equivalence(env.step(possible), untouched.step(possible))


@pytest.mark.parametrize("seed", [-1, 1.5, "7", np.nan, [1, 2], True])
def test_impossible_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(InputError, match=r"^seed is .*, but must be a whole number of at least 0"):
        RoundsEnv(SHORT).reset(seed=seed)


def test_seeds_may_be_numpys_and_large() -> None:
    one, two = RoundsEnv(SHORT), RoundsEnv(SHORT)
    numpys: Any = np.int64(7)
    assert data_equivalence(one.reset(seed=numpys), two.reset(seed=7))
    assert data_equivalence(one.reset(seed=2**70), two.reset(seed=2**70))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"scenario": "dmeo"}, r"Did you mean 'demo'\?"),
        ({"observation": "image"}, "'dict' or 'vector'"),
        ({"observation": ["dict"]}, "'dict' or 'vector'"),
        ({"scenario": "t2drl-default"}, "of the kind provisioning"),
        (
            {"scenario": None},
            "scenario is None, but must be a scenario, or the name or path of one",
        ),
        ({"scenario": load_scenario("t2drl-default")}, "whose agents take turns"),
        ({"scenario": {"extends": "demo"}}, "must be a scenario, or the name"),
        ({"cache_action": "bits"}, "the kind offloading has no argument 'cache_action'; its own are observation"),
        ({"max_cycles": 0}, "at least 1"),
        ({"max_cycles": "ten"}, "max_cycles is 'ten', but must be a whole number"),
        ({"max_cycles": 2.5}, "max_cycles is 2.5, but must be a whole number"),
        ({"max_cycles": np.nan}, "max_cycles is nan, but must be a whole number"),
        ({"render_mode": "rgb_array"}, "'ansi', 'human' or None"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pettingzoo.parallel_env(**arguments)
