"""Arrivals: the tasks of whole episodes, drawn on a stream of their own.

The arrivals of an episode depend on the scenario, the seed and the episode's number alone: not on the policy, the
device, or how many copies are simulated side by side. That is what makes comparisons *paired*: every policy meets
exactly the same work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.scenario import Quantity, Scenario
from edgegen.envs.traffic import modulated

TRAFFIC_STREAM = 1
"""Place in the spawn key of an episode of what modulates its arrivals."""


@dataclass(frozen=True)
class Tasks:
    """Tasks of E copies, padded to N per server: ``[E, B, N]``, or ``[E, T, B, N]`` for whole episodes.

    Attributes:
        present: True where a task exists.
        size_mbit: Input size d_n, Mbit.
        workload_gcycles: Work w_n = ρ_n z_n, Gcycle.
        result_mbit: Result size r_n, Mbit.
    """

    present: Tensor
    size_mbit: Tensor
    workload_gcycles: Tensor
    result_mbit: Tensor

    def slot(self, slot: int) -> Tasks:
        """Return the tasks ``[E, B, N]`` of one slot of tasks ``[E, T, B, N]`` (views, nothing is copied)."""
        return Tasks(*(getattr(self, field.name)[:, slot] for field in fields(self)))

    def at_index(self, index: int) -> Tasks:
        """Return the n-th tasks ``[..., B]`` of every server of tasks ``[..., B, N]`` (views)."""
        return Tasks(*(getattr(self, field.name)[..., index] for field in fields(self)))


def draw_episodes(
    scenario: Scenario,
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
