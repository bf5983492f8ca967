# SPDX-License-Identifier: Apache-2.0
"""Other libraries' runners in the same world, in the same process: what they and ours play per second.

The world is the PettingZoo environment of a scenario. Everybody plays it with one policy for all servers; ours has E
copies of the world in one array. Whoever is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.pettingzoo import RoundsEnv
from edgegen.platform.bench.measuring import BenchRun, Measurement, rate
from edgegen.platform.process import quiet_libraries

SCENARIO = "ladts-paper"
SLOTS = 2
"""Slots per repeat: peers take seconds for more."""
HIDDEN = 20
"""Width of both hidden layers of everybody's policy, as in LAD-TS."""
COPIES = 16
"""Copies that ours plays in one array."""


OURS = "edgegen's runner"
"""What the names of our own measurements begin with."""


def peers(run: BenchRun) -> Iterator[Measurement]:
    """Measure who is installed, ours last."""
    quiet_libraries()
    scenario: OffloadingScenario = load_scenario(SCENARIO, {"slots": SLOTS}, OffloadingScenario)
    ways: dict[str, tuple[str, Callable[[OffloadingScenario, int], Callable[[], Any]]]] = {
        "a plain loop over PettingZoo": ("pettingzoo", _plain_loop),
        "RLlib's MultiAgentEnvRunner": ("ray", _rllib),
        "Stable-Baselines3's vector env": ("stable_baselines3", _stable_baselines),
        "TorchRL's collector": ("torchrl", _torchrl),
    }
    one = _decisions(scenario, run.seed)
    for name, (module, make) in ways.items():
        if not installed(module):
            continue
        run.tell(name)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # some draw from torch's own generator
            warnings.simplefilter("ignore")
            torch.manual_seed(run.seed)
            action = make(scenario, run.seed)
            yield rate(f"{name} plays", "decisions/s", one, action, 1 if run.quick else 3)
    for copies in (1, COPIES):
        run.tell(f"edgegen's runner with {copies} copies")
        count = _decisions(scenario, run.seed) * copies
        yield rate(f"{OURS} plays, E = {copies}", "decisions/s", count, _ours(scenario, run.seed, copies), 3)


def installed(module: str) -> bool:
    """Whether a library is there."""
    return importlib.util.find_spec(module) is not None


def _decisions(scenario: OffloadingScenario, seed: int) -> int:
    """Tasks of an episode, on average over some."""
    episodes = 16
    return round(int(draw_episodes(scenario, seed, range(episodes)).present[:, : scenario.slots].sum()) / episodes)


def _env(scenario: OffloadingScenario) -> RoundsEnv:
    return RoundsEnv(scenario, observation="vector")


def _plain_loop(scenario: OffloadingScenario, seed: int) -> Callable[[], Any]:
    env, generator = _env(scenario), np.random.default_rng(seed)

    def play() -> None:
        env.reset(seed=seed)
        while env.agents:
            env.step({agent: int(generator.integers(scenario.servers)) for agent in env.agents})

    return play


def _rllib(scenario: OffloadingScenario, seed: int) -> Callable[[], Any]:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

    from edgegen.algorithms.rllib.environments import OFFLOADING_ENV, register_rllib_envs

    register_rllib_envs()
    config = (
        PPOConfig()
        .environment(OFFLOADING_ENV, env_config={"scenario": scenario}, disable_env_checking=True)
        .multi_agent(policies={"all"}, policy_mapping_fn=lambda *names, **more: "all")
        .rl_module(model_config={"fcnet_hiddens": [HIDDEN, HIDDEN], "vf_share_layers": False})
        .env_runners(num_env_runners=0, batch_mode="complete_episodes")
        .debugging(seed=seed, log_level="ERROR")
    )
    runner = MultiAgentEnvRunner(config=config)
    return lambda: runner.sample(num_episodes=1)


def _stable_baselines(scenario: OffloadingScenario, seed: int) -> Callable[[], Any]:
    del seed  # its vector environments take none here
    import supersuit
    from stable_baselines3 import PPO

    agents = supersuit.concat_vec_envs_v1(
        supersuit.pettingzoo_env_to_vec_env_v1(_env(scenario)), 1, base_class="stable_baselines3"
    )
    network = {"net_arch": [HIDDEN, HIDDEN]}
    model: Any = PPO("MlpPolicy", agents, n_steps=2, batch_size=2, device="cpu", policy_kwargs=network)

    def play() -> None:
        seen = agents.reset()
        while True:
            actions, _ = model.predict(seen)
            seen, _, done, _ = agents.step(actions)
            if done.any():
                return

    return play


def _torchrl(scenario: OffloadingScenario, seed: int) -> Callable[[], Any]:
    from torchrl import collectors
    from torchrl.envs import PettingZooWrapper

    rounds = _rounds(scenario, seed)
    env = PettingZooWrapper(_env(scenario), seed=seed)
    make: Any = getattr(collectors, "Collector", None) or collectors.SyncDataCollector  # its name before 0.12
    batches = iter(make(env, None, frames_per_batch=rounds, total_frames=-1, device="cpu"))
    return lambda: next(batches)


def _rounds(scenario: OffloadingScenario, seed: int) -> int:
    """Steps of an episode of the PettingZoo environment."""
    env, steps = _env(scenario), 0
    env.reset(seed=seed)
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))
        steps += 1
    return steps


def _ours(scenario: OffloadingScenario, seed: int, copies: int) -> Callable[[], Any]:
    from edgegen.algorithms.methods.ladts import METHOD
    from edgegen.algorithms.rllib.runner import JointEnvRunner

    settings = METHOD.make_settings("sac-ts", {"copies": copies, "hidden": HIDDEN}).model_dump()
    config = METHOD.config().world(scenario).training(**settings).debugging(seed=seed, log_level="ERROR")
    runner = JointEnvRunner(config=config)

    def play() -> None:
        with torch.no_grad():
            runner.sample(num_timesteps=scenario.slots * copies)

    return play
