# SPDX-License-Identifier: Apache-2.0
"""What learners of a seed train on, played by rules: the level that a learning curve has to be seen against."""

from __future__ import annotations

import numpy as np

from edgegen.algorithms.core.play import metered
from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.kinds import Array, kind_of
from edgegen.envs.core.world import WorldScenario

_COPIES = 16


def training_arrivals_seed(seed: int) -> int:
    """Return the seed of the arrivals that a training of a seed meets, if it plays in its own process.

    Equal to ``JointEnvRunner.arrivals_seed`` of the local worker.
    """
    return int(np.random.SeedSequence((seed, 0, 0)).generate_state(2)[0])


def play_training_stream(scenario: WorldScenario, policy: Policy, seed: int, episodes: int) -> Array:
    """Let a rule play the first training episodes of a seed.

    Args:
        scenario: The world.
        policy: The rule; its random numbers restart from the seed.
        seed: Training seed.
        episodes: Number of episodes K.

    Returns:
        What learning curves show, one value per episode ``[K]``: mean service delay, s, or mean cost of a request.
    """
    policy.seed(seed)
    kind, root, values = kind_of(scenario), training_arrivals_seed(seed), []
    for first in range(0, episodes, _COPIES):
        world = kind.world(scenario, _COPIES)
        world.reset(root, first)
        values.append(metered(world, policy).headline())
    joined: Array = np.concatenate(values)[:episodes]
    return joined
