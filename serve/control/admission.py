# SPDX-License-Identifier: Apache-2.0
"""Admission: which requests are taken, by when they could be finished, and whose turn it is to be placed.

Edges are given work for some seconds ahead, so that none is idle; what is more waits here, in fair turns of those who
sent it. A request that could not be finished in time is refused when it comes, and one that turns out not to be, before
any work is done for it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server, working
from edgegen.serve.control.fair_queue import FairQueue, Held
from edgegen.serve.control.live_world import Task
from edgegen.serve.http.errors import (
    DeadlineMissedError,
    DeadlineTooShortError,
    NoServerError,
    QueuesFullError,
    ServiceError,
    TimedOutError,
    TooLateError,
)

RETRY_SPREAD = 0.25
"""Share by which the times at which refused clients are told to come back differ, so that they do not come together."""


MISSES = 0.02
"""Share of requests that may be finished later than expected, margin included."""
SCALE_GAIN, STEP = 1 / 16, 0.5
"""How fast the size of errors of expected ends is learned, and how far the margin moves with each, in such sizes: up
after a miss and down after all others, so that it settles where the share of misses is as above (Robbins and Monro:
A stochastic approximation method, 1951)."""
FIRST = 1 << 30
"""Priority of a request that has had its turn before."""


@dataclass(frozen=True)
class Terms:
    """What a client may expect of its request.

    Attributes:
        tenant: Whose turn it takes.
        priority: Among requests of that tenant; higher ones are first.
        share: Share of that tenant while there is more work than can be done; what the config says if None.
        deadline_s: Time from when it was sent first to the answer, s; only the service's own limit if None.
        age_s: Time since it was sent first, s; another gateway may have had it before.
        lasting: Whether it is finished though its client goes away, because that may come back for it.
        known: Whether an edge may know it already: it was sent before, perhaps to another gateway.
        request_id: Its id in answers and logs.
        account: Name of its sender, as far as that is known.
    """

    tenant: str = ""
    priority: int = 1
    share: float | None = None
    deadline_s: float | None = None
    age_s: float = 0.0
    lasting: bool = False
    known: bool = False
    request_id: str = ""
    account: str = ""


@dataclass(frozen=True)
class Due:
    """When a request has to be finished.

    Attributes:
        at: Clock reading by which its client wants it, s; infinite if that does not say.
        end: Clock reading at which the service gives up on it, s.
    """

    at: float
    end: float


@dataclass(eq=False)
class _Waiting(Held):
    """A request that waits for its turn."""

    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True)
class _Expected:
    """When a request would be begun and finished at the earliest, s from now."""

    wait_s: float
    done_s: float


class Admission:
    """Takes requests in and says when it is their turn.

    Args:
        config: Limits and shares.
        servers: The books by name.
        clock: Monotonic time, s.
        seed: Seed of the times after which refused clients should try again.

    Attributes:
        margin_s: How much later than expected requests may be finished, s; learned.
    """

    def __init__(
        self,
        config: ServiceConfig,
        servers: Mapping[str, Server],
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._config = config
        self._servers = servers
        self._clock = clock
        self._spread = random.Random(seed)
        self._queue = FairQueue(config.tenant_weights)
        self._placing = False
        self._pump_is_due = False
        self._scale_s = 0.0
        self.margin_s = 0.0

    @property
    def held(self) -> int:
        """Requests that wait for their turn."""
        return len(self._queue)

    async def enter(self, task: Task, terms: Terms, due: Due) -> float:
        """Wait until a request that has just come may be placed, which has to happen before anything else does.

        Args:
            task: The request.
            terms: What its client may expect.
            due: When it has to be finished.

        Returns:
            Clock reading at which it was expected to be finished when it came, s; for :meth:`learn`.

        Raises:
            ServiceError: If it can not be done in time, or its place is taken by others.
        """
        held = Held(terms.tenant, task.model, task.workload_gcycles, terms.priority, terms.share)
        expected_at = self._clock() + self._checked(task, held, due).done_s
        if not self._queue and not self._placing and self._is_open(task.model):
            return expected_at
        if len(self._queue) >= self._config.max_held:
            self._make_room(task, held)
        try:
            await self._turn_of(task, held, due)
        except DeadlineMissedError:
            self.learn(expected_at, due.at + self._least_s(task, list(self._servers.values())))
            raise
        return expected_at

    def detour_s(self, task: Task, name: str) -> float:
        """Time that the policy spends by choice: how much later than on the best edge a request is done, s.

        A policy that sends what is not urgent to a slow edge is no reason to refuse what is.

        Args:
            task: The request; with its fewest steps.
            name: Where it went; it has just been written into the books there.
        """
        now, able = self._clock(), self._able(task.model)
        ends_s = {server.name: server.done_s(task, now) for server in able}
        if name not in ends_s:
            return 0.0
        ends_s[name] -= task.workload_gcycles / self._servers[name].capacity_gcycles_s  # it does not wait for itself
        return ends_s[name] - min(ends_s.values())

    def learn(self, expected_at: float, finished_at: float) -> None:
        """Take note of when a request was finished, or could have been if it had not been dropped.

        Args:
            expected_at: What :meth:`enter` returned for it, plus the time that was spent by choice, s.
            finished_at: Clock reading, s.
        """
        error_s = finished_at - expected_at
        self._scale_s += SCALE_GAIN * (abs(error_s) - self._scale_s)
        if error_s > self.margin_s:
            step_s = (1 - MISSES) * max(self._scale_s, error_s - self.margin_s)  # whatever was learned is too little
        else:
            step_s = -MISSES * self._scale_s
        self.margin_s = max(self.margin_s + STEP * step_s, 0.0)

    async def wait_again(self, task: Task, terms: Terms, due: Due) -> None:
        """Wait until a request may be placed that was accepted and has lost its place, ahead of all of its tenant.

        Raises:
            ServiceError: If it can not be finished in time any more.
        """
        await self._turn_of(task, Held(terms.tenant, task.model, task.workload_gcycles, FIRST, terms.share), due)

    def end_all(self, error: ServiceError) -> None:
        """Refuse all that wait."""
        while (last := self._queue.last()) is not None:
            self._drop(last, error)

    def notice(self) -> None:
        """Look whose turn it is, because the state of an edge has changed."""
        if self._queue and not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def missed(self, model: str) -> DeadlineMissedError:
        """Return what the client of a request is told that is dropped because it could not be finished in time."""
        able = self._able(model)
        wait_s = min((server.wait_s(self._clock()) for server in able), default=0.0)
        if self._queue and able:
            wait_s += self._queue.work_gcycles / sum(server.capacity_gcycles_s for server in able)
        return DeadlineMissedError(self.retry_after_s(wait_s))

    def retry_after_s(self, expected_s: float) -> float:
        """Time after which a refused client should try again, s: when what is here will be done, spread."""
        return expected_s * self._spread.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD)

    def _checked(self, task: Task, held: Held, due: Due) -> _Expected:
        """Say when a request will be done, and refuse it if that is too late."""
        able = self._able(task.model)
        if not able:
            raise NoServerError(f"No healthy edge server holds the model '{task.model}' at the moment.")
        now = self._clock()
        left_s = due.at - now
        if left_s < math.inf and (least_s := self._least_s(task, list(self._servers.values()))) > left_s:
            raise DeadlineTooShortError(
                f"The field 'deadline_s' leaves {max(left_s, 0):.3g} s, but the request takes {least_s:.3g} s on an "
                "idle edge."
            )
        expected = self._expected(task, able, self._queue.ahead_gcycles(held), now)
        done_s = expected.done_s + self.margin_s
        # An idle edge is never refused: without requests, nothing could be learned any more.
        if done_s > left_s and expected.wait_s > 0:
            raise TooLateError(
                f"The request could be finished in {done_s:.1f} s, but its deadline is in {left_s:.1f} s; try again "
                "later.",
                self.retry_after_s(max(expected.wait_s, done_s - left_s)),
            )
        allowed_s = self._config.max_wait_s
        if expected.wait_s > allowed_s:
            raise QueuesFullError(
                f"The queues of all {len(able)} healthy edge servers for the model '{task.model}' are too long: a "
                f"request would wait {expected.wait_s:.0f} s, at most {allowed_s:g} s are allowed; try again later.",
                self.retry_after_s(expected.wait_s),
            )
        return expected

    def _expected(self, task: Task, able: list[Server], ahead_gcycles: float, now: float) -> _Expected:
        """When a request is begun at the earliest, and with its fewest steps finished, after so much other work."""
        waits = [server.wait_s(now) for server in able]  # once: with hundreds of edges this is most of the time
        level_s = min(waits)
        if ahead_gcycles > 0:
            rates = (server.capacity_gcycles_s for server in able)
            level_s = _filled_to(sorted(zip(waits, rates, strict=True)), ahead_gcycles / self._share(able))
        pairs = zip(waits, able, strict=True)
        return _Expected(level_s, min(server.done_after_s(max(level_s, wait_s), task) for wait_s, server in pairs))

    def _least_s(self, task: Task, servers: list[Server]) -> float:
        """Time of a request with its fewest steps on the fastest edge for its model, s; infinite without one."""
        fit = [server.capacity_gcycles_s for server in servers if task.model in server.models]
        return task.sure_gcycles / max(fit) if fit else math.inf

    def _share(self, able: list[Server]) -> float:
        """Share of the edges' work that is this gateway's: so much of what they get done is its own."""
        own = sum(sum(server.remaining_gcycles.values()) for server in able)
        others = sum(server.elsewhere_gcycles for server in able)
        share = own / (own + others) if own + others > 0 else 1.0
        return max(share, 1 / self._config.gateways)

    def _able(self, model: str) -> list[Server]:
        return working(self._servers.values(), model)

    def _is_open(self, model: str) -> bool:
        """Whether an edge may be given a request now."""
        now, ahead_s = self._clock(), min(self._config.ahead_s, self._config.max_wait_s)
        return any(not server.full and server.wait_s(now) <= ahead_s for server in self._able(model))

    def _make_room(self, task: Task, held: Held) -> None:
        """Let the request that would be served last give way to one that would be served before it, or refuse this."""
        able = self._able(task.model)
        wait_s = self._expected(task, able, self._queue.ahead_gcycles(held), self._clock()).wait_s
        full = f"full ({able[0].max_queue} waiting requests each)"
        if self._config.max_held:
            full = f"full, and {self._config.max_held} more requests wait for their turn"
        refusal = QueuesFullError(
            f"The queues of all {len(able)} healthy edge servers for the model '{task.model}' are {full}; try again "
            "later.",
            self.retry_after_s(wait_s),
        )
        last = self._queue.last()
        if last is None or last.tenant == held.tenant or not self._queue.would_be_before(held, last):
            raise refusal
        self._drop(last, refusal)

    def _drop(self, held: Held, reason: ServiceError) -> None:
        self._queue.remove(held)
        if isinstance(held, _Waiting) and not held.turn.done():
            held.turn.set_exception(reason)

    async def _turn_of(self, task: Task, held: Held, due: Due) -> None:
        waiting = _Waiting(held.tenant, held.model, held.work_gcycles, held.priority, held.share)
        self._queue.add(waiting)
        self.notice()
        try:
            least_s = self._least_s(task, list(self._servers.values()))
            until_s = min(due.at - least_s, due.end) - self._clock()
            await asyncio.wait({waiting.turn}, timeout=max(until_s, 0.0))
            if not waiting.turn.done():
                if self._clock() >= due.end:
                    raise TimedOutError(f"The request waited for {self._config.request_timeout_s:g} s for its turn.")
                raise self.missed(task.model)
            waiting.turn.result()
        finally:
            if self._queue.remove(waiting):
                waiting.turn.cancel()
            elif not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._placing = False  # after what follows without a pause: the request is placed
            self.notice()

    def _pump(self) -> None:
        """Tell the one whose turn it is; the next one after that has been placed."""
        self._pump_is_due = False
        if self._placing:
            return
        held = self._queue.next(self._is_open)
        if isinstance(held, _Waiting):
            self._placing = True
            held.turn.set_result(None)


def _filled_to(waits: list[tuple[float, float]], work_gcycles: float) -> float:
    """Time at which edges that are given work, always the one that is free first, have all begun it, s.

    Args:
        waits: Waiting time in s and capacity in Gcycle/s of each edge, the shortest first.
        work_gcycles: The work, Gcycle.
    """
    level_s, capacity = waits[0][0], 0.0
    for (_, faster), (following_s, _) in zip(waits, [*waits[1:], (math.inf, 0.0)], strict=True):
        capacity += faster
        room = (following_s - level_s) * capacity
        if work_gcycles <= room:
            return level_s + work_gcycles / capacity
        work_gcycles -= room
        level_s = following_s
    return level_s
