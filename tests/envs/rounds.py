# SPDX-License-Identifier: Apache-2.0
"""Rounds of the offloading world as other libraries play it: a short one, and random play."""

from typing import Any

import numpy as np

from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.pettingzoo import RoundsEnv

SHORT = load_scenario("demo", {"slots": 6}, OffloadingScenario)


def random_actions(env: RoundsEnv, rng: np.random.Generator) -> dict[str, int]:
    return {agent: int(rng.integers(env.scenario.servers)) for agent in env.agents}


def play(env: RoundsEnv, rng: np.random.Generator, steps: int | None = None) -> list[Any]:
    """Play to the end, or some steps, and return everything that came back."""
    log: list[Any] = []
    while env.agents and (steps is None or len(log) < steps):
        log.append(env.step(random_actions(env, rng)))
    return log
