"""The servers of whole episodes, drawn beforehand: what they can do, slot by slot, and what is heard of them.

Draws have streams of their own: they depend on the scenario, the seed and the episode's number alone, and every policy
meets the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.scenario import Scenario
from edgegen.envs.traffic import Floats

SETS_STREAM, OUTAGES_STREAM, REPORTS_STREAM = 2, 3, 4
"""Places in the spawn key of an episode; arrivals have none and traffic has 1."""

LEAST_SEEN = 1e-3
"""A failed server is seen with this share of its capacity, so that expected delays stay finite."""


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
    scenario: Scenario,
    seed: int,
    episodes: range,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> EpisodeServers:
    """Draw the servers of whole episodes; arguments as for :func:`edgegen.envs.arrivals.draw_episodes`."""
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
