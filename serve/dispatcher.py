"""The dispatcher: carries requests to the edges the scheduler names, and on to others when an edge is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from edgegen.serve.config import ServiceConfig
from edgegen.serve.errors import FailedError, QueuesFullError, ServiceError, TimedOutError
from edgegen.serve.jobs import EdgeError, EdgeFullError, EdgeLostError, EdgeReport, Job, Pictures
from edgegen.serve.metrics import Meter
from edgegen.serve.scheduler import Decision, Scheduler, Task

logger = logging.getLogger(__name__)

SILENT_REPORTS = 2
"""Reports in a row that must be missed before an edge counts as unhealthy; a busy machine misses one now and then."""


class Edge(Protocol):
    """An edge server as the dispatcher reaches it; both calls raise :class:`EdgeLostError` if it is gone."""

    async def generate(self, job: Job) -> Pictures:
        """Generate the pictures of a job."""

    async def report(self) -> EdgeReport:
        """Return its state."""


@dataclass(frozen=True)
class Outcome:
    """A request that was served.

    Attributes:
        pictures: The pictures and their times on the edge.
        server: The edge that made them.
        decision_s: Time of all scheduling decisions, s.
        total_s: From arrival to now, s.
        fallback: Why the policy's own choice was not taken, or None.
    """

    pictures: Pictures
    server: str
    decision_s: float
    total_s: float
    fallback: str | None


class Dispatcher:
    """Keeps contact with the edges and sees every accepted request through to an answer.

    Args:
        config: Periods, limits and retries.
        scheduler: Decides.
        edges: The edges by name.
        meter: Is told what happens.
    """

    def __init__(
        self, config: ServiceConfig, scheduler: Scheduler, edges: Mapping[str, Edge], meter: Meter | None = None
    ) -> None:
        self._config = config
        self._meter = meter or Meter()
        self.scheduler = scheduler
        self._edges = edges
        self._lost = {name: asyncio.Event() for name in edges}
        self._heard_at = dict.fromkeys(edges, -math.inf)  # nothing is under way on an edge that was never heard
        self._numbers = itertools.count(1)
        # Distinguishes the jobs of this process from those a predecessor may have left on the edges.
        self._prefix = f"{random.SystemRandom().getrandbits(32):08x}"
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

    async def run(self, task: Task, job: Job) -> Outcome:
        """Serve a request: place it, wait for its pictures, and move it to another edge if need be.

        Args:
            task: The request as the scheduler sees it.
            job: The request as an edge sees it; its id is replaced.

        Raises:
            ServiceError: If it can not be served.
        """
        try:
            outcome = await self._run(task, job)
        except ServiceError as error:
            self._meter.refused(error)
            raise
        self._meter.served(outcome.server, outcome.pictures, outcome.total_s)
        return outcome

    async def _run(self, task: Task, job: Job) -> Outcome:
        arrived = time.perf_counter()
        number = next(self._numbers)
        job = replace(job, id=f"{self._prefix}-{number}")
        decision = self.scheduler.place(task, job.id)
        self._meter.decided(decision)
        decision_s, tried, only_full = decision.decision_s, {decision.server}, True
        for attempt in itertools.count(1):
            left_s = self._config.request_timeout_s - (time.perf_counter() - arrived)
            try:
                pictures = await self._try(decision, job, left_s)
            except EdgeError as error:
                self._meter.edge_failed(decision.server, error)
                reason = f"edge '{decision.server}' failed the request: {error}"
                only_full = only_full and isinstance(error, EdgeFullError)
                if attempt > self._config.max_retries:
                    if only_full:  # an edge may be fuller than the books say until its next report
                        raise QueuesFullError(
                            f"The queues of the {len(tried)} edge servers that were asked are full; try again later.",
                            self.scheduler.free_in_s(task.model),
                        ) from None
                    raise FailedError(f"Generation failed {attempt} times; the last time {reason}.") from None
                job = replace(job, id=f"{self._prefix}-{number}-{attempt}")
                decision = self.scheduler.place_again(task, job.id, frozenset(tried), reason)
                self._meter.decided(decision)
                decision_s += decision.decision_s
                tried.add(decision.server)
            else:
                total_s = time.perf_counter() - arrived
                return Outcome(pictures, decision.server, decision_s, total_s, decision.fallback)
        raise AssertionError("unreachable")

    async def _try(self, decision: Decision, job: Job, left_s: float) -> Pictures:
        """Have one edge do a job; give up when the edge is lost or the time is over."""
        name = decision.server
        work = asyncio.ensure_future(self._edges[name].generate(job))
        lost = asyncio.ensure_future(self._lost[name].wait())
        try:
            await asyncio.wait({work, lost}, timeout=max(left_s, 0), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if lost.done():
                raise EdgeLostError(self.scheduler.servers[name].reason or "it was lost")
            raise TimedOutError(
                f"The request was not finished within {self._config.request_timeout_s:g} s (edge '{name}')."
            )
        except EdgeLostError as error:
            self._lose(name, str(error))
            raise
        finally:
            # Also when the client went away: cancelling reaches the edge and frees its queue.
            work.cancel()
            lost.cancel()
            self.scheduler.finish(name, job.id)

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
                if missed == SILENT_REPORTS or not self.scheduler.servers[name].healthy:
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
                self._lost[name].clear()
                self._heard_at[name] = time.monotonic()
                self.scheduler.update(report)
                self._record(name)
                return

    def _silent(self, name: str, reason: str) -> None:
        """Give an edge that can not be asked no more work, but let it finish what it has for a while.

        Serve lets nobody ask a process that it is about to stop, though that goes on with its requests. Of one that
        died its requests hear at once.
        """
        if time.monotonic() - self._heard_at[name] > self._config.stalled_after_s:
            self._lose(name, reason)
        else:
            self._pass_over(name, reason)

    def _lose(self, name: str, reason: str) -> None:
        self._lost[name].set()
        self._pass_over(name, reason)

    def _pass_over(self, name: str, reason: str) -> None:
        self.scheduler.lose(name, reason)
        self._record(name)

    def _record(self, name: str) -> None:
        self._meter.state(self.scheduler.servers[name], self.scheduler.backlog_gcycles()[name])
