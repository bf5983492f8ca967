"""The live world: the edges of a service as the world that policies know from the simulator.

Requests come one by one, and each is placed when it comes. A policy sees it with what it sees in the simulator:
backlogs, capacities and rates of the servers, and the request in the row of its home and the column of its turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgegen.envs.core.world import Role, World
from edgegen.envs.offloading.draws import LEAST_SEEN
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.serve.control.books import Server, working


@dataclass(frozen=True)
class Task:
    """What is known of a request before it is placed.

    Attributes:
        model: The model it needs.
        home: Name of the edge it arrived at.
        workload_gcycles: Work, Gcycle.
        size_mbit: Size of the input, Mbit.
        result_mbit: Size of the result, Mbit.
    """

    model: str
    home: str
    workload_gcycles: float
    size_mbit: float
    result_mbit: float


@dataclass(frozen=True)
class Chosen:
    """The server of the request that waited.

    Attributes:
        server: Name of the edge.
    """

    server: str

    @property
    def rewards(self) -> Mapping[str, Tensor]:
        """None yet: how long the request takes is known when its pictures come back."""
        return {}


@dataclass(frozen=True)
class _Waiting:
    """A request that waits to be placed: when and where it is shown, and which servers can take it."""

    task: Task
    slot: int
    cell: tuple[int, int, int]
    open_servers: Sequence[Server]


class LiveWorld(World):
    """One copy of the offloading world, made of the books of real edges.

    The k-th request that arrives at an edge in the current slot is shown as the task in column k of that edge's row,
    because trained policies remember something for every such cell. For a policy with a ``width`` (the number of
    columns it was trained with) there are that many, and requests beyond wrap around.

    A server that can not do the request, being lost or holding another model, is shown as the simulator shows a failed
    one: with a thousandth of its capacity. ``available`` says which servers can take it.

    The world only reads the books. Whoever keeps them writes down where a request went, and what edges report.

    Args:
        servers: Books in the order in which policies number the servers.
        slot_s: Length of a slot, s.
        width: Columns; as many as are needed if None.
        clock: Monotonic time, s.

    Attributes:
        scenario: None, because what arrives follows none.
    """

    kind: ClassVar[str] = OffloadingWorld.kind
    roles: ClassVar[Mapping[str, Role]] = OffloadingWorld.roles
    scenario: None = None
    copies = 1
    device = torch.device("cpu")

    def __init__(
        self,
        servers: Sequence[Server],
        slot_s: float,
        *,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = list(servers)
        self._names = [server.name for server in servers]
        self._slot_s = slot_s
        self._width = width
        self._clock = clock
        self.reset()

    def reset(self, seed: int | None = None, first_episode: int = 0) -> RouterView:
        """Begin to count slots anew. The books stay as they are: they are of edges that go on working.

        Raises:
            ValueError: If a seed is given.
        """
        if seed is not None:
            raise ValueError("a live world has no seed: what arrives is not drawn")
        self._begin(elapsed_s=0.0, slot=0, arrived={})
        return self.observe()

    def _begin(self, elapsed_s: float, slot: int, arrived: dict[str, int]) -> None:
        self._started = self._clock() - elapsed_s
        self._slot, self._arrived = slot, arrived
        self._waiting: _Waiting | None = None

    def arrive(self, task: Task, open_servers: Sequence[Server]) -> None:
        """Take a request that has just arrived, and count it into the current slot.

        Args:
            task: The request.
            open_servers: Servers that can take it.

        Raises:
            ValueError: If another one waits, or its home is no edge of this world.
        """
        if self._waiting is not None:
            raise ValueError("a request waits already; place or withdraw it first")
        if task.home not in self._names:
            raise ValueError(f"'{task.home}' is none of the edges {', '.join(self._names)}")
        slot = self.round
        if slot != self._slot:
            self._slot, self._arrived = slot, {}
        column = self._arrived.get(task.home, 0)
        self._arrived[task.home] = column + 1
        if self._width is not None:
            column %= self._width
        self._waiting = _Waiting(task, slot, (0, self._names.index(task.home), column), open_servers)

    def withdraw(self) -> None:
        """Forget the request that waits, if one does: it is placed in another way, or not at all."""
        self._waiting = None

    @property
    def turn(self) -> str | None:
        """The router's, while a request waits to be placed."""
        return None if self._waiting is None else ROUTER

    @property
    def round(self) -> int:
        """Slots that are over, by the clock."""
        return int((self._clock() - self._started) / self._slot_s)

    def observe(self) -> RouterView:
        """Return the request that waits and the servers as the books have them now.

        While none waits, it is the view of a slot in which nothing arrived.
        """
        now, waiting = self._clock(), self._waiting
        model = None if waiting is None else waiting.task.model
        fit = set(working(self._servers, model))
        share = [1.0 if server in fit else LEAST_SEEN for server in self._servers]
        capacity = [part * server.capacity_gcycles_s for part, server in zip(share, self._servers, strict=True)]
        free = {server for server in fit if not server.full} if waiting is None else set(waiting.open_servers)
        return RouterView(
            slot=self.round if waiting is None else waiting.slot,
            backlog_gcycles=torch.tensor([[server.backlog_gcycles(now) for server in self._servers]]),
            capacity_gcycles_s=torch.tensor([capacity]),
            rate_mbit_s=torch.tensor([[server.rate_mbit_s for server in self._servers]]),
            tasks=self._tasks(waiting),
            available=torch.tensor([[server in free for server in self._servers]]),
        )

    def _tasks(self, waiting: _Waiting | None) -> Tasks:
        columns = 1 if waiting is None else waiting.cell[2] + 1
        shape = (self.copies, len(self._servers), self._width or columns)
        present = torch.zeros(shape, dtype=torch.bool)
        size, work, result = (torch.zeros(shape) for _ in range(3))
        if waiting is not None:
            task, cell = waiting.task, waiting.cell
            present[cell] = True
            size[cell], work[cell], result[cell] = task.size_mbit, task.workload_gcycles, task.result_mbit
        return Tasks(present, size, work, result)

    def decide(self, action: Tensor) -> Chosen:
        """Take the choice for the request that waits; it waits no longer.

        Args:
            action: Chosen server of each task ``[1, B, N]``; only the cell of the request counts.

        Raises:
            ValueError: If no request waits, or the action has another shape or names no server.
        """
        if self._waiting is None:
            raise ValueError("no request waits to be placed")
        cell = self._waiting.cell
        expected = (self.copies, len(self._servers), self._width or cell[2] + 1)
        if tuple(action.shape) != expected:
            raise ValueError(f"actions have shape {tuple(action.shape)}, expected {expected}")
        chosen = float(action[cell])
        if not math.isfinite(chosen):
            raise ValueError(f"the action is {chosen}")
        if chosen != int(chosen) or not 0 <= chosen < len(self._servers):
            raise ValueError(f"the action is {chosen:g}, servers are 0 to {len(self._servers) - 1}")
        self._waiting = None
        return Chosen(self._names[int(chosen)])

    def state_dict(self) -> dict[str, Any]:
        """Return the time since the first slot began, and what has arrived in the present one.

        What servers hold is not part of it, because their reports tell; nor is a request that waits, because whoever
        sent it waits for this very process.
        """
        return {"elapsed_s": self._clock() - self._started, "slot": self._slot, "arrived": dict(self._arrived)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from a state returned by ``state_dict``, as if no time had passed since; no request waits.

        Raises:
            ValueError: If it is of a world with other edges.
        """
        strangers = [name for name in state["arrived"] if name not in self._names]
        if strangers:
            raise ValueError(f"the state is of an edge '{strangers[0]}', which is none of {', '.join(self._names)}")
        self._begin(state["elapsed_s"], state["slot"], dict(state["arrived"]))
