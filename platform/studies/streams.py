"""What learners of a seed train on, played by rules: the level that a learning curve has to be seen against."""

from __future__ import annotations

import numpy as np
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.rules.benchmarks import first_memory
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.runs.episodes import Array
from edgegen.platform.worlds import AnyPolicy, World

_COPIES = 16


def training_arrivals_seed(seed: int) -> int:
    """Return the seed of the arrivals that a training of a seed meets, if it plays in its own process.

    Equal to ``ArrayEnvRunner.arrivals_seed`` of the local worker.
    """
    return int(np.random.SeedSequence((seed, 0, 0)).generate_state(2)[0])


@torch.no_grad()
def play_training_stream(world: World, policy: AnyPolicy, seed: int, episodes: int) -> Array:
    """Let a rule play the first training episodes of a seed.

    Args:
        world: The world.
        policy: The rule; its random numbers restart from the seed.
        seed: Training seed.
        episodes: Number of episodes K.

    Returns:
        What decides, one value per episode ``[K]``: mean service delay, s, or mean cost of a request.
    """
    policy.seed(seed)
    root, values = training_arrivals_seed(seed), []
    for first in range(0, episodes, _COPIES):
        if isinstance(world, ProvisioningScenario) and isinstance(policy, ProvisioningPolicy):
            values.append(_costs(world, policy, root, first))
        elif isinstance(policy, Policy) and not isinstance(world, ProvisioningScenario):
            simulator = OffloadingWorld(world, _COPIES)
            simulator.reset(root)
            for _ in range(first // _COPIES):
                simulator.reset()
            values.append(_delays(simulator, policy))
        else:
            raise TypeError(f"the policy {policy.name} can not play the world {world.name}")
    joined: Array = np.concatenate(values)[:episodes]
    return joined


def _delays(simulator: OffloadingWorld, policy: Policy) -> Array:
    memory = policy.begin(simulator.observe())
    total = torch.zeros(simulator.copies, dtype=torch.float64)
    tasks = torch.zeros_like(total)
    while not simulator.done:
        server, memory = policy.act(simulator.observe(), memory)
        outcome = simulator.step(server)
        delay = outcome.delays.total_s
        total += outcome.sum_per_copy(delay)
        tasks += outcome.sum_per_copy(torch.ones_like(delay))
    means: Array = (total / tasks).numpy()
    return means


def _costs(world: ProvisioningScenario, policy: ProvisioningPolicy, root: int, first: int) -> Array:
    simulator = ProvisioningWorld(world, _COPIES)
    simulator.reset(root, first)
    memory = first_memory(policy, simulator)
    total = torch.zeros(_COPIES, dtype=torch.float64)
    while not simulator.done:
        if simulator.caching:
            wanted, memory = policy.cache(simulator.observe_frame(), memory)
            simulator.cache(wanted)
        bandwidth, compute, memory = policy.allocate(simulator.observe_slot(), memory)
        total += simulator.allocate(bandwidth, compute).cost.double().flatten(1).sum(1)
    means: Array = (total / (world.slots * world.cells * world.users)).numpy()
    return means
