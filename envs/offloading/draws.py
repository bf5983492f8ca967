"""What chance brings to the offloading world: the tasks and the servers of whole episodes, on streams of their own.

All of it depends on the scenario, the seed and the episode's number alone: not on the policy, the device, or how many
copies are simulated side by side. That is what makes comparisons *paired*: every policy meets exactly the same work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.offloading.scenario import OffloadingScenario, Quantity
from edgegen.envs.offloading.traffic import Floats, modulated
from edgegen.envs.offloading.view import Tasks

TRAFFIC_STREAM, SETS_STREAM, OUTAGES_STREAM, REPORTS_STREAM = 1, 2, 3, 4
"""Places in the spawn key of an episode; arrivals have none."""

LEAST_SEEN = 1e-3
"""A failed server is seen with this share of its capacity, so that expected delays stay finite."""


def draw_episodes(
    scenario: OffloadingScenario,
    seed: int,
    episodes: range,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tasks:
    """Draw the arrivals of whole episodes, ``[E, slots + 1, B, N]`` with E = ``len(episodes)``.

    Args:
        scenario: What arrives.
        seed: Root of the arrival stream.
        episodes: Numbers of the episodes; each has an independent generator spawned from (seed, number).
        device: Where the tensors go. Numbers are drawn on the host, so they do not depend on it.
        dtype: Floating-point type of the quantities.
    """
    shape = (scenario.slots + 1, scenario.servers, scenario.max_tasks)
    rngs = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(n,)))) for n in episodes]
    low, high = scenario.tasks_per_slot.low, scenario.tasks_per_slot.high
    count = np.stack([rng.integers(low, high, shape[:2], endpoint=True) for rng in rngs])
    if not scenario.traffic.plain:
        own = [
            np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(n, TRAFFIC_STREAM))))
            for n in episodes
        ]
        count = modulated(count, scenario.traffic.draw(own, *shape[:2]), own)
    present = torch.from_numpy(np.arange(scenario.max_tasks) < count[..., None]).to(device)

    def values(quantity: Quantity) -> Tensor:
        if quantity.drawn == "per_index":  # one value per index: a view, however many copies there are
            drawn = torch.from_numpy(quantity.by_index(scenario.max_tasks)).to(device, dtype)
            return drawn.expand(len(rngs), *shape)
        return torch.from_numpy(np.stack([quantity.sample(rng, shape) for rng in rngs])).to(device, dtype)

    size_mbit = values(scenario.size_mbit)
    workload_gcycles = values(scenario.cycles_per_step_gcycles) * values(scenario.steps)
    if "per_task" not in (scenario.cycles_per_step_gcycles.drawn, scenario.steps.drawn):
        workload_gcycles = workload_gcycles[:1, :1, :1].expand(len(rngs), *shape)
    return Tasks(present, size_mbit, workload_gcycles, values(scenario.result_mbit))


@dataclass(frozen=True)
class EpisodeServers:
    """The servers of E episodes.

    Attributes:
        capacity_gcycles_s: Capacities when all is well ``[E, B]``, Gcycle/s.
        rate_mbit_s: Rates towards each server ``[E, B]``, or ``[E, B, B]`` from origin to destination, Mbit/s.
        share: Share of the capacity in every slot ``[E, T, B]``; None if it is always 1.
        age: Age of the newest report in every slot ``[E, T, B]``, int64, slots; None if it is always 0.
    """

    capacity_gcycles_s: Tensor
    rate_mbit_s: Tensor
    share: Tensor | None = None
    age: Tensor | None = None


def draw_servers(
    scenario: OffloadingScenario,
    seed: int,
    episodes: range,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> EpisodeServers:
    """Draw the servers of whole episodes; arguments as for :func:`edgegen.envs.offloading.draws.draw_episodes`."""
    count, slots, servers = len(episodes), scenario.slots + 1, scenario.servers

    def rngs(stream: int) -> list[np.random.Generator]:
        return [
            np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number, stream))))
            for number in episodes
        ]

    def tensor(values: Floats) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    sets = scenario.server_sets
    if sets is not None and sets.drawn == "per_episode":
        drawn = [sets.draw(rng, scenario.work_gcycles_s) for rng in rngs(SETS_STREAM)]
        capacity, rate = (tensor(np.stack(values)) for values in zip(*drawn, strict=True))
    else:
        capacity = torch.tensor(scenario.capacity_gcycles_s, device=device, dtype=dtype).expand(count, servers)
        rate = torch.tensor(scenario.rate_mbit_s, device=device, dtype=dtype)
        rate = rate.expand(count, *rate.shape)
    share = age = None
    if scenario.outages is not None:
        share = tensor(scenario.outages.draw(rngs(OUTAGES_STREAM), slots, servers))
    if scenario.reports is not None:
        age = torch.from_numpy(scenario.reports.draw(rngs(REPORTS_STREAM), slots, servers)).to(device)
    return EpisodeServers(capacity, rate, share, age)
