"""The PettingZoo facade: the contract, and that it plays the very world of the batched simulator."""

import pickle
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test

from edgegen.envs import pettingzoo
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.agents import TASKS_LEFT
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.pettingzoo import RoundsEnv

KINDS = pytest.mark.parametrize("observation", ["dict", "vector"])


@pytest.fixture
def short() -> OffloadingScenario:
    return load_scenario("demo", {"slots": 6})


def sparse() -> OffloadingScenario:
    """A world in which many slots bring nothing to anybody."""
    return load_scenario(
        "demo",
        {"slots": 30, "tasks_per_slot.low": 0, "tasks_per_slot.high": 1}
        | {"capacity_gcycles_s": [3, 1], "rate_mbit_s": [400, 500]},
    )


def random_actions(env: RoundsEnv, rng: np.random.Generator) -> dict[str, int]:
    return {agent: int(rng.integers(env.scenario.servers)) for agent in env.agents}


def play(env: RoundsEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    """Play to the end, or some steps, and return everything that came back."""
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append(env.step(random_actions(env, rng)))
    return log


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
        assert env.observation_space(agent)["observation"].shape == (4 + 4 * 5,)
    space = RoundsEnv("ladts-paper", observation="vector").observation_space("edge_19")
    assert space.shape == (84,)
    assert space.dtype == np.float32
    assert np.isfinite(space.low).all()
    assert np.isfinite(space.high).all()


@pytest.mark.parametrize("name", ["demo", "ladts-paper:n10"])
@pytest.mark.parametrize("target", ["random", "slowest"])
def test_observations_stay_inside_the_space(name: str, target: str) -> None:
    env = RoundsEnv(name)
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


def test_observation_is_laid_out_as_documented(short: OffloadingScenario) -> None:
    env = RoundsEnv(short)
    tasks = OffloadingWorld(short).reset(seed=8).tasks
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


@pytest.mark.parametrize(
    "scenario", [load_scenario("demo"), load_scenario("ladts-paper:by-index", {"slots": 20}), sparse()]
)
def test_delays_and_backlogs_are_those_of_the_batched_simulator(scenario: OffloadingScenario) -> None:
    env = RoundsEnv(scenario, observation="vector")
    oracle = OffloadingWorld(scenario)
    rng = np.random.default_rng(5)
    expected = oracle.reset(seed=21)
    servers = scenario.servers
    observations, _ = env.reset(seed=21)
    while not oracle.done:
        backlog = observations["edge_0"][4 : 4 + servers]
        np.testing.assert_allclose(backlog, expected.backlog_gcycles[0].numpy(), rtol=1e-6)
        server = torch.zeros_like(expected.tasks.present, dtype=torch.long)
        rounds = max(int(expected.tasks.present.sum(-1).max()), 1)
        delays = np.zeros(expected.tasks.present.shape)
        for n in range(rounds):
            actions = random_actions(env, rng)
            waiting = [b for b in range(servers) if expected.tasks.present[0, b, n]]
            observations, rewards, _, truncations, infos = env.step(actions)
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
    observations, _ = env.reset(seed=21)
    seen = oracle.reset(seed=21)
    while not oracle.done:
        server, delays = torch.zeros_like(seen.tasks.present, dtype=torch.long), np.zeros(seen.tasks.present.shape)
        for b, n in seen.tasks.present[0].nonzero().tolist():
            placing = [agent for agent, vector in observations.items() if vector[TASKS_LEFT]]
            assert placing == [f"edge_{b}"]
            assert observations[f"edge_{b}"][TASKS_LEFT] == int(seen.tasks.present[0, b].sum()) - n
            server[0, b, n] = int(rng.integers(20))
            observations, rewards, *_ = env.step({f"edge_{b}": int(server[0, b, n])})
            delays[0, b, n] = -sum(rewards.values())
        outcome = oracle.decide(server)
        np.testing.assert_allclose(delays, outcome.dense(outcome.delays.total_s).numpy(), rtol=1e-5, atol=1e-6)
        seen = oracle.observe()
    assert env.agents == []


def test_last_observation_shows_the_slot_that_would_follow(short: OffloadingScenario) -> None:
    env = RoundsEnv(short, observation="vector")
    env.reset(seed=1)
    observations, _, terminations, truncations, _ = play(env, np.random.default_rng(0))[-1]
    oracle = OffloadingWorld(short)
    oracle.reset(seed=1)
    beyond = oracle._arrivals.slot(short.slots)
    assert observations["edge_3"][3] == int(beyond.present[0, 3].sum())
    assert observations["edge_3"][1] == float(beyond.workload_gcycles[0, 3, 0])
    assert all(truncations.values())
    assert not any(terminations.values())
    with pytest.raises(ValueError, match="reset"):
        env.step({})


def test_episodes_follow_the_seed(short: OffloadingScenario) -> None:
    one, two = RoundsEnv(short), RoundsEnv(short)
    np.random.seed(0)  # noqa: NPY002 - no global generator may play a part
    first = one.reset(seed=3)
    np.random.seed(1)  # noqa: NPY002
    assert data_equivalence(first, two.reset(seed=3))
    play(one, np.random.default_rng(0), steps=5)
    second = one.reset()  # the next episode of the same stream, however far the last one was played
    assert not data_equivalence(first, second)
    assert data_equivalence(second, two.reset())
    assert data_equivalence(one.reset(seed=3), first)
    assert not data_equivalence(RoundsEnv(short).reset(), RoundsEnv(short).reset())


@KINDS
def test_a_pickle_mid_episode_plays_on_identically(short: OffloadingScenario, observation: Any) -> None:
    env = RoundsEnv(short, observation=observation)
    env.reset(seed=13)
    play(env, np.random.default_rng(0), steps=20)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(play(env, np.random.default_rng(1)), play(copy, np.random.default_rng(1)))
    assert data_equivalence(env.reset(), copy.reset())


def waits(observation: Any) -> bool:
    return bool(observation["observation"][TASKS_LEFT] == 0)


def test_actions_of_agents_that_wait_are_ignored(short: OffloadingScenario) -> None:
    env, strict, other = (RoundsEnv(short) for _ in range(3))
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
    ("name", "oldest"),
    [("stale:b5", 12), ("stale:late", 4), ("stale:lossy", 12), ("failing:unheard", 12)],
)
def test_the_age_of_reports_is_seen_as_policies_see_it(name: str, oldest: int) -> None:
    scenario = load_scenario(name, {"slots": 12})
    env, simulator = RoundsEnv(scenario), OffloadingWorld(scenario)
    servers = scenario.servers
    space: Any = env.observation_space("edge_0")["observation"]
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


@pytest.mark.parametrize(
    "send", [int, np.int64, np.uint8, np.array, lambda a: np.array([a]), lambda a: [a], torch.tensor]
)
@pytest.mark.parametrize("form", ["parallel", "agent by agent"])
def test_choices_come_as_numbers_and_as_arrays_of_one(short: OffloadingScenario, send: Any, form: str) -> None:
    if form == "parallel":
        env, plain = RoundsEnv(short), RoundsEnv(short)
        env.reset(seed=0)
        plain.reset(seed=0)
        for n in range(20):
            actions = {agent: (b + n) % 5 for b, agent in enumerate(env.agents)}
            sent = {agent: send(action) for agent, action in actions.items()}
            assert data_equivalence(env.step(sent), plain.step(actions))
        return
    turn, plain_turn = pettingzoo.env(scenario=short), pettingzoo.env(scenario=short)
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
def test_impossible_actions_are_refused_and_change_nothing(short: OffloadingScenario, action: Any) -> None:
    env, untouched = RoundsEnv(short), RoundsEnv(short)
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
def test_actions_of_other_agents_are_refused_and_change_nothing(
    short: OffloadingScenario, actions: Any, complaint: str
) -> None:
    env, untouched = RoundsEnv(short), RoundsEnv(short)
    env.reset(seed=0)
    untouched.reset(seed=0)
    with pytest.raises(InputError, match=complaint):
        env.step(actions)
    possible = dict.fromkeys(env.agents, 0)
    assert data_equivalence(env.step(possible), untouched.step(possible))


@pytest.mark.parametrize("seed", [-1, 1.5, "7", np.nan, [1, 2], True])
def test_impossible_seeds_are_refused(short: OffloadingScenario, seed: Any) -> None:
    with pytest.raises(InputError, match=r"^seed is .*, but must be a whole number of at least 0"):
        RoundsEnv(short).reset(seed=seed)


def test_seeds_may_be_numpys_and_large(short: OffloadingScenario) -> None:
    one, two = RoundsEnv(short), RoundsEnv(short)
    assert data_equivalence(one.reset(seed=np.int64(7)), two.reset(seed=7))
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


def test_the_queues_are_drawn(short: OffloadingScenario, capsys: pytest.CaptureFixture[str]) -> None:
    env = RoundsEnv(short, render_mode="ansi")
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
    human = RoundsEnv(short, render_mode="human")
    human.reset(seed=0)
    human.step(dict.fromkeys(human.agents, 1))
    assert capsys.readouterr().out.endswith(picture)
    with pytest.warns(UserWarning, match="needs a render_mode"):
        assert RoundsEnv(short).render() is None
