# SPDX-License-Identifier: Apache-2.0
"""Many copies as one environment, normalised views, identities, and the global view."""

from typing import Any

import numpy as np
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test

from edgegen.envs import pettingzoo
from edgegen.envs.core.agent_views import VECTOR
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.pettingzoo import parallel_env, vector_env

WORLDS = ("demo", "stale:b5", "failing:unheard", "links:b5", "ladts-paper:by-index", "ladts-paper:n10")
JUDGED = {"slots": 3, "power_w": [100], "objective": {"energy": 20, "transfer": 0.1}}


def chosen(vector: Any, servers: int) -> Any:
    """A server that follows from what an agent sees, of one vector or many."""
    return (np.floor(vector[..., 0] * 7) + np.floor(vector[..., 3])).astype(np.int64) % servers


def played_alone(name: str, changes: dict[str, Any], episodes: int) -> np.ndarray:
    env = parallel_env(load_scenario(name, changes), observation="vector")
    earned = np.zeros((episodes, len(env.possible_agents)))
    for episode in range(episodes):
        seen, _ = env.reset(seed=5) if episode == 0 else env.reset()
        while env.agents:
            seen, rewards, *_ = env.step({a: int(chosen(v, env.scenario.servers)) for a, v in seen.items()})
            earned[episode] += list(rewards.values())
    return earned


@pytest.mark.parametrize("changes", [{"slots": 3}, JUDGED], ids=["delay", "judged"])
@pytest.mark.parametrize("name", WORLDS)
def test_copies_are_the_episodes_of_the_parallel_form(name: str, changes: dict[str, Any]) -> None:
    scenario = load_scenario(name, changes)
    env = vector_env(scenario, copies=3)
    seen, _ = env.reset(seed=5)
    earned = np.zeros((3, scenario.servers))
    while env.agents:
        actions = np.stack([chosen(seen[agent], scenario.servers) for agent in env.agents], axis=-1)
        for agent, vectors in seen.items():
            space = env.observation_space(agent)
            assert all(space.contains(vector) for vector in vectors)
        seen, rewards, terminations, truncations, _ = env.step(actions)
        earned += np.stack(list(rewards.values()), axis=-1)
    assert all(ended.all() for ended in truncations.values())
    assert not any(ended.any() for ended in terminations.values())
    assert np.allclose(earned, played_alone(name, changes, 3), rtol=1e-5)


def test_copies_see_what_the_parallel_form_sees() -> None:
    alone, many = parallel_env("demo", observation="vector", identity=True), vector_env(copies=1, identity=True)
    seen: Any
    seen, _ = alone.reset(seed=1)
    together, _ = many.reset(seed=1)
    for step in range(40):
        for agent in alone.agents:
            assert np.allclose(together[agent][0], seen[agent], rtol=1e-6)
        assert np.allclose(many.state()[0], alone.state(), rtol=1e-6)
        actions = {agent: (step + at) % 5 for at, agent in enumerate(alone.agents)}
        seen, rewards, *_, infos = alone.step(actions)
        together, earned, *_, told = many.step({agent: np.array([action]) for agent, action in actions.items()})
        assert np.allclose([earned[agent][0] for agent in rewards], [*rewards.values()], rtol=1e-5)
        for agent, info in infos.items():
            assert told[agent]["placed"][0] == ("delay_s" in info)


@pytest.mark.parametrize("observation", ["dict", "vector"])
def test_normalised_views_with_identities_keep_the_contract(observation: str) -> None:
    def make(**options: Any) -> Any:
        return parallel_env(load_scenario("stale:b5", {"slots": 4}), observation=observation, **options)

    parallel_api_test(make(normalise=True, identity=True), num_cycles=100)
    parallel_seed_test(lambda: make(normalise=True, identity=True), num_cycles=20)
    plain, dressed = make(), make(normalise=True, identity=True)
    seen, own = plain.reset(seed=2)[0]["edge_3"], dressed.reset(seed=2)[0]["edge_3"]
    seen, own = (value[VECTOR] if observation == "dict" else value for value in (seen, own))
    space = plain.observation_space("edge_3")
    space = space[VECTOR] if observation == "dict" else space
    assert np.allclose(own[:-5], (seen - space.low) / (space.high - space.low), atol=1e-6)
    assert own[-5:].tolist() == [0, 0, 0, 1, 0]
    assert dressed.state_space.contains(dressed.state())
    assert dressed.state().shape == (5 * len(own),)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["t2drl-default", "fleet-8"])
def test_agents_that_take_turns_have_the_same_options(name: str) -> None:
    short = {"frames": 2, "slots_per_frame": 2} if name.startswith("t2") else {"frames": 1, "frame_s": 2}
    env = pettingzoo.env(load_scenario(name, short), normalise=True, identity=True)
    api_test(env, num_cycles=20)
    env.reset(seed=0)
    whole = env.unwrapped.state()
    assert env.unwrapped.state_space.contains(whole)
    agent = env.agent_selection
    assert env.observe(agent)[-len(env.possible_agents) :].sum() == 1


def test_steps_of_many_copies_follow_the_seed_and_go_on() -> None:
    env = vector_env("demo", copies=2, max_cycles=3)
    first, _ = env.reset(seed=3)
    for _ in range(3):
        *_, truncations, _ = env.step(np.zeros((2, 5), dtype=np.int64))
    assert not env.agents
    assert truncations["edge_0"].tolist() == [True, True]
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros((2, 5), dtype=np.int64))
    later, _ = env.reset()
    again, _ = env.reset(seed=3)
    assert all((again[agent] == first[agent]).all() for agent in first)
    assert any((later[agent] != first[agent]).any() for agent in first)


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        ({"edge_0": [0, 0]}, "an entry for each of edge_0"),
        (np.zeros((2, 4), dtype=np.int64), "for 2 copies and 5 agents"),
        (np.zeros((2, 5)), "must be integers"),
        (np.full((2, 5), 5), "is 5, but must be a server 0..4"),
    ],
)
def test_wrong_actions_of_many_copies_are_one_sentence(actions: Any, complaint: str) -> None:
    env = vector_env("demo", copies=2)
    env.reset(seed=0)
    with pytest.raises(InputError, match=complaint):
        env.step(actions)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"scenario": "t2drl-default"}, "whose agents take turns"),
        ({"copies": 0}, "copies is 0"),
        ({"normalise": 1}, "normalise is 1, but must be True or False"),
        ({"identity": "yes"}, "identity is 'yes'"),
    ],
)
def test_wrong_arguments_of_many_copies_are_one_sentence(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        vector_env(**arguments)
