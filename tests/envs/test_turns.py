# SPDX-License-Identifier: Apache-2.0
"""The PettingZoo facade of provisioning: the contract, whose turn it is, and that it plays the simulator's world."""

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, seed_test

from edgegen.envs import pettingzoo
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.pettingzoo import TurnsEnv
from edgegen.envs.provisioning.amenders import shares_from_raw
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import ProvisioningWorld

KINDS = pytest.mark.parametrize("cache_action", ["bits", "index"])
CELLS = "t2drl-contended:cells3"


@pytest.fixture
def short() -> ProvisioningScenario:
    return load_scenario(CELLS, {"frames": 3, "slots_per_frame": 2}, ProvisioningScenario)


def sample(env: TurnsEnv, rng: np.random.Generator) -> Any:
    space = env.action_space(env.agent_selection)
    if isinstance(space, gymnasium.spaces.Box):
        return rng.uniform(-1, 1, space.shape).astype(np.float32)
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(rng.integers(int(space.n)))
    return rng.integers(0, 2, space.shape)


def play(env: TurnsEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    """Play to the end, or some steps, and return everything that came back."""
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append((env.agent_selection, *env.last()))
        over = log[-1][3] or log[-1][4]
        env.step(None if over else sample(env, rng))
    return log


@KINDS
@pytest.mark.parametrize("scenario", ["t2drl-default", CELLS])
@pytest.mark.filterwarnings("ignore::UserWarning")  # hints: the two kinds of agents have different spaces
def test_contract_of_agent_by_agent_environments(cache_action: str, scenario: str) -> None:
    api_test(pettingzoo.env(cache_action=cache_action, scenario=scenario), num_cycles=120)
    seed_test(lambda: pettingzoo.env(cache_action=cache_action, scenario=scenario), num_cycles=30)


def test_names_and_spaces(short: ProvisioningScenario) -> None:
    env = TurnsEnv(short)
    assert env.metadata["name"] == "edgegen_provisioning_v0"
    cachers, allocators = ["cacher_0", "cacher_1", "cacher_2"], ["allocator_0", "allocator_1", "allocator_2"]
    assert env.possible_agents == cachers + allocators
    for agent in env.possible_agents:
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.action_space(agent) is env.action_space(agent)
        size = 3 + 3 * 10 + 1 if agent in cachers else 11 * 15 + 10 + 1
        space = env.observation_space(agent)
        assert isinstance(space, gymnasium.spaces.Box)
        assert space.shape == (size,)
        assert np.isfinite(space.low).all()
        assert np.isfinite(space.high).all()
    assert env.action_space("cacher_1") == gymnasium.spaces.MultiBinary(10)
    assert env.action_space("allocator_1").shape == (30,)
    assert TurnsEnv(short, cache_action="index").action_space("cacher_2") == gymnasium.spaces.Discrete(1024)


def test_agents_appear_on_their_turn_only(short: ProvisioningScenario) -> None:
    env = TurnsEnv(short)
    env.reset(seed=0)
    turn = [entry[0] for entry in play(env, np.random.default_rng(0)) if not entry[4]]
    cachers, allocators = ([f"{kind}_{i}" for i in range(3)] for kind in ("cacher", "allocator"))
    assert turn == (cachers + allocators * 2) * 3


@KINDS
@pytest.mark.parametrize("name", ["t2drl-default", CELLS])
def test_it_is_the_batched_simulator(cache_action: Any, name: str) -> None:
    scenario = load_scenario(name, {"frames": 3, "slots_per_frame": 3, "switching_weight": 1e-3})
    env, oracle, rng = (
        TurnsEnv(scenario, cache_action=cache_action),
        ProvisioningWorld(scenario),
        np.random.default_rng(1),
    )
    cells = range(scenario.cells)
    env.reset(seed=21)
    oracle.reset(seed=21)
    frames, reward = 0, torch.empty(0)
    while not oracle.done:
        bits = rng.integers(0, 2, (scenario.cells, scenario.models))
        for i in cells:
            assert env.agent_selection == f"cacher_{i}"
            if oracle.state.frame:
                assert env.last()[1] == pytest.approx(float(reward[0, i]))  # of the frame before
            env.step(bits[i] if cache_action == "bits" else int(bits[i] @ 2 ** np.arange(scenario.models)))
        done = oracle.cache(torch.from_numpy(bits)[None])
        for i in cells:
            info = env.infos[f"cacher_{i}"]
            assert info["cache"] == done.cache[0, i].int().tolist()
            assert info["overflow_gb"] == pytest.approx(float(done.overflow_gb[0, i]))
            assert info["fetch_s"] == pytest.approx(float(done.fetch_s[0, i]))
        for _ in range(scenario.slots_per_frame):
            raw = rng.uniform(-1, 1, (scenario.cells, 2 * scenario.users)).astype(np.float32)
            for i in cells:
                env.step(raw[i])
            seen, (bandwidth, steps) = oracle.observe_slot(), torch.from_numpy(raw)[None].chunk(2, -1)
            shares = shares_from_raw(scenario.allocation_amender, bandwidth, steps, seen.hit)
            outcome = oracle.allocate(*shares)
            for i in cells:
                info = env.infos[f"allocator_{i}"]
                assert env.rewards[f"allocator_{i}"] == pytest.approx(float(outcome.reward[0, i]))
                assert info["cost"] == pytest.approx(float(outcome.cost[0, i].mean()))
                assert info["steps"] == outcome.steps[0, i].int().tolist()
                assert info["hit"] == pytest.approx(float(outcome.hit[0, i].float().mean()))
                parts = info["uplink_s"] + info["backhaul_s"] + info["generation_s"] + info["downlink_s"]
                assert info["delay_s"] == pytest.approx(parts, rel=1e-5)
        reward = oracle.frame_reward()
        assert [env.rewards[f"cacher_{i}"] for i in cells] == pytest.approx(reward[0].tolist())
        frames += 1
    assert frames == 3
    assert all(env.truncations.values())
    assert not any(env.terminations.values())


def test_observations_stay_inside_the_space_and_are_laid_out_as_documented(short: ProvisioningScenario) -> None:
    env, oracle, rng = TurnsEnv(short), ProvisioningWorld(short), np.random.default_rng(3)
    env.reset(seed=8)
    oracle.reset(seed=8)
    for _ in range(3):
        frame = oracle.observe_frame()
        bits = rng.integers(0, 2, (3, 10))
        for i in range(3):
            seen = env.last()[0]
            assert env.observation_space(f"cacher_{i}").contains(seen)
            assert seen[:3].tolist() == np.eye(3)[int(frame.skewness_state[0, i])].tolist()
            assert seen[3:13].tolist() == frame.previous_cache[0, i].int().tolist()
            np.testing.assert_allclose(seen[13:23], frame.frequency[0, i])
            np.testing.assert_allclose(seen[23:33], frame.size_gb[0, i], rtol=1e-6)
            assert seen[33] == 20
            env.step(bits[i])
        oracle.cache(torch.from_numpy(bits)[None])
        for _ in range(2):
            slot = oracle.observe_slot()
            for i in range(3):
                seen = env.last()[0]
                assert env.observation_space(f"allocator_{i}").contains(seen)
                rows = seen[:165].reshape(11, 15)
                np.testing.assert_allclose(rows[0], 10 * slot.gain[0, i].log10(), rtol=1e-5)
                assert rows[1].tolist() == slot.model[0, i].tolist()
                np.testing.assert_allclose(rows[2:4], torch.stack([slot.upload_mbit, slot.result_mbit])[:, 0, i])
                assert rows[4].tolist() == slot.hit[0, i].int().tolist()
                np.testing.assert_allclose(rows[5:], torch.stack(slot.curves.values())[:, 0, i])
                assert seen[165:175].tolist() == slot.cache[0, i].int().tolist()
                assert seen[175] == 600
                env.step(np.zeros(30))
            zeros = torch.zeros(1, 3, 15)
            oracle.allocate(*shares_from_raw(short.allocation_amender, zeros, zeros, slot.hit))
    assert env.observation_space("cacher_0").contains(env.observe("cacher_0"))  # the frame that would follow
    assert env.observation_space("allocator_0").contains(env.observe("allocator_0"))


def test_episodes_follow_the_seed(short: ProvisioningScenario) -> None:
    def first(env: TurnsEnv, **arguments: Any) -> list[Any]:
        env.reset(**arguments)
        return play(env, np.random.default_rng(0), steps=7)

    one, two = TurnsEnv(short), TurnsEnv(short)
    np.random.seed(0)  # noqa: NPY002 - no global generator may play a part
    log = first(one, seed=3)
    np.random.seed(1)  # noqa: NPY002
    assert data_equivalence(log, first(two, seed=3))
    following = first(one)  # the next episode of the same stream
    assert not data_equivalence(log, following)
    assert data_equivalence(following, first(two))
    assert not data_equivalence(first(TurnsEnv(short)), first(TurnsEnv(short)))


@pytest.mark.parametrize("steps", [0, 2, 5, 27, 30])
def test_a_pickle_plays_on_identically(short: ProvisioningScenario, steps: int) -> None:
    env = TurnsEnv(short)
    env.reset(seed=13)
    play(env, np.random.default_rng(0), steps=steps)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(play(env, np.random.default_rng(1)), play(copy, np.random.default_rng(1)))
    env.reset()
    copy.reset()
    assert data_equivalence(play(env, np.random.default_rng(2)), play(copy, np.random.default_rng(2)))


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ([0] * 9, "must be 10 numbers 0 or 1"),
        ([2] + [0] * 9, "must be 10 numbers 0 or 1"),
        ([0.5] * 10, "must be 10 numbers 0 or 1"),
        ([np.nan] * 10, "must be 10 numbers 0 or 1"),
        (["0"] * 10, "must be 10 numbers 0 or 1"),
        ([[0] * 10], "must be 10 numbers 0 or 1"),
        ([[0], [0, 1]], "must be 10 numbers 0 or 1"),
        (0, "must be 10 numbers 0 or 1"),
        (None, "must be 10 numbers 0 or 1"),
    ],
)
def test_impossible_caching_actions_are_refused(short: ProvisioningScenario, action: Any, complaint: str) -> None:
    env = TurnsEnv(short)
    env.reset(seed=0)
    with pytest.raises(InputError, match=f"the action of cacher_0 is .*{complaint}"):
        env.step(action)
    assert env.agent_selection == "cacher_0"
    indexed = TurnsEnv(short, cache_action="index")
    indexed.reset(seed=0)
    for wrong in (-1, 1024, 0.5, 2.0, np.nan, None, [0] * 10, np.zeros((1, 1), int)):
        with pytest.raises(InputError, match=r"but must be a number 0\.\.1023"):
            indexed.step(wrong)


@pytest.mark.parametrize("send", [int, np.int64, np.array, lambda a: np.array([a]), torch.tensor])
def test_choices_come_as_numbers_and_as_arrays_of_one(short: ProvisioningScenario, send: Any) -> None:
    env = TurnsEnv(short, cache_action="index")
    env.reset(seed=0)
    for _ in range(3):
        env.step(send(5))
    assert env.infos["cacher_2"]["cache"] == [1, 0, 1] + [0] * 7


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_caching_decisions_come_as_numbers_of_any_kind(short: ProvisioningScenario, dtype: Any) -> None:
    env = TurnsEnv(short)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.array([1, 0, 1] + [0] * 7, dtype))
    assert env.infos["cacher_1"]["cache"] == [1, 0, 1] + [0] * 7


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_impossible_seeds_are_refused(short: ProvisioningScenario, seed: Any) -> None:
    with pytest.raises(InputError, match=r"^seed is .*, but must be a whole number of at least 0"):
        TurnsEnv(short).reset(seed=seed)


@pytest.mark.parametrize(
    "action",
    [[0] * 29, [np.nan] * 30, [np.inf] * 30, [1.5] + [0] * 29, [-2] * 30, ["0.5"] * 30, [1j] * 30, 0, None, "half"],
)
def test_impossible_allocations_are_refused_and_change_nothing(short: ProvisioningScenario, action: Any) -> None:
    env = TurnsEnv(short)
    env.reset(seed=0)
    play(env, np.random.default_rng(0), steps=4)
    with pytest.raises(InputError, match=r"the action of allocator_1 .* must be 30 finite numbers in \[-1, 1\]"):
        env.step(action)
    assert env.agent_selection == "allocator_1"


def test_steps_outside_an_episode_are_refused(short: ProvisioningScenario) -> None:
    env = TurnsEnv(short)
    with pytest.raises(ValueError, match="reset"):
        env.step([0] * 10)
    env.reset(seed=0)
    play(env, np.random.default_rng(0))
    assert env.agents == []
    with pytest.raises(ValueError, match="reset"):
        env.step(None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"scenario": "t2drl-defalt"}, r"Did you mean 't2drl-default'\?"),
        ({"scenario": 3}, "scenario is 3, but must be a scenario, or the name or path of one"),
        ({"scenario": "t2drl-default", "cache_action": "names"}, "'bits' or 'index'"),
        (
            {"scenario": "t2drl-default", "cache_act": "bits"},
            r"no argument 'cache_act'; .* Did you mean 'cache_action'",
        ),
        ({"render_mode": "rgb_array"}, "'ansi', 'human' or None"),
        (
            {"scenario": load_scenario("t2drl-default", {"models": 21}), "cache_action": "index"},
            "21 models, but as one number .* 20 at most; use 'bits'",
        ),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pettingzoo.raw_env(**arguments)


def test_caches_and_delays_are_drawn(short: ProvisioningScenario, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for mode in ("ansi", "human"):
        env = TurnsEnv(short, render_mode=mode)
        env.reset(seed=0)
        for _ in range(3):
            env.step([1, 0] + [0] * 8)
        for _ in range(3):
            env.step(np.zeros(30))
        pictures.append(env.render() if mode == "ansi" else capsys.readouterr().out)
    assert pictures[0] == pictures[1]
    lines = str(pictures[0]).splitlines()
    assert lines[0] == "frame 0 of 3, slot 1 of 2"
    assert [line.split(" hits")[0].rsplit(" ", 1)[0] for line in lines[1:]] == [
        f"cell {i} |#.........|" for i in range(3)
    ]
    with pytest.warns(UserWarning, match="needs a render_mode"):
        assert TurnsEnv(short).render() is None
    assert len(lines) == 4
