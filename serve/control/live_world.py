# SPDX-License-Identifier: Apache-2.0
"""The live world: the edges of a service as a world that policies know from the simulator, whatever its kind.

Requests come one by one, and each is placed when it comes, by a decision of the role that routes. Where the kind of
world has cachers, they decide at the beginning of every frame what the edges are to keep. Steps are chosen where a
request runs: :mod:`edgegen.serve.control.steps`. What policies see is the business of each kind:
:mod:`edgegen.serve.kinds`.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgegen.envs.core.world import World
from edgegen.serve.control.books import Server


@dataclass(frozen=True)
class Task:
    """What is known of a request before it is placed.

    Attributes:
        model: The model it needs.
        home: Name of the edge it arrived at.
        workload_gcycles: Work, Gcycle.
        size_mbit: Size of the input, Mbit.
        result_mbit: Size of the result, Mbit.
        pictures: Pictures, as many of the first size as have the same pixels together.
        steps: Denoising steps that it asks for.
        least_steps: Fewest steps that an allocator may choose; exactly ``steps`` if None.
        deadline_s: Promised delay, s.
        weight: Worth.
        key: Name of the request, whatever attempt this is.
        least_gcycles: Work with the fewest steps, Gcycle; all of it if None.
    """

    model: str
    home: str
    workload_gcycles: float
    size_mbit: float
    result_mbit: float
    pictures: float = 1.0
    steps: int = 1
    least_steps: int | None = None
    deadline_s: float = 300.0
    weight: float = 1.0
    key: str = ""
    least_gcycles: float | None = None

    @property
    def sure_gcycles(self) -> float:
        """Work that it takes at least, whatever an allocator chooses, Gcycle."""
        return self.workload_gcycles if self.least_gcycles is None else self.least_gcycles

    def gcycles_with(self, steps: int | None) -> float:
        """Work with some steps, Gcycle; with all that it asks for if None."""
        if steps is None or self.least_steps is None or self.steps <= self.least_steps:
            return self.workload_gcycles
        share = (steps - self.least_steps) / (self.steps - self.least_steps)
        return self.sure_gcycles + share * (self.workload_gcycles - self.sure_gcycles)


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
class Wish:
    """What the cacher of an edge wants.

    Attributes:
        models: Models that are to be in its memory.
        scores: How much each model is worth there; what is worth least goes first.
    """

    models: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Kept:
    """What the edges are to keep in a frame.

    Attributes:
        wishes: By name of the edge.
    """

    wishes: Mapping[str, Wish]

    @property
    def rewards(self) -> Mapping[str, Tensor]:
        """None yet: what it is worth shows in the requests of the frame."""
        return {}


@dataclass(frozen=True)
class Waiting:
    """A request that waits to be placed.

    Attributes:
        task: The request.
        slot: Slot in which it arrived.
        row: Number of its home among the servers.
        earlier: Requests that had arrived at its home in this slot before it.
        open_servers: Servers that can take it.
    """

    task: Task
    slot: int
    row: int
    earlier: int
    open_servers: Sequence[Server]


class LiveWorld(World):
    """One copy of a world, made of the books of real edges. A kind of world says what is seen, and how to answer.

    The world only reads the books. Whoever keeps them writes down where a request went, and what edges report.

    Args:
        servers: Books in the order in which policies number the servers.
        slot_s: Length of a slot, s.
        clock: Monotonic time, s.

    Attributes:
        scenario: None, because what arrives follows none.
        servers: The books.
        clock: Monotonic time, s.
        waiting: The request that waits to be placed, if one does.
        framing: Whether a frame has begun and its cachers have not decided.
    """

    scenario: None = None
    copies = 1
    device = torch.device("cpu")

    def __init__(
        self, servers: Sequence[Server], slot_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.servers = list(servers)
        self.clock = clock
        self._names = [server.name for server in servers]
        self._slot_s = slot_s
        self.framing = False
        self.reset()

    @abstractmethod
    def observe(self) -> Any:
        """Return the view of the request that waits, and of the servers as the books have them now.

        While none waits, it is the view of a slot in which nothing arrived; or that of the cachers, if a frame has
        begun.
        """

    @abstractmethod
    def asked(self, waiting: Waiting) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape of the decision on a request, and the place of its server's number in it."""

    @property
    def role(self) -> str:
        """The role that places requests: the one that its kind has, unless a kind with several says which."""
        (name,) = self.roles
        return name

    @property
    def cacher(self) -> str | None:
        """The role that says at the beginning of a frame what edges keep; None if its kind has none."""
        return None

    def reset(self, seed: int | None = None, first_episode: int = 0) -> Any:
        """Begin to count slots anew. The books stay as they are: they are of edges that go on working.

        Raises:
            ValueError: If a seed is given.
        """
        if seed is not None:
            raise ValueError("a live world has no seed: what arrives is not drawn")
        self._begin(elapsed_s=0.0, slot=0, arrived={})
        return self.observe()

    def _begin(self, elapsed_s: float, slot: int, arrived: dict[str, int]) -> None:
        self._started = self.clock() - elapsed_s
        self._slot, self._arrived = slot, arrived
        self.waiting: Waiting | None = None

    def arrive(self, task: Task, open_servers: Sequence[Server]) -> None:
        """Take a request that has just arrived, and count it into the current slot.

        Args:
            task: The request.
            open_servers: Servers that can take it.

        Raises:
            ValueError: If another one waits, or its home is no edge of this world.
        """
        if self.waiting is not None:
            raise ValueError("a request waits already; place or withdraw it first")
        if task.home not in self._names:
            raise ValueError(f"'{task.home}' is none of the edges {', '.join(self._names)}")
        slot = self.round
        if slot != self._slot:
            self._slot, self._arrived = slot, {}
        earlier = self._arrived.get(task.home, 0)
        self._arrived[task.home] = earlier + 1
        self.waiting = Waiting(task, slot, self._names.index(task.home), earlier, open_servers)

    def withdraw(self) -> None:
        """Forget the request that waits, if one does: it is placed in another way, or not at all."""
        self.waiting = None

    @property
    def turn(self) -> str | None:
        """The router's while a request waits to be placed, else the cacher's if a frame has begun."""
        if self.waiting is not None:
            return self.role
        return self.cacher if self.framing else None

    @property
    def round(self) -> int:
        """Slots that are over, by the clock."""
        return int((self.clock() - self._started) / self._slot_s)

    def begin_frame(self) -> None:
        """Let the cachers have a turn.

        Raises:
            ValueError: If the kind has none.
        """
        if self.cacher is None:
            raise ValueError(f"worlds of the kind {self.kind} have no cachers")
        self.framing = True

    def end_frame(self) -> None:
        """Take their turn from the cachers, if they still have it."""
        self.framing = False

    def keep(self, action: Tensor) -> Kept:
        """Take what edges are to keep, in the shape that the kind's policies give.

        Raises:
            ValueError: If it is impossible.
        """
        raise ValueError(f"worlds of the kind {self.kind} have no cachers")

    def decide(self, action: Tensor) -> Chosen | Kept:
        """Take the decision of whoever's turn it is; see :meth:`choose` and :meth:`keep`."""
        if self.turn is not None and self.turn == self.cacher:
            kept = self.keep(action)
            self.end_frame()
            return kept
        return self.choose(action)

    def choose(self, action: Tensor) -> Chosen:
        """Take the choice for the request that waits; it waits no longer.

        Args:
            action: Number of the chosen server, in the shape that the kind's policies give; only the place of the
                request counts.

        Raises:
            ValueError: If no request waits, or the action has another shape or names no server.
        """
        if self.waiting is None:
            raise ValueError("no request waits to be placed")
        shape, place = self.asked(self.waiting)
        if tuple(action.shape) != shape:
            raise ValueError(f"actions have shape {tuple(action.shape)}, expected {shape}")
        chosen = float(action[place])
        if not math.isfinite(chosen):
            raise ValueError(f"the action is {chosen}")
        if chosen != int(chosen) or not 0 <= chosen < len(self.servers):
            raise ValueError(f"the action is {chosen:g}, servers are 0 to {len(self.servers) - 1}")
        self.waiting = None
        return Chosen(self._names[int(chosen)])

    def state_dict(self) -> dict[str, Any]:
        """Return the time since the first slot began, and what has arrived in the present one.

        What servers hold is not part of it, because their reports tell; nor is a request that waits, because whoever
        sent it waits for this very process.
        """
        return {"elapsed_s": self.clock() - self._started, "slot": self._slot, "arrived": dict(self._arrived)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count on from a state returned by ``state_dict``, as if no time had passed since; no request waits.

        Raises:
            ValueError: If it is of a world with other edges.
        """
        strangers = [name for name in state["arrived"] if name not in self._names]
        if strangers:
            raise ValueError(f"the state is of an edge '{strangers[0]}', which is none of {', '.join(self._names)}")
        self._begin(state["elapsed_s"], state["slot"], dict(state["arrived"]))
