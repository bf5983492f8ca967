# SPDX-License-Identifier: Apache-2.0
"""What chance brings to the offloading world: the tasks and the servers of whole episodes, on streams of their own.

All of it depends on the scenario, the seed and the episode's number alone: not on the policy, the device, or how many
copies are simulated side by side. That is what makes comparisons *paired*: every policy meets exactly the same work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.envs.offloading.demands import Quantity
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.traffic import Floats, modulated
from edgegen.envs.offloading.view import Tasks

TRAFFIC_STREAM, SETS_STREAM, OUTAGES_STREAM, REPORTS_STREAM, DEMANDS_STREAM = 1, 2, 3, 4, 5
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
    rngs = _generators(seed, episodes)
    members = scenario.members
    of = draw_members(scenario, seed, episodes)  # by episode
    bounds = [(members[m].tasks_per_slot.low, members[m].tasks_per_slot.high) for m in of]
    count = np.stack([rng.integers(*ends, shape[:2], endpoint=True) for rng, ends in zip(rngs, bounds, strict=True)])
    if any(not member.traffic.plain for member in members):
        own = _generators(seed, episodes, TRAFFIC_STREAM)
        factors = np.ones(count.shape)
        for number, member in enumerate(members):
            mine = np.flatnonzero(of == number)
            if mine.size and not member.traffic.plain:
                factors[mine] = member.traffic.draw([own[episode] for episode in mine], *shape[:2])
        count = modulated(count, factors, own)
    present = torch.from_numpy(np.arange(scenario.max_tasks) < count[..., None]).to(device)

    def values(name: str) -> Tensor:
        quantities: list[Quantity] = [getattr(member, name) for member in members]
        if quantities[0].drawn == "per_index":  # one value per index: a view, however many copies there are
            drawn = torch.from_numpy(quantities[0].by_index(scenario.max_tasks)).to(device, dtype)
            return drawn.expand(len(rngs), *shape)
        sampled = [quantities[member].sample(rng, shape) for rng, member in zip(rngs, of, strict=True)]
        return torch.from_numpy(np.stack(sampled)).to(device, dtype)

    size_mbit = values("size_mbit")
    workload_gcycles = values("cycles_per_step_gcycles") * values("steps")
    if "per_task" not in (scenario.cycles_per_step_gcycles.drawn, scenario.steps.drawn):
        workload_gcycles = workload_gcycles[:1, :1, :1].expand(len(rngs), *shape)
    return Tasks(present, size_mbit, workload_gcycles, values("result_mbit"))


def draw_members(scenario: OffloadingScenario, seed: int, episodes: range) -> NDArray[np.int64]:
    """Draw what users ask for in each episode: its place among the scenario's ``members``, ``[E]``."""
    count = len(scenario.members)
    if count == 1:
        return np.zeros(len(episodes), np.int64)
    return np.array([rng.integers(count) for rng in _generators(seed, episodes, DEMANDS_STREAM)])


def _generators(seed: int, episodes: range, *stream: int) -> list[np.random.Generator]:
    """Return a generator for each episode, of its arrivals or of another stream."""
    sequences = (np.random.SeedSequence(seed, spawn_key=(number, *stream)) for number in episodes)
    return [np.random.Generator(np.random.PCG64(sequence)) for sequence in sequences]


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

    def tensor(values: Floats) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    sets = scenario.server_sets
    if sets is not None and sets.drawn == "per_episode":
        work = [member.work_gcycles_s for member in scenario.members]
        of = draw_members(scenario, seed, episodes)
        rngs = _generators(seed, episodes, SETS_STREAM)
        drawn = [sets.draw(rng, work[member]) for rng, member in zip(rngs, of, strict=True)]
        capacity, rate = (tensor(np.stack(values)) for values in zip(*drawn, strict=True))
    else:
        capacity = torch.tensor(scenario.capacity_gcycles_s, device=device, dtype=dtype).expand(count, servers)
        rate = torch.tensor(scenario.rate_mbit_s, device=device, dtype=dtype)
        rate = rate.expand(count, *rate.shape)
    share = age = None
    if scenario.outages is not None:
        share = tensor(scenario.outages.draw(_generators(seed, episodes, OUTAGES_STREAM), slots, servers))
    if scenario.reports is not None:
        age = torch.from_numpy(scenario.reports.draw(_generators(seed, episodes, REPORTS_STREAM), slots, servers))
        age = age.to(device)
    return EpisodeServers(capacity, rate, share, age)
