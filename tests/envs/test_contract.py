"""PettingZoo's own tests, and what every library counts on, in every scenario that ships."""

import pickle
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test

from edgegen.envs import parallel, turns
from edgegen.envs.core.scenarios import load_scenario, scenario_names
from edgegen.envs.parallel import OffloadingParallelEnv
from edgegen.envs.turns import ProvisioningTurns

OFFLOADING = pytest.mark.parametrize("name", scenario_names("offloading"))
PROVISIONING = pytest.mark.parametrize("name", scenario_names("provisioning"))
HINTS = pytest.mark.filterwarnings("ignore::UserWarning")  # at observations that are not one of a few usual kinds


def offloading(name: str, slots: int | None = None) -> Any:
    """The two forms of the world with episodes of a slot or two, as PettingZoo's modules have them.

    A variant differs in numbers: that slots follow each other is seen in its scenario.
    """
    scenario = load_scenario(name, {"slots": slots or (1 if ":" in name else 2)})
    make = {form: partial(getattr(parallel, form), scenario=scenario) for form in ("parallel_env", "env")}
    return SimpleNamespace(**make)


def provisioning(name: str) -> Any:
    """Make the world with episodes of two frames."""
    return partial(turns.env, scenario=load_scenario(name, {"frames": 2, "slots_per_frame": 2}))


def play(env: OffloadingParallelEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append(env.step({agent: int(rng.integers(env.scenario.servers)) for agent in env.agents}))
    return log


def take_turns(env: ProvisioningTurns, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append((env.agent_selection, *env.last()))
        width = env.action_space(env.agent_selection).shape
        env.step(None if log[-1][4] else rng.integers(0, 2, width))
    return log


@OFFLOADING
@HINTS
def test_offloading_keeps_pettingzoos_contract(name: str) -> None:
    world = offloading(name)
    parallel_api_test(world.parallel_env(), num_cycles=40)
    parallel_seed_test(world.parallel_env, num_cycles=5)
    max_cycles_test(offloading(name, 4))  # a slot may have no more than one round
    api_test(world.env(), num_cycles=2 * load_scenario(name).servers)
    seed_test(world.env, num_cycles=5)


@PROVISIONING
@HINTS
def test_provisioning_keeps_pettingzoos_contract(name: str) -> None:
    api_test(provisioning(name)(), num_cycles=20)
    seed_test(provisioning(name), num_cycles=12)


@OFFLOADING
def test_every_agent_can_always_do_something_and_sees_what_its_space_holds(name: str) -> None:
    env = offloading(name).parallel_env()
    observations, infos = env.reset(seed=4)
    rng = np.random.default_rng(4)
    while True:
        for agent in env.possible_agents:
            mask = observations[agent]["action_mask"]
            assert mask.any()
            assert (infos[agent]["action_mask"] == mask).all()
            assert env.observation_space(agent).contains(observations[agent])
        if not env.agents:
            break
        actions = {a: env.action_space(a).sample(observations[a]["action_mask"]) for a in env.agents}
        assert all(env.action_space(agent).contains(action) for agent, action in actions.items())
        observations, _, _, _, infos = env.step({agent: int(rng.integers(env.scenario.servers)) for agent in actions})


@OFFLOADING
def test_offloading_is_pickled_amid_an_episode(name: str) -> None:
    env = offloading(name, 4).parallel_env()
    env.reset(seed=13)
    play(env, np.random.default_rng(0), steps=3)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(play(env, np.random.default_rng(1), 8), play(copy, np.random.default_rng(1), 8))
    assert data_equivalence(env.reset(), copy.reset())


@PROVISIONING
def test_provisioning_is_pickled_amid_an_episode(name: str) -> None:
    env = provisioning(name)()
    env.reset(seed=13)
    take_turns(env, np.random.default_rng(0), steps=3)
    copy = pickle.loads(pickle.dumps(env))
    assert data_equivalence(take_turns(env, np.random.default_rng(1)), take_turns(copy, np.random.default_rng(1)))
