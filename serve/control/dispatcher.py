"""The dispatcher: carries requests to the edges the scheduler names, and on to others when an edge is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.jobs import EdgeError, EdgeFullError, EdgeLostError, EdgeReport, Job, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision, Scheduler
from edgegen.serve.http.errors import FailedError, QueuesFullError, ServiceError, StoppingError, TimedOutError
from edgegen.serve.metrics import Meter

logger = logging.getLogger(__name__)

SILENT_REPORTS = 2
"""Reports in a row that must be missed before an edge counts as unhealthy; a busy machine misses one now and then."""
ANSWER_S = 1.0
"""Time that requests take at most to be refused, once they are told to."""


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
        clock: Monotonic time, s.

    Attributes:
        stopping: Whether new requests are refused because the service is about to end.
    """

    def __init__(
        self,
        config: ServiceConfig,
        scheduler: Scheduler,
        edges: Mapping[str, Edge],
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._meter = meter or Meter()
        self._clock = clock
        self.scheduler = scheduler
        self.stopping = False
        self._edges = edges
        # Why an attempt must end before its edge has answered, by edge and job.
        self._ends: dict[str, dict[str, asyncio.Future[None]]] = {name: {} for name in edges}
        self._requests: set[asyncio.Future[Outcome]] = set()
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

    async def drain(self, grace_s: float) -> None:
        """Refuse new requests and see those that were accepted through to an answer.

        Args:
            grace_s: How long they may take, s; those that take longer are refused, too.
        """
        self.stopping = True
        if self._requests:
            await asyncio.wait(self._requests, timeout=grace_s)
        for name in self._edges:
            self._end(name, list(self._ends[name]), StoppingError(f"The service ends; {grace_s:g} s were too short."))
        if self._requests:
            await asyncio.wait(self._requests, timeout=ANSWER_S)

    async def run(self, task: Task, job: Job) -> Outcome:
        """Serve a request: place it, wait for its pictures, and move it to another edge if need be.

        Args:
            task: The request as the scheduler sees it.
            job: The request as an edge sees it; its id is replaced.

        Raises:
            ServiceError: If it can not be served.
        """
        request = asyncio.ensure_future(self._run(task, job))
        self._requests.add(request)
        try:
            outcome = await request
        except ServiceError as error:
            self._meter.refused(error)
            raise
        finally:
            self._requests.discard(request)
        self._meter.served(outcome.server, outcome.pictures, outcome.total_s)
        return outcome

    async def _run(self, task: Task, job: Job) -> Outcome:
        if self.stopping:
            raise StoppingError("The service is about to end and takes no new requests.")
        arrived = self._clock()
        number = next(self._numbers)
        job = replace(job, id=f"{self._prefix}-{number}")
        decision = self.scheduler.place(task, job.id)
        self._meter.decided(decision)
        decision_s, tried, only_full = decision.decision_s, {decision.server}, True
        for attempt in itertools.count(1):
            left_s = self._config.request_timeout_s - (self._clock() - arrived)
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
                            self.scheduler.retry_after_s(task.model),
                        ) from None
                    raise FailedError(f"Generation failed {attempt} times; the last time {reason}.") from None
                job = replace(job, id=f"{self._prefix}-{number}-{attempt}")
                decision = self.scheduler.place_again(task, job.id, frozenset(tried), reason)
                self._meter.decided(decision)
                decision_s += decision.decision_s
                tried.add(decision.server)
            else:
                total_s = self._clock() - arrived
                return Outcome(pictures, decision.server, decision_s, total_s, decision.fallback)
        raise AssertionError("unreachable")

    async def _try(self, decision: Decision, job: Job, left_s: float) -> Pictures:
        """Have one edge do a job; give up when it is told to end or the time is over."""
        name = decision.server
        work = asyncio.ensure_future(self._edges[name].generate(job))
        end = self._ends[name][job.id] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({work, end}, timeout=max(left_s, 0), return_when=asyncio.FIRST_COMPLETED)
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
            self.scheduler.finish(name, job.id)

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
                self.scheduler.miss(name)
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
                self._heard_at[name] = self._clock()
                self.scheduler.update(report)
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
        in_work = self.scheduler.servers[name].in_work
        self._pass_over(name, reason)
        self._end(name, [job for job in self._ends[name] if job != in_work], EdgeLostError(reason))

    def _lose(self, name: str, reason: str) -> None:
        self._pass_over(name, reason)
        self._end(name, list(self._ends[name]), EdgeLostError(reason))

    def _pass_over(self, name: str, reason: str) -> None:
        self.scheduler.lose(name, reason)
        self._record(name)

    def _record(self, name: str) -> None:
        self._meter.state(self.scheduler.servers[name], self.scheduler.backlog_gcycles()[name])
