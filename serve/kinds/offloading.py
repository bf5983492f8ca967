# SPDX-License-Identifier: Apache-2.0
"""The offloading kind, served: each request is one decision of the router, and edges are its servers.

A policy sees a request with what it sees in the simulator: backlogs, capacities and rates of the servers, and the
request in the row of its home and the column of its turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import Role
from edgegen.envs.offloading.demands import IntegerRange, Quantity
from edgegen.envs.offloading.draws import LEAST_SEEN
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server, working
from edgegen.serve.control.live_world import LiveWorld, Waiting
from edgegen.serve.kinds.registry import Clock, Served
from edgegen.serve.model_config import parse_size, picture_mbit, text_mbit

MAX_BYTES_PER_CHARACTER = 4
MAX_LOAD = 1.05
"""Offered work over the capacity of all servers in training: at the edge of stability, where short and long queues both
occur, as bursts bring them."""


class LiveOffloading(LiveWorld):
    """One copy of the offloading world, made of the books of real edges.

    The k-th request that arrives at an edge in the current slot is shown as the task in column k of that edge's row,
    because trained policies remember something for every such cell. For a policy with a ``width`` (the number of
    columns it was trained with) there are that many, and requests beyond wrap around.

    A server that can not do the request, being lost or holding another model, is shown as the simulator shows a failed
    one: with a thousandth of its capacity. ``available`` says which servers can take it.

    Args:
        servers: Books in the order in which policies number the servers.
        slot_s: Length of a slot, s.
        width: Columns; as many as are needed if None.
        clock: Monotonic time, s.
    """

    kind: ClassVar[str] = OffloadingWorld.kind
    roles: ClassVar[Mapping[str, Role]] = OffloadingWorld.roles

    def __init__(
        self,
        servers: Sequence[Server],
        slot_s: float,
        *,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._width = width
        super().__init__(servers, slot_s, clock=clock)

    def observe(self) -> RouterView:
        """Return the request that waits and the servers as the books have them now.

        While none waits, it is the view of a slot in which nothing arrived.
        """
        now, waiting = self.clock(), self.waiting
        model = None if waiting is None else waiting.task.model
        fit = set(working(self.servers, model))
        share = [1.0 if server in fit else LEAST_SEEN for server in self.servers]
        capacity = [part * server.capacity_gcycles_s for part, server in zip(share, self.servers, strict=True)]
        free = {server for server in fit if not server.full} if waiting is None else set(waiting.open_servers)
        return RouterView(
            slot=self.round if waiting is None else waiting.slot,
            backlog_gcycles=torch.tensor([[server.backlog_gcycles(now) for server in self.servers]]),
            capacity_gcycles_s=torch.tensor([capacity]),
            rate_mbit_s=torch.tensor([[server.rate_mbit_s for server in self.servers]]),
            tasks=self._tasks(waiting),
            available=torch.tensor([[server in free for server in self.servers]]),
        )

    def asked(self, waiting: Waiting) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape ``[1, B, N]`` of the decision, and the cell of the request."""
        column = waiting.earlier if self._width is None else waiting.earlier % self._width
        return (self.copies, len(self.servers), self._width or column + 1), (0, waiting.row, column)

    def _tasks(self, waiting: Waiting | None) -> Tasks:
        empty = (self.copies, len(self.servers), self._width or 1)
        shape = empty if waiting is None else self.asked(waiting)[0]
        present = torch.zeros(shape, dtype=torch.bool)
        size, work, result = (torch.zeros(shape) for _ in range(3))
        if waiting is not None:
            task, cell = waiting.task, self.asked(waiting)[1]
            present[cell] = True
            size[cell], work[cell], result[cell] = task.size_mbit, task.workload_gcycles, task.result_mbit
        return Tasks(present, size, work, result)


def live_world(config: ServiceConfig, servers: Sequence[Server], policy: Policy, clock: Clock) -> LiveOffloading:
    """Make the live world that a policy decides in."""
    return LiveOffloading(servers, config.slot_s, width=getattr(policy, "width", None), clock=clock)


def scenario(config: ServiceConfig, capacities_gcycles_s: tuple[float, ...]) -> OffloadingScenario:
    """Describe the edges of a service as a scenario.

    Args:
        config: The service.
        capacities_gcycles_s: Capacities of its edges, Gcycle/s.
    """
    cards = config.cards().values()
    cycles = [card.cycles_per_step_gcycles for card in cards]
    pixels = [math.prod(parse_size(size)) for card in cards for size in card.sizes]
    most_steps = max(card.max_steps for card in cards) * config.max_pictures
    data = {
        "name": config.name,
        "description": f"The edge servers of the service '{config.name}'.",
        "slot_s": config.slot_s,
        "slots": 60,
        "capacity_gcycles_s": capacities_gcycles_s,
        "rate_mbit_s": tuple(edge.rate_mbit_s for edge in config.edges),
        "tasks_per_slot": IntegerRange(low=1, high=config.max_queue + 1),
        "size_mbit": Quantity(low=0, high=text_mbit("x" * config.max_prompt_chars) * MAX_BYTES_PER_CHARACTER),
        "cycles_per_step_gcycles": Quantity(low=min(cycles), high=max(cycles)),
        "steps": Quantity(low=1, high=most_steps, integer=True),
        "result_mbit": Quantity(low=picture_mbit(min(pixels)), high=picture_mbit(max(pixels)) * config.max_pictures),
    }
    return build_scenario(data, OffloadingScenario)


def training(config: ServiceConfig) -> OffloadingScenario:
    """Describe a service as a world to train in: its servers, requests around the default number of steps.

    The number of requests per slot is the largest whose load does not exceed ``MAX_LOAD``.
    """
    base = scenario(config, config.capacities_gcycles_s()).model_dump()
    steps = next(iter(config.cards().values())).default_steps
    base["steps"] = {"low": max(1, steps // 2), "high": max(2, 2 * steps - steps // 2), "integer": True}
    base["name"] = f"service-{config.name}"
    base["description"] = f"The edge servers of the service '{config.name}' at the edge of stability."
    chosen = build_scenario({**base, "tasks_per_slot": {"low": 0, "high": 1}}, OffloadingScenario)
    for high in range(2, config.max_queue + 2):
        candidate = build_scenario({**base, "tasks_per_slot": {"low": 0, "high": high}}, OffloadingScenario)
        if candidate.load > MAX_LOAD:
            break
        chosen = candidate
    return chosen


SERVED = Served(world=live_world, scenario=scenario, training=training, usual="least-delay")
"""The entry for :mod:`edgegen.serve.kinds.registry`."""
