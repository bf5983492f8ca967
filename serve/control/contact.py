# SPDX-License-Identifier: Apache-2.0
"""Contact with the edges: their reports, what happens when one falls silent or dies, and attempts on them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.jobs import (
    FIRST,
    EdgeError,
    EdgeLostError,
    EdgeReport,
    Glimpse,
    Job,
    Kept,
    Lease,
    Pictures,
    Sending,
)
from edgegen.serve.control.scheduler import Scheduler
from edgegen.serve.http.errors import TimedOutError
from edgegen.serve.metrics import Meter

logger = logging.getLogger(__name__)

SILENT_REPORTS = 2
"""Reports in a row that must be missed before an edge counts as unhealthy; a busy machine misses one now and then."""


class Edge(Protocol):
    """An edge server as a gateway reaches it; all calls raise :class:`EdgeLostError` if it is gone."""

    async def generate(self, job: Job) -> Pictures:
        """Generate the pictures of a job."""

    async def report(self) -> EdgeReport:
        """Return its state."""

    async def find(self, name: str, sending: Sending = FIRST) -> Kept | None:
        """Return what it knows of a request by its key or alias, and refuse jobs of earlier sendings from now on."""

    async def watch(self, name: str, seen: int, wait_s: float) -> Glimpse:
        """Return what is new of a request, by its key."""

    async def lease(self, job: Job) -> Lease:
        """Count the work of a job that somebody else does on its device."""

    async def release(self, name: str, generation_s: float | None = None) -> bool:
        """Take a lease back; whether there was one."""

    async def keep(self, wanted: Sequence[str], scores: Mapping[str, float] | None = None) -> None:
        """Take what its cacher wants for a frame."""

    async def choose_steps_by(self, decide_steps: Callable[..., int] | None) -> None:
        """Let somebody else choose the steps of jobs."""


class Contact:
    """Asks the edges for reports, tells the scheduler what they say, and ends attempts on edges that are lost.

    Args:
        config: Periods and limits.
        scheduler: Keeps the books.
        edges: The edges by name.
        meter: Is told what happens.
        changed: Is called when the state of an edge has changed.
        clock: Monotonic time, s.
    """

    def __init__(
        self,
        config: ServiceConfig,
        scheduler: Scheduler,
        edges: Mapping[str, Edge],
        meter: Meter,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._scheduler = scheduler
        self._edges = edges
        self._meter = meter
        self._changed = changed
        self._clock = clock
        # Why an attempt must end before its edge has answered, by edge and job.
        self._ends: dict[str, dict[str, asyncio.Future[None]]] = {name: {} for name in edges}
        self._heard_at = dict.fromkeys(edges, -math.inf)  # nothing is under way on an edge that was never heard
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Ask every edge for a first report, and keep asking."""
        await asyncio.gather(*(self._ask(name) for name in self._edges))
        self._watchers = [asyncio.create_task(self._watch(name)) for name in self._edges]

    async def stop(self) -> None:
        """Stop asking for reports."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def attempt(self, name: str, job: Job, left_s: float, begun_in_s: float = math.inf) -> Pictures | None:
        """Have one edge do a job; give up when it is told to end or the time is over.

        Args:
            name: The edge.
            job: The job.
            left_s: How long it may take, s.
            begun_in_s: Time by which it must be in work, s.

        Returns:
            Its pictures; None if it was not in work by then.

        Raises:
            EdgeError: If the edge does not do it.
            ServiceError: If it must end.
        """
        work = asyncio.ensure_future(self._edges[name].generate(job))
        end = self._ends[name][job.id] = asyncio.get_running_loop().create_future()
        try:
            if begun_in_s < left_s:
                await _first(work, end, begun_in_s)
                if not work.done() and not end.done() and self._scheduler.servers[name].in_work != job.id:
                    return None
                left_s -= max(begun_in_s, 0.0)
            await _first(work, end, left_s)
            if work.done():
                return work.result()
            if end.done():
                end.result()  # raises why
            raise TimedOutError(
                f"The request was not finished within {self._config.request_timeout_s:g} s (edge '{name}')."
            )
        except EdgeLostError as error:
            if not end.done():  # the edge itself is gone; otherwise that has been seen to
                self._lose(name, str(error))
            raise
        finally:
            # Also when the client went away: cancelling reaches the edge and frees its queue.
            work.cancel()
            end.cancel()
            del self._ends[name][job.id]
            self._scheduler.finish(name, job.id)
            self._changed()

    async def watch(self, edge: str, name: str, seen: int, wait_s: float) -> Glimpse:
        """Ask an edge what is new of a request, by its key; nothing if it does not answer.

        Args:
            edge: The edge.
            name: Key of the request.
            seen: Previews that were seen before.
            wait_s: How long the edge may wait for another one, s.
        """
        try:
            async with asyncio.timeout(wait_s + self._config.report_timeout_s):
                return await self._edges[edge].watch(name, seen, wait_s)
        except (TimeoutError, EdgeError):
            return Glimpse(done=True)

    async def find(self, name: str, sending: Sending | None = None) -> Kept | None:
        """Ask all edges for a request by its key or alias; finished pictures go before those that are being made.

        Args:
            name: The key or alias.
            sending: How the request was sent here, if it is to be done should no edge know it. Jobs of earlier sendings
                are then refused, and each edge that counts as healthy is waited for, because it may have the request.
        """
        found = await asyncio.gather(*(self._find(edge, name, sending) for edge in self._edges))
        known = [kept for kept in found if kept is not None]
        return min(known, key=lambda kept: kept.pictures is None, default=None)

    def end_all(self, error: Exception) -> None:
        """End all attempts."""
        for name in self._edges:
            self._end(name, list(self._ends[name]), error)

    async def _find(self, edge: str, name: str, sending: Sending | None) -> Kept | None:
        server = self._scheduler.servers[edge]
        if not server.healthy:
            return None
        asked = asyncio.ensure_future(self._edges[edge].find(name, sending or FIRST))
        longest_s = 0.0 if sending is None else self._config.stalled_after_s
        end = asyncio.get_running_loop().time() + max(longest_s, self._config.report_timeout_s)
        try:
            while server.healthy and (left_s := end - asyncio.get_running_loop().time()) > 0:
                await asyncio.wait({asked}, timeout=min(left_s, self._config.report_timeout_s))
                if asked.done():
                    return asked.result()
        except EdgeError:
            pass
        finally:
            asked.cancel()
        return None

    def _end(self, name: str, jobs: Iterable[str], error: Exception) -> None:
        """End attempts on an edge."""
        for job in jobs:
            end = self._ends[name].get(job)
            if end is not None and not end.done():
                end.set_exception(error)

    async def _watch(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._config.report_period_s)
            await self._ask(name)

    async def _ask(self, name: str) -> None:
        """Take one report of an edge, or mark it as lost if there is none or it says that the edge hangs."""
        for missed in range(1, SILENT_REPORTS + 1):
            try:
                # Not wait_for, which before Python 3.12 can lose a cancellation, so that `stop` would never end.
                async with asyncio.timeout(self._config.report_timeout_s):
                    report = await self._edges[name].report()
            except TimeoutError:
                self._scheduler.miss(name)
                if missed == SILENT_REPORTS or not self._scheduler.servers[name].healthy:
                    self._silent(name, f"no report for {missed * self._config.report_timeout_s:g} s")
                    return
            except EdgeLostError as error:
                self._lose(name, str(error))
                return
            except Exception as error:  # the watcher must live on
                logger.exception("edge '%s' could not report", name)
                self._lose(name, f"{type(error).__name__}: {error}")
                return
            else:
                if report.stalled_s > self._config.stalled_after_s:
                    self._lose(name, f"no progress for {report.stalled_s:.0f} s")
                    return
                self._heard_at[name] = self._clock()
                self._scheduler.update(report)
                self._changed()
                self._record(name)
                return

    def _silent(self, name: str, reason: str) -> None:
        """Give an edge that can not be asked no more work, but let it finish what it is at for a while.

        Serve lets nobody ask a process that it is about to stop, though that goes on with its requests. Of one that
        died its requests hear at once.
        """
        if self._clock() - self._heard_at[name] > self._config.stalled_after_s:
            self._lose(name, reason)
            return
        in_work = self._scheduler.servers[name].in_work
        self._pass_over(name, reason)
        self._end(name, [job for job in self._ends[name] if job != in_work], EdgeLostError(reason))

    def _lose(self, name: str, reason: str) -> None:
        self._pass_over(name, reason)
        self._end(name, list(self._ends[name]), EdgeLostError(reason))

    def _pass_over(self, name: str, reason: str) -> None:
        self._scheduler.lose(name, reason)
        self._record(name)

    def _record(self, name: str) -> None:
        server = self._scheduler.servers[name]
        self._meter.state(server, server.backlog_gcycles(self._clock()))


async def _first(work: asyncio.Future[Pictures], end: asyncio.Future[None], timeout_s: float) -> None:
    """Wait for the first of two, but no longer than that."""
    both: set[asyncio.Future[Any]] = {work, end}
    await asyncio.wait(both, timeout=max(timeout_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
