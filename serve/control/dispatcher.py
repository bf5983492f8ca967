# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: carries requests to the edges the scheduler names, and on to others when an edge is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.admission import Admission, Due, Terms
from edgegen.serve.control.contact import Contact, Edge
from edgegen.serve.control.jobs import (
    EdgeError,
    EdgeFullError,
    Glimpse,
    Job,
    Kept,
    KeyReusedError,
    Pictures,
    same_pictures,
)
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision, Scheduler
from edgegen.serve.control.standing import Standing, standing_of
from edgegen.serve.http.errors import (
    DeadlineMissedError,
    FailedError,
    NoServerError,
    OtherRequestError,
    QueuesFullError,
    ServiceError,
    StoppingError,
    TimedOutError,
)
from edgegen.serve.metrics import Meter, UnderWay
from edgegen.serve.record.recorder import Recorder
from edgegen.serve.record.row import Made

logger = logging.getLogger(__name__)

COUNT_S = 1.0
"""Time between two counts of the requests under way, s."""
ANSWER_S = 1.0
"""Time that requests take at most to be refused, once they are told to."""


@dataclass(frozen=True)
class Outcome:
    """A request that was served.

    Attributes:
        pictures: The pictures and their times on the edge.
        server: The edge that made them.
        decision_s: Time of all scheduling decisions, s.
        total_s: From arrival to now, s.
        fallback: Why the policy's own choice was not taken, or None.
        policy: Who chose first; empty if nobody was asked or could.
        canary: Whether that was the candidate.
    """

    pictures: Pictures
    server: str
    decision_s: float
    total_s: float
    fallback: str | None
    policy: str = ""
    canary: bool = False


@dataclass
class _Request:
    """A request under way, how many clients wait for it, and the edge and the attempt that it is at."""

    job: Job
    outcome: asyncio.Task[Outcome]
    lasting: bool
    waiting: int = 0
    place: tuple[str, str] | None = None


class Dispatcher:
    """Sees every accepted request through to an answer, each once by its key.

    Args:
        config: Periods, limits and retries.
        scheduler: Decides.
        edges: The edges by name.
        meter: Is told what happens.
        clock: Monotonic time, s.
        recorder: Notes what becomes of each request.

    Attributes:
        stopping: Whether new requests are refused because the service is about to end.
        admission: Whose turn it is.
    """

    def __init__(
        self,
        config: ServiceConfig,
        scheduler: Scheduler,
        edges: Mapping[str, Edge],
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        recorder: Recorder | None = None,
    ) -> None:
        self._config = config
        self._recorder = recorder or Recorder(None, clock)
        self._meter = meter or Meter()
        self._clock = clock
        self.scheduler = scheduler
        self.stopping = False
        self.admission = Admission(config, scheduler.servers, clock)
        self._contact = Contact(config, scheduler, edges, self._meter, self._changed, clock)
        self._timeout_s = config.request_timeout_s
        self._under_way: dict[str, _Request] = {}
        self._numbers = itertools.count(1)
        # Distinguishes the jobs of this process from those of other gateways.
        self._prefix = f"{random.SystemRandom().getrandbits(32):08x}"
        self._counted_at = -math.inf

    async def start(self) -> None:
        """Ask every edge for a first report, and keep asking."""
        await self._contact.start()

    async def stop(self) -> None:
        """Stop asking for reports."""
        await self._contact.stop()

    def under_way(self) -> dict[str, UnderWay]:
        """Return how many requests there are, by model; of those on an edge one is in work, as the books have it."""
        in_work = {server.in_work for server in self.scheduler.servers.values() if server.in_work is not None}
        running = {job_id.rpartition("-")[0] if job_id.count("-") > 1 else job_id for job_id in in_work}
        there = Counter(request.job.model for request in self._under_way.values())
        working = Counter(request.job.model for request in self._under_way.values() if request.job.id in running)
        return {model: UnderWay(there[model] - working[model], working[model]) for model in self._config.models}

    def _changed(self) -> None:
        """Take note of an edge whose state has changed."""
        self.admission.notice()
        now = self._clock()
        if now - self._counted_at >= COUNT_S:
            self._counted_at = now
            self._meter.requests(self.under_way())

    async def drain(self, grace_s: float) -> None:
        """Refuse new requests and see those that were accepted through to an answer.

        Args:
            grace_s: How long they may take, s; those that take longer are refused, too.
        """
        self.stopping = True
        await self._all_answered(grace_s)
        late = StoppingError(f"The service ends; {grace_s:g} s were too short.")
        self.admission.end_all(late)
        self._contact.end_all(late)
        await self._all_answered(ANSWER_S)

    async def _all_answered(self, timeout_s: float) -> None:
        if self._under_way:
            await asyncio.wait([request.outcome for request in self._under_way.values()], timeout=timeout_s)

    async def run(self, task: Task, job: Job, terms: Terms) -> Outcome:
        """Serve a request: place it, wait for its pictures, and move it to another edge if need be.

        A request whose key is under way here joins that one.

        Args:
            task: The request as the scheduler sees it.
            job: The request as an edge sees it; its id is replaced.
            terms: What its client may expect.

        Raises:
            ServiceError: If it can not be served.
        """
        number = next(self._numbers)
        key = job.key or f"{self._prefix}-{number}"
        request = self._under_way.get(key)
        if request is None:
            job = replace(job, id=f"{self._prefix}-{number}", key=key)
            outcome = asyncio.ensure_future(self._seen_through(task, job, terms))
            request = self._under_way[key] = _Request(job, outcome, terms.lasting)
            outcome.add_done_callback(lambda outcome: self._answered(key, outcome))
        elif not same_pictures(request.job, job):
            raise OtherRequestError()
        request.waiting += 1
        try:
            return await asyncio.shield(request.outcome)
        finally:
            request.waiting -= 1
            if not request.waiting and not request.lasting:
                request.outcome.cancel()

    def _answered(self, key: str, outcome: asyncio.Task[Outcome]) -> None:
        del self._under_way[key]
        if not outcome.cancelled():
            outcome.exception()  # seen, though nobody may wait for it any more

    async def find(self, name: str) -> Kept | None:
        """Return what is known of a request by its key or alias: finished pictures, or that it is under way."""
        found = await self._contact.find(name)
        if found is None or found.pictures is None:
            for request in self._under_way.values():
                if name in (request.job.key, request.job.alias):
                    return found or Kept("", request.job, None)
        return found

    def standing(self, key: str) -> Standing:
        """Return where a request stands that is under way here."""
        request = self._under_way.get(key)
        if request is None or request.place is None:
            return Standing()
        edge, job_id = request.place
        return standing_of(self.scheduler.servers[edge], job_id, self._clock())

    async def watch(self, edge: str, key: str, seen: int, wait_s: float) -> Glimpse:
        """See :meth:`Contact.watch`."""
        return await self._contact.watch(edge, key, seen, wait_s)

    async def _seen_through(self, task: Task, job: Job, terms: Terms) -> Outcome:
        arrived = self._clock() - terms.age_s
        in_charge = self.scheduler.slots.incumbent.label
        self._meter.began(task, job, terms)
        try:
            outcome = await self._answer(task, job, terms, arrived)
        except BaseException as error:
            self._meter.ended(job, None, error, self._clock() - arrived)
            self._recorder.note(task, job, terms, arrived, in_charge, error=error)
            raise
        made = Made.of(outcome.pictures, outcome.server, outcome.decision_s, outcome.fallback, outcome.canary)
        self._recorder.note(task, job, terms, arrived, outcome.policy or in_charge, made)
        self._meter.ended(job, outcome, None, outcome.total_s)
        return outcome

    async def _answer(self, task: Task, job: Job, terms: Terms, arrived: float) -> Outcome:
        due = Due(math.inf if terms.deadline_s is None else arrived + terms.deadline_s, arrived + self._timeout_s)
        try:
            outcome = await self._joined(job, arrived, due) if terms.known else None
            if outcome is None:
                outcome = await self._placed(task, job, terms, arrived, due)
        except KeyReusedError:
            refusal: ServiceError = OtherRequestError()
            self._meter.refused(refusal)
            raise refusal from None
        except ServiceError as error:
            self._meter.refused(error)
            if isinstance(error, FailedError | TimedOutError):
                self.scheduler.unanswered(task)
            raise
        self._meter.served(outcome.server, outcome.pictures, outcome.total_s)
        self.scheduler.answered(task, outcome.server, outcome.pictures.steps or job.steps, outcome.total_s)
        return outcome

    async def _joined(self, job: Job, arrived: float, due: Due) -> Outcome | None:
        """The pictures of a request that an edge knows already; None if there is none, or the edge fails."""
        found = await self._contact.find(job.key or "", job.sending)
        if found is None:
            return None
        self._note_place(job, found.server)
        try:
            pictures = await self._contact.attempt(found.server, job, due.end - self._clock())
        except EdgeError as error:
            logger.warning("edge '%s' knew a request but failed it: %s", found.server, error)
            return None
        if pictures is None:
            return None
        return Outcome(pictures, found.server, 0.0, self._clock() - arrived, None)

    async def _placed(self, task: Task, job: Job, terms: Terms, arrived: float, due: Due) -> Outcome:
        if self.stopping:
            raise StoppingError("The service is about to end and takes no new requests.")
        first_id = job.id
        expected_at = await self.admission.enter(task, terms, due)
        decision = await self._first_place(task, job.id, terms, due)
        detour_s = self.admission.detour_s(task, decision.server)
        decision_s, tried, only_full = decision.decision_s, {decision.server}, True
        chooser = (decision.policy, decision.canary)
        for attempt in itertools.count(1):
            try:
                pictures = await self._attempt(decision, task, job, due)
            except DeadlineMissedError:
                work_s = task.sure_gcycles / self.scheduler.servers[decision.server].capacity_gcycles_s
                self.admission.learn(expected_at, due.at + work_s)
                raise
            except EdgeError as error:
                self._meter.edge_failed(decision.server, error)
                reason = f"edge '{decision.server}' failed the request: {error}"
                if isinstance(error, EdgeFullError):  # fuller than the books say until its next report
                    self.scheduler.servers[decision.server].refused = True
                else:
                    only_full = False
                if attempt > self._config.max_retries:
                    if only_full:
                        raise QueuesFullError(
                            f"The queues of the {len(tried)} edge servers that were asked are full; try again later.",
                            self.scheduler.retry_after_s(task.model),
                        ) from None
                    raise FailedError(f"Generation failed {attempt} times; the last time {reason}.") from None
                job = replace(job, id=f"{first_id}-{attempt}")
                decision = await self._next_place(task, job.id, terms, due, frozenset(tried), reason)
                decision_s += decision.decision_s
                tried.add(decision.server)
            else:
                more_gcycles = task.gcycles_with(pictures.steps) - task.sure_gcycles  # steps that there was time for
                more_s = more_gcycles / self.scheduler.servers[decision.server].capacity_gcycles_s
                self.admission.learn(expected_at + detour_s + more_s, self._clock())
                total_s = self._clock() - arrived
                return Outcome(pictures, decision.server, decision_s, total_s, decision.fallback, *chooser)
        raise AssertionError("unreachable")

    async def _attempt(self, decision: Decision, task: Task, job: Job, due: Due) -> Pictures:
        now, server = self._clock(), self.scheduler.servers[decision.server]
        job = replace(job, left_s=min(due.at, due.end) - now, mean_backlog_s=decision.mean_backlog_s)
        self._note_place(job, server.name)
        begun_in_s = due.at - now - task.sure_gcycles / server.capacity_gcycles_s
        pictures = await self._contact.attempt(server.name, job, due.end - now, begun_in_s)
        if pictures is None:
            raise self.admission.missed(task.model)
        return pictures

    def _note_place(self, job: Job, edge: str) -> None:
        request = self._under_way.get(job.key or "")
        if request is not None:
            request.place = edge, job.id

    async def _first_place(self, task: Task, job_id: str, terms: Terms, due: Due) -> Decision:
        """Place a request whose turn it is."""
        while True:
            try:
                decision = self.scheduler.place(task, job_id, due.at - self._clock())
            except QueuesFullError:  # since it got its turn, an edge was lost
                await self.admission.wait_again(task, terms, due)
            else:
                self._meter.decided(decision, task)
                return decision

    async def _next_place(
        self, task: Task, job_id: str, terms: Terms, due: Due, tried: frozenset[str], reason: str
    ) -> Decision:
        """Place a request again that was accepted, as soon as there is a place."""
        while True:
            try:
                decision = self.scheduler.place_again(task, job_id, tried, reason)
            except (QueuesFullError, NoServerError):
                await self.admission.wait_again(task, terms, due)
            else:
                self._meter.decided(decision, task)
                return decision
