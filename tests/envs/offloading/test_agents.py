# SPDX-License-Identifier: Apache-2.0
"""Agents of other libraries play the very world of the batched simulator, and see what policies see."""

from collections.abc import Mapping

import gymnasium
import numpy as np
import pytest
import torch

from edgegen.envs.core.agents import Observation
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.pettingzoo import RoundsEnv
from tests.envs.rounds import SHORT, play, random_actions


def vectors(observations: Mapping[str, Observation]) -> dict[str, np.ndarray]:
    """Observations that are arrays."""
    return {agent: seen for agent, seen in observations.items() if isinstance(seen, np.ndarray)}


def sparse() -> OffloadingScenario:
    """A world in which many slots bring nothing to anybody."""
    tasks = {"slots": 30, "tasks_per_slot.low": 0, "tasks_per_slot.high": 1}
    servers = {"capacity_gcycles_s": [3, 1], "rate_mbit_s": [400, 500]}
    return load_scenario("demo", tasks | servers, OffloadingScenario)


def test_observation_is_laid_out_as_documented() -> None:
    env = RoundsEnv(SHORT)
    tasks = OffloadingWorld(SHORT).reset(seed=8).tasks
    observations, infos = env.reset(seed=8)
    placed = np.zeros((5, 5))
    for n in range(3):  # the first three rounds: what was placed earlier in the slot grows, the backlog does not
        for b in range(5):
            seen = observations[f"edge_{b}"]["observation"]
            left = max(int(tasks.present[0, b].sum()) - n, 0)
            task = [getattr(tasks, q)[0, b, n] * (left > 0) for q in ("size_mbit", "workload_gcycles", "result_mbit")]
            np.testing.assert_allclose(seen[:3], task)
            assert seen[3] == left
            assert (seen[4:9] == 0).all()
            np.testing.assert_allclose(seen[9:14], placed[b], rtol=1e-6)
            np.testing.assert_allclose(seen[14:19], [12, 6, 20, 8, 30])
            np.testing.assert_allclose(seen[19:24], [450, 420, 480, 410, 500])
            mask = observations[f"edge_{b}"]["action_mask"]
            assert mask.dtype == np.int8
            assert mask.tolist() == [1] * 5  # also of an agent that waits
            assert infos[f"edge_{b}"]["action_mask"].tolist() == mask.tolist()
            placed[b, (b + n) % 5] += task[1]
        observations, _, _, _, infos = env.step({f"edge_{b}": (b + n) % 5 for b in range(5)})


@pytest.mark.parametrize(("name", "slots"), [("demo", 40), ("ladts-paper:n10", 12)])
@pytest.mark.parametrize("target", ["random", "slowest"])
def test_observations_stay_inside_the_space(name: str, slots: int, target: str) -> None:
    env = RoundsEnv(load_scenario(name, {"slots": slots}))
    rng = np.random.default_rng(2)
    slowest = int(np.argmin(env.scenario.capacity_gcycles_s))
    observations, _ = env.reset(seed=2)
    while True:
        for agent, seen in observations.items():
            assert env.observation_space(agent).contains(seen)
        if not env.agents:
            break
        actions = random_actions(env, rng) if target == "random" else dict.fromkeys(env.agents, slowest)
        observations = env.step(actions)[0]


@pytest.mark.parametrize(
    "scenario", [load_scenario("demo"), load_scenario("ladts-paper:by-index", {"slots": 20}), sparse()]
)
def test_delays_and_backlogs_are_those_of_the_batched_simulator(scenario: OffloadingScenario) -> None:
    env = RoundsEnv(scenario, observation="vector")
    oracle = OffloadingWorld(scenario)
    rng = np.random.default_rng(5)
    expected = oracle.reset(seed=21)
    servers = scenario.servers
    observations = vectors(env.reset(seed=21)[0])
    while not oracle.done:
        backlog = observations["edge_0"][4 : 4 + servers]
        np.testing.assert_allclose(backlog, expected.backlog_gcycles[0].numpy(), rtol=1e-6)
        server = torch.zeros_like(expected.tasks.present, dtype=torch.long)
        rounds = max(int(expected.tasks.present.sum(-1).max()), 1)
        delays = np.zeros(expected.tasks.present.shape)
        for n in range(rounds):
            actions = random_actions(env, rng)
            waiting = [b for b in range(servers) if expected.tasks.present[0, b, n]]
            seen, rewards, _, truncations, infos = env.step(actions)
            observations = vectors(seen)
            for b, agent in enumerate(env.possible_agents):
                server[0, b, n] = actions[agent]
                delays[0, b, n] = -rewards[agent]
                assert ("delay_s" in infos[agent]) == (b in waiting)
                if b in waiting:
                    info = infos[agent]
                    parts = info["transfer_s"] + info["wait_s"] + info["compute_s"] + info["return_s"]
                    assert info["delay_s"] == pytest.approx(parts, rel=1e-5)
                    assert info["delay_s"] == -rewards[agent]
                    assert info["server"] == actions[agent]
                else:
                    assert rewards[agent] == 0
        outcome = oracle.decide(server)
        np.testing.assert_allclose(delays, outcome.dense(outcome.delays.total_s).numpy(), rtol=1e-5, atol=1e-6)
        expected = oracle.observe()
        assert all(truncations.values()) == oracle.done
    assert env.agents == []


def test_delays_of_agents_that_place_one_after_the_other_are_those_of_the_simulator() -> None:
    scenario = load_scenario("ladts-paper:n10", {"slots": 5})
    assert scenario.service_order == "by_server"
    env, oracle, rng = RoundsEnv(scenario, observation="vector"), OffloadingWorld(scenario), np.random.default_rng(5)
    observations = vectors(env.reset(seed=21)[0])
    seen = oracle.reset(seed=21)
    while not oracle.done:
        server, delays = torch.zeros_like(seen.tasks.present, dtype=torch.long), np.zeros(seen.tasks.present.shape)
        for b, n in seen.tasks.present[0].nonzero().tolist():
            placing = [agent for agent, vector in observations.items() if vector[TASKS_LEFT]]
            assert placing == [f"edge_{b}"]
            assert observations[f"edge_{b}"][TASKS_LEFT] == int(seen.tasks.present[0, b].sum()) - n
            server[0, b, n] = int(rng.integers(20))
            found, rewards, *_ = env.step({f"edge_{b}": int(server[0, b, n])})
            observations = vectors(found)
            delays[0, b, n] = -sum(rewards.values())
        outcome = oracle.decide(server)
        np.testing.assert_allclose(delays, outcome.dense(outcome.delays.total_s).numpy(), rtol=1e-5, atol=1e-6)
        seen = oracle.observe()
    assert env.agents == []


def test_last_observation_shows_the_slot_that_would_follow() -> None:
    env = RoundsEnv(SHORT, observation="vector")
    env.reset(seed=1)
    observations, _, terminations, truncations, _ = play(env, np.random.default_rng(0))[-1]
    oracle = OffloadingWorld(SHORT)
    oracle.reset(seed=1)
    beyond = oracle._arrivals.slot(SHORT.slots)
    assert observations["edge_3"][3] == int(beyond.present[0, 3].sum())
    assert observations["edge_3"][1] == float(beyond.workload_gcycles[0, 3, 0])
    assert all(truncations.values())
    assert not any(terminations.values())
    with pytest.raises(ValueError, match="reset"):
        env.step({})


@pytest.mark.parametrize(
    ("name", "oldest"),
    [("stale:b5", 12), ("stale:late", 4), ("stale:lossy", 12), ("failing:unheard", 12)],
)
def test_the_age_of_reports_is_seen_as_policies_see_it(name: str, oldest: int) -> None:
    scenario = load_scenario(name, {"slots": 12})
    env, simulator = RoundsEnv(scenario), OffloadingWorld(scenario)
    servers = scenario.servers
    whole = env.observation_space("edge_0")
    assert isinstance(whole, gymnasium.spaces.Dict)
    space = whole["observation"]
    assert isinstance(space, gymnasium.spaces.Box)
    assert space.shape == (4 + 5 * servers,)
    assert (space.low[-servers:] == 0).all()
    np.testing.assert_allclose(space.high[-servers:], oldest, rtol=2e-5)
    observations, _ = env.reset(seed=8)
    seen = simulator.reset(seed=8)
    rng, ages = np.random.default_rng(8), set()
    while not simulator.done:
        server = torch.zeros_like(seen.tasks.present, dtype=torch.long)
        for n in range(max(int(seen.tasks.present.sum(-1).max()), 1)):
            for agent in env.agents:
                vector = observations[agent]["observation"]
                np.testing.assert_array_equal(vector[-servers:], seen.age_slots[0])
                np.testing.assert_allclose(vector[4 : 4 + servers], seen.backlog_gcycles[0], rtol=1e-6)
                assert space.contains(vector)
            actions = random_actions(env, rng)
            server[0, :, n] = torch.tensor(list(actions.values()))
            observations = env.step(actions)[0]
        ages |= set(seen.age_slots[0].int().tolist())
        simulator.decide(server)
        seen = simulator.observe()
    assert len(ages) > 2


def test_worlds_without_reports_have_no_row_for_their_age() -> None:
    assert RoundsEnv("stable:b5", observation="vector").observation_space("edge_0").shape == (24,)
