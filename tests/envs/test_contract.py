# SPDX-License-Identifier: Apache-2.0
"""PettingZoo's own tests, and what every library counts on, in every scenario of every kind that ships."""

import pickle
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test

from edgegen.envs import pettingzoo
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of, kinds
from edgegen.envs.core.scenarios import load_scenario, scenario_names
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.pettingzoo import Episodes, RoundsEnv, TurnsEnv

NAMES = [name for kind in kinds() for name in scenario_names(kind)]
SCENARIOS = pytest.mark.parametrize("name", NAMES)
IN_ROUNDS = pytest.mark.parametrize(
    "name", [name for name in NAMES if len(kind_of(load_scenario(name)).world.roles) == 1]
)
HINTS = pytest.mark.filterwarnings("ignore::UserWarning")  # at observations that are not one of a few usual kinds


def short(name: str) -> WorldScenario:
    """The scenario with episodes of a few rounds."""
    fields = {"offloading": {"slots": 2}, "provisioning": {"frames": 2, "slots_per_frame": 2}}
    few = {"frames": 2, "frame_s": 2}
    scenario: WorldScenario = load_scenario(name, fields.get(load_scenario(name).kind, few))
    return scenario


def drawn(env: Episodes, agent: str, rng: np.random.Generator) -> Any:
    """An action of the agent, any."""
    space = env.action_space(agent)
    space.seed(int(rng.integers(2**31)))
    return space.sample()


def play(env: RoundsEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append(env.step({agent: drawn(env, agent, rng) for agent in env.agents}))
    return log


def take_turns(env: TurnsEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append((env.agent_selection, *env.last()))
        env.step(None if log[-1][4] else drawn(env, env.agent_selection, rng))
    return log


@SCENARIOS
@HINTS
def test_agents_that_take_turns_keep_pettingzoos_contract(name: str) -> None:
    make = partial(pettingzoo.env, scenario=short(name))
    api_test(make(), num_cycles=2 * len(make().possible_agents))
    seed_test(make, num_cycles=5)


@IN_ROUNDS
@HINTS
def test_agents_that_act_together_keep_pettingzoos_contract(name: str) -> None:
    make = partial(pettingzoo.parallel_env, scenario=short(name))
    parallel_api_test(make(), num_cycles=40)
    parallel_seed_test(make, num_cycles=5)
    longer = load_scenario(name, {"slots": 4})  # a slot may have no more than one round
    forms = ("parallel_env", "env")
    max_cycles_test(SimpleNamespace(**{form: partial(getattr(pettingzoo, form), scenario=longer) for form in forms}))


def test_episodes_without_a_single_request_are_played_too() -> None:
    quiet = load_scenario("fleet-8", {"frames": 2, "frame_s": 1, "load": 0.02})
    env = pettingzoo.raw_env(scenario=quiet)
    turns = []
    for _ in range(30):
        env.reset()
        turns.append(len(take_turns(env, np.random.default_rng(0))))
    assert min(turns) < max(turns)
    with pytest.raises(InputError, match="has hardly ever something to decide for a router"):
        pettingzoo.raw_env(scenario=load_scenario("fleet-8", {"frames": 1, "frame_s": 1, "load": 1e-9}))


@SCENARIOS
def test_episodes_end_after_max_cycles(name: str) -> None:
    env = pettingzoo.raw_env(scenario=short(name), max_cycles=1)
    env.reset(seed=0)
    first = list(env._them.acting)
    turns = [entry[0] for entry in take_turns(env, np.random.default_rng(0)) if not entry[4]]
    assert turns == first


@SCENARIOS
def test_every_agent_can_always_do_something_and_sees_what_its_space_holds(name: str) -> None:
    env = pettingzoo.raw_env(scenario=short(name))
    env.reset(seed=4)
    rng = np.random.default_rng(4)
    for agent in env.agent_iter():
        seen, _, _, over, info = env.last()
        assert env.observation_space(agent).contains(seen)
        mask = info.get("action_mask")
        if mask is not None:
            assert mask.any()
            assert (seen["action_mask"] == mask).all()
        action = drawn(env, agent, rng)
        assert env.action_space(agent).contains(action)
        env.step(None if over else action)


@SCENARIOS
@pytest.mark.parametrize("steps", [0, 3])
def test_a_pickle_amid_an_episode_plays_on_identically(name: str, steps: int) -> None:
    env = pettingzoo.raw_env(scenario=short(name))
    env.reset(seed=13)
    take_turns(env, np.random.default_rng(0), steps)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(
        take_turns(env, np.random.default_rng(1), 40), take_turns(copy, np.random.default_rng(1), 40)
    )
    env.reset()
    copy.reset()
    assert data_equivalence(take_turns(env, np.random.default_rng(2), 9), take_turns(copy, np.random.default_rng(2), 9))


@IN_ROUNDS
def test_both_forms_play_the_same(name: str) -> None:
    together, in_turn = pettingzoo.parallel_env(short(name)), pettingzoo.raw_env(short(name))
    seen, _ = together.reset(seed=5)
    in_turn.reset(seed=5)
    rng = np.random.default_rng(5)
    while together.agents:
        actions = {agent: drawn(together, agent, rng) for agent in together.agents}
        for agent in in_turn.agents:
            assert data_equivalence(in_turn.observe(agent), seen[agent])
            in_turn.step(actions[agent])
        seen, rewards, _, truncations, infos = together.step(actions)
        assert (rewards, truncations) == (in_turn.rewards, in_turn.truncations)
        assert data_equivalence(infos, in_turn.infos)


def test_a_kind_whose_agents_take_turns_has_no_parallel_form() -> None:
    with pytest.raises(InputError, match="is of the kind provisioning, whose agents take turns"):
        pettingzoo.parallel_env(scenario="t2drl-default")
