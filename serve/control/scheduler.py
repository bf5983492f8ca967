# SPDX-License-Identifier: Apache-2.0
"""The live scheduler: whether a request is admitted, what the policy says, and what happens when it fails.

Plain Python on one thread, without Ray. What the policy sees is the business of the live world.
"""

from __future__ import annotations

import logging
import math
import random
import time
from dataclasses import dataclass
from typing import Protocol

from edgegen.algorithms.core.policy import Policy
from edgegen.serve.control.books import Server, working
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.seat import PolicyFailedError
from edgegen.serve.control.slots import Slots
from edgegen.serve.http.errors import NoServerError, QueuesFullError

logger = logging.getLogger(__name__)

RETRY_SPREAD = 0.25
"""Share by which the times at which refused clients are told to come back differ, so that they do not come together."""


@dataclass(frozen=True)
class Decision:
    """Where a request goes.

    Attributes:
        server: Name of the edge.
        decision_s: Time the decision took, s.
        fallback: Why the policy's own choice was not taken, or None.
        mean_backlog_s: Mean backlog of all edges but the cloud, as it was known, s.
        policy: Who chose, in vain where there is a fallback; empty if nobody was asked or could.
        canary: Whether that was the candidate.
        shadow: Name of the edge that the shadow would have chosen; empty if there is none, or it could not decide.
    """

    server: str
    decision_s: float
    fallback: str | None
    mean_backlog_s: float = 0.0
    policy: str = ""
    canary: bool = False
    shadow: str = ""


class Judge(Protocol):
    """Says what requests were worth; more is better."""

    def made(self, task: Task, server: str, steps: int, delay_s: float) -> float:
        """Of one that was answered."""

    def lost(self, task: Task) -> float:
        """Of one that was accepted and not answered."""


class Scheduler:
    """Places requests on edge servers with a policy, and without it when it fails.

    Args:
        slots: The policies; the scheduler keeps the books that their worlds are made of.
        fallback: Place by least work when the policy fails; refuse otherwise.
        max_wait_s: Longest time that a new request may be expected to wait, s.
        worth: Says what requests were worth, for the policies' guard.
        seed: Seed of the times after which refused clients should try again.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        fallback: bool = True,
        max_wait_s: float = math.inf,
        worth: Judge | None = None,
        seed: int = 0,
    ) -> None:
        world = slots.incumbent.world
        self.servers = {server.name: server for server in world.servers}
        self.slots = slots
        self.decisions = 0
        self.fallbacks = 0
        self._fallback = fallback
        self._max_wait_s = max_wait_s
        self._worth = worth
        self._spread = random.Random(seed)
        self._clock = world.clock
        self._ledger = world.servers[0].ledger

    @property
    def policy(self) -> Policy:
        """The policy in charge."""
        return self.slots.incumbent.policy

    @property
    def policy_failures(self) -> int:
        """Decisions that it failed."""
        return self.slots.incumbent.failures

    @property
    def policy_healthy(self) -> bool:
        """Whether its latest decision was none of these, and it does not rest."""
        return self.slots.incumbent.healthy

    @property
    def last_policy_failure(self) -> str | None:
        """Why it failed, or what it took too long for, most recently."""
        return self.slots.incumbent.last_failure

    def place(self, task: Task, job_id: str, left_s: float = math.inf) -> Decision:
        """Choose a server for a request that has just arrived, and admit it there.

        Args:
            task: The request.
            job_id: Name of its first attempt.
            left_s: Time until it has to be done, s. A choice that would miss that is not taken while another edge can
                meet it: requests are accepted because one can.

        Raises:
            NoServerError: If no healthy server holds the model, or the policy failed and there is no fallback.
            QueuesFullError: If all that do are full, or a request would have to wait too long on them.
        """
        begun = time.perf_counter()
        open_servers = self._open_servers(task.model, frozenset(), self._max_wait_s)
        reason, choice = None, None
        try:
            choice = self.slots.choose(task, open_servers)
            chosen = choice.server
        except PolicyFailedError as error:
            reason = str(error)
            if not self._fallback:
                raise NoServerError(f"{reason[0].upper()}{reason[1:]}, and the service has no fallback.") from None
        else:
            if self.servers[chosen] not in open_servers:
                reason = self._objection(self.servers[chosen], task.model)
            elif self._can_be_saved(chosen, open_servers, task, left_s):
                reason = f"edge '{chosen}' would miss the deadline, which another edge can meet"
        if reason is not None:
            self.fallbacks += 1
            chosen = self._least_work(open_servers, task)
            logger.warning("placed on '%s' by least work: %s", chosen, reason)
        self.decisions += 1
        mean_s = self._mean_backlog_s()
        self._admit(chosen, job_id, task)
        if self._ledger is not None:
            self._ledger.count(task.home, task.model)
        decided = ("", False, "") if choice is None else (choice.policy, choice.canary, choice.shadow)
        return Decision(chosen, time.perf_counter() - begun, reason, mean_s, *decided)

    def place_again(self, task: Task, job_id: str, tried: frozenset[str], reason: str) -> Decision:
        """Choose a server by least work for a request whose server failed it, and admit it there.

        Args:
            task: The request.
            job_id: Name of the new attempt.
            tried: Servers not to choose, unless there is no other.
            reason: What happened.

        Raises:
            NoServerError: If no healthy server holds the model.
            QueuesFullError: If all that do are full.
        """
        begun = time.perf_counter()
        try:  # however long the wait: the request has been accepted
            open_servers = self._open_servers(task.model, tried, math.inf)
        except (NoServerError, QueuesFullError):
            open_servers = self._open_servers(task.model, frozenset(), math.inf)
        chosen = self._least_work(open_servers, task)
        self.fallbacks += 1
        logger.warning("moved to '%s' by least work: %s", chosen, reason)
        mean_s = self._mean_backlog_s()
        self._admit(chosen, job_id, task)
        return Decision(chosen, time.perf_counter() - begun, reason, mean_s)

    def answered(self, task: Task, server: str, steps: int, delay_s: float) -> None:
        """Let the policies' guard know what became of a request."""
        if self._worth is not None:
            self.slots.answered(task.key, self._worth.made(task, server, steps, delay_s), self._clock())

    def unanswered(self, task: Task) -> None:
        """Let the policies' guard know that a request was accepted and failed."""
        if self._worth is not None:
            self.slots.answered(task.key, self._worth.lost(task), self._clock())

    def finish(self, name: str, job_id: str) -> None:
        """Take a job, done or failed, off a server's books."""
        self.servers[name].drop(job_id, self._clock())

    def update(self, report: EdgeReport) -> None:
        """Take over what an edge reports: it is alive, its capacity, and the work left of its jobs."""
        server = self.servers[report.name]
        if not server.healthy:
            logger.info("edge '%s' is healthy (process %d)", server.name, report.pid)
        server.hear(report, self._clock())

    def miss(self, name: str) -> None:
        """Note that a report is missing: until the next one a server gets no work if another can do it."""
        self.servers[name].silent = True

    def lose(self, name: str, reason: str) -> None:
        """Mark a server as unhealthy until its next report."""
        server = self.servers[name]
        if server.healthy:
            logger.warning("edge '%s' is unhealthy: %s", name, reason)
        server.lose(reason)

    def retry_after_s(self, model: str) -> float:
        """Time after which a refused client should try again, s: the least expected wait, spread."""
        now = self._clock()
        healthy = (server for server in self.servers.values() if model in server.models and server.healthy)
        wait_s = min((server.wait_s(now) for server in healthy), default=0.0)
        return wait_s * self._spread.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD)

    def backlog_gcycles(self) -> dict[str, float]:
        """Work admitted and not finished, by server, Gcycle."""
        now = self._clock()
        return {name: server.backlog_gcycles(now) for name, server in self.servers.items()}

    def _mean_backlog_s(self) -> float:
        return 0.0 if self._ledger is None else self._ledger.mean_backlog_s(self._clock())

    def _open_servers(self, model: str, without: frozenset[str], max_wait_s: float) -> list[Server]:
        """Servers that can take a request; never empty."""
        able = [server for server in working(self.servers.values(), model) if server.name not in without]
        if not able:
            raise NoServerError(f"No healthy edge server holds the model '{model}' at the moment.")
        free = [server for server in able if not server.full]
        now = self._clock()
        open_servers = [server for server in free if server.wait_s(now) <= max_wait_s]
        if open_servers:
            return open_servers
        which = f"of all {len(able)} healthy edge servers for the model '{model}'"
        if free:
            wait_s = min(server.wait_s(now) for server in free)
            how = "too long" if len(free) == len(able) else "full or too long"
            message = f"The queues {which} are {how}: a request would wait {wait_s:.0f} s, at most {max_wait_s:g} s are"
            raise QueuesFullError(f"{message} allowed; try again later.", self.retry_after_s(model))
        message = f"The queues {which} are full ({able[0].max_queue} waiting requests each); try again later."
        raise QueuesFullError(message, self.retry_after_s(model))

    def _objection(self, server: Server, model: str) -> str:
        """Why the policy's choice can not be taken."""
        if model not in server.models:
            return f"edge '{server.name}' holds the model '{', '.join(server.models)}', not '{model}'"
        if not server.healthy:
            return f"edge '{server.name}' is unhealthy: {server.reason}"
        if server.full:
            return f"edge '{server.name}' is full ({server.max_queue} waiting requests)"
        if server.silent:
            return f"edge '{server.name}' has missed a report"
        return f"edge '{server.name}' would begin it in {server.wait_s(self._clock()):.0f} s"

    def _can_be_saved(self, chosen: str, open_servers: list[Server], task: Task, left_s: float) -> bool:
        """Whether a request would be done too late where the policy sends it, and in time by least work."""
        now = self._clock()
        if self.servers[chosen].done_s(task, now) <= left_s:
            return False
        return self.servers[self._least_work(open_servers, task)].done_s(task, now) <= left_s

    def _least_work(self, open_servers: list[Server], task: Task) -> str:
        """Name of the server with the least expected completion time, the cloud only if nobody else can."""
        now = self._clock()

        def cost(server: Server) -> tuple[bool, float]:
            load_s = server.expected_load_s(task.model)
            work_gcycles = server.backlog_gcycles(now) + task.workload_gcycles
            return server.cloud, work_gcycles / server.capacity_gcycles_s + load_s  # the cloud has a price

        return min(open_servers, key=cost).name

    def _admit(self, name: str, job_id: str, task: Task) -> None:
        self.servers[name].admit(job_id, task.workload_gcycles, self._clock(), task.model)
