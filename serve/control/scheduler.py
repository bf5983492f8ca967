"""The live scheduler: keeps the books of every edge server and asks the policy where each request goes.

Plain Python on one thread, without Ray. The policy sees exactly what it sees in the simulator: backlogs, capacities,
rates, and the tasks of a slot by the server and index at which they arrived.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.offloading.draws import LEAST_SEEN
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.http.errors import NoServerError, QueuesFullError

logger = logging.getLogger(__name__)

RETRY_SPREAD = 0.25
"""Share by which the times at which refused clients are told to come back differ, so that they do not come together."""


@dataclass(frozen=True)
class Task:
    """What the scheduler knows of a request.

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
class Decision:
    """Where a request goes.

    Attributes:
        server: Name of the edge.
        decision_s: Time the decision took, s.
        fallback: Why the policy's own choice was not taken, or None.
    """

    server: str
    decision_s: float
    fallback: str | None


class Scheduler:
    """Places requests on edge servers with a policy, and without it when it fails.

    The k-th request that arrives at an edge in the current slot is shown to the policy as the task in column k of
    that edge's row, because trained policies remember something for every such cell. A policy with a ``width`` (the
    number of columns it was trained with) gets that many and requests beyond wrap around.

    A server that can not do the request, being lost or holding another model, is shown as the simulator shows a failed
    one: with a thousandth of its capacity. Policies that look at ``available`` choose among those that can take it.

    Args:
        servers: Books in the order in which the policy numbers the servers.
        policy: Decides; called under ``torch.inference_mode``.
        slot_s: Length of a slot, s.
        explore: Whether the policy samples.
        fallback: Place by least work when the policy fails; refuse otherwise.
        max_wait_s: Longest time that a new request may be expected to wait, s.
        seed: Seed of the times after which refused clients should try again.
        clock: Monotonic time, s.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        policy: Policy,
        slot_s: float,
        *,
        explore: bool = False,
        fallback: bool = True,
        max_wait_s: float = math.inf,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.servers = {server.name: server for server in servers}
        self.policy = policy
        self.slot_s = slot_s
        self.decisions = 0
        self.policy_failures = 0
        self.fallbacks = 0
        self.last_policy_failure: str | None = None
        self.policy_healthy = True
        self._explore = explore
        self._fallback = fallback
        self._max_wait_s = max_wait_s
        self._spread = random.Random(seed)
        self._clock = clock
        self._started = clock()
        self._slot = 0
        self._arrived: dict[str, int] = {}
        self._memory: Memory | None = None
        self._names = list(self.servers)

    def place(self, task: Task, job_id: str) -> Decision:
        """Choose a server for a request that has just arrived, and admit it there.

        Raises:
            NoServerError: If no healthy server holds the model, or the policy failed and there is no fallback.
            QueuesFullError: If all that do are full, or a request would have to wait too long on them.
        """
        begun = time.perf_counter()
        open_servers = self._open_servers(task.model, frozenset(), self._max_wait_s)
        reason = None
        try:
            chosen = self._ask_policy(task, open_servers)
        except Exception as error:  # a policy is foreign code: whatever it does, requests must be answered
            reason = f"policy '{self.policy.name}' failed: {type(error).__name__}: {error}".splitlines()[0]
            self._policy_failed(reason)
            if not self._fallback:
                raise NoServerError(f"{reason[0].upper()}{reason[1:]}, and the service has no fallback.") from None
        else:
            self.policy_healthy = True
            if self.servers[chosen] not in open_servers:
                reason = self._objection(self.servers[chosen], task.model)
        if reason is not None:
            self.fallbacks += 1
            chosen = self._least_work(open_servers, task)
            logger.warning("placed on '%s' by least work: %s", chosen, reason)
        self.decisions += 1
        self._admit(chosen, job_id, task)
        return Decision(chosen, time.perf_counter() - begun, reason)

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
        self._admit(chosen, job_id, task)
        return Decision(chosen, time.perf_counter() - begun, reason)

    def finish(self, name: str, job_id: str) -> None:
        """Take a job, done or failed, off a server's books."""
        server = self.servers[name]
        server.settle(self._clock())
        server.remaining_gcycles.pop(job_id, None)

    def update(self, report: EdgeReport) -> None:
        """Take over what an edge reports: it is alive, its capacity, and the work left of its jobs."""
        server = self.servers[report.name]
        if not server.healthy:
            logger.info("edge '%s' is healthy (process %d)", server.name, report.pid)
        server.settle(self._clock())
        server.report, server.healthy, server.reason, server.silent = report, True, None, False
        server.capacity_gcycles_s = report.capacity_gcycles_s
        server.elsewhere_gcycles, server.elsewhere_jobs = 0.0, 0
        for job, work in report.remaining_gcycles:
            if job in server.remaining_gcycles:
                server.remaining_gcycles[job] = work
            else:
                server.elsewhere_gcycles += work
                server.elsewhere_jobs += 1

    def miss(self, name: str) -> None:
        """Note that a report is missing: until the next one a server gets no work if another can do it."""
        self.servers[name].silent = True

    def lose(self, name: str, reason: str) -> None:
        """Mark a server as unhealthy until its next report."""
        server = self.servers[name]
        if server.healthy:
            logger.warning("edge '%s' is unhealthy: %s", name, reason)
        server.healthy, server.reason = False, reason
        server.elsewhere_gcycles, server.elsewhere_jobs = 0.0, 0

    def retry_after_s(self, model: str) -> float:
        """Time after which a refused client should try again, s: the least expected wait, spread."""
        now = self._clock()
        healthy = (server for server in self.servers.values() if server.model == model and server.healthy)
        wait_s = min((server.wait_s(now) for server in healthy), default=0.0)
        return wait_s * self._spread.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD)

    def backlog_gcycles(self) -> dict[str, float]:
        """Work admitted and not finished, by server, Gcycle."""
        now = self._clock()
        return {name: server.backlog_gcycles(now) for name, server in self.servers.items()}

    def observe(self, task: Task, open_servers: Sequence[Server]) -> tuple[RouterView, int]:
        """Return what the policy sees of a request that has just arrived, and the request's column k.

        Counts the request into the current slot.

        Args:
            task: The request.
            open_servers: Servers that can take it.
        """
        now = self._clock()
        slot = int((now - self._started) / self.slot_s)
        if slot != self._slot:
            self._slot, self._arrived = slot, {}
        column = self._arrived.get(task.home, 0)
        self._arrived[task.home] = column + 1
        width: int | None = getattr(self.policy, "width", None)
        if width is not None:
            column %= width
        cell = (0, self._names.index(task.home), column)
        shape = (1, len(self._names), width or column + 1)

        def only(value: float) -> Tensor:
            values = torch.zeros(shape)
            values[cell] = value
            return values

        present = torch.zeros(shape, dtype=torch.bool)
        present[cell] = True
        servers, working, free = self.servers.values(), set(self._working(task.model)), set(open_servers)
        share = [1.0 if server in working else LEAST_SEEN for server in servers]
        capacity = [part * server.capacity_gcycles_s for part, server in zip(share, servers, strict=True)]
        observation = RouterView(
            slot=slot,
            backlog_gcycles=torch.tensor([[server.backlog_gcycles(now) for server in servers]]),
            capacity_gcycles_s=torch.tensor([capacity]),
            rate_mbit_s=torch.tensor([[server.rate_mbit_s for server in servers]]),
            tasks=Tasks(present, only(task.size_mbit), only(task.workload_gcycles), only(task.result_mbit)),
            available=torch.tensor([[server in free for server in servers]]),
        )
        return observation, column

    def _ask_policy(self, task: Task, open_servers: Sequence[Server]) -> str:
        observation, column = self.observe(task, open_servers)
        with torch.inference_mode():
            memory = self.policy.begin(ROUTER, observation) if self._memory is None else self._memory
            actions, memory = self.policy.act(ROUTER, observation, memory, self._explore)
            expected = tuple(observation.tasks.present.shape)
            if tuple(actions.shape) != expected:
                raise ValueError(f"actions have shape {tuple(actions.shape)}, expected {expected}")
            action = float(actions[0, self._names.index(task.home), column])
            if not math.isfinite(action):
                raise ValueError(f"the action is {action}")
            if action != int(action) or not 0 <= action < len(self._names):
                raise ValueError(f"the action is {action:g}, servers are 0 to {len(self._names) - 1}")
            # A sum is finite only if all its terms are; the index alone would not betray a broken network.
            for name, values in memory.items():
                if values.is_floating_point() and not math.isfinite(float(values.sum())):
                    raise ValueError(f"its memory '{name}' holds values that are not finite")
        self._memory = memory
        return self._names[int(action)]

    def _policy_failed(self, reason: str) -> None:
        self.policy_failures += 1
        self.policy_healthy = False
        self.last_policy_failure = reason
        self._memory = None  # policies may write in place, so what they hold after a failure can not be trusted

    def _working(self, model: str) -> list[Server]:
        """Healthy servers with a model: those that report, or if none does, as when this process was busy, all."""
        healthy = [server for server in self.servers.values() if server.model == model and server.healthy]
        return [server for server in healthy if not server.silent] or healthy

    def _open_servers(self, model: str, without: frozenset[str], max_wait_s: float) -> list[Server]:
        """Servers that can take a request; never empty."""
        working = [server for server in self._working(model) if server.name not in without]
        if not working:
            raise NoServerError(f"No healthy edge server holds the model '{model}' at the moment.")
        free = [server for server in working if not server.full]
        now = self._clock()
        open_servers = [server for server in free if server.wait_s(now) <= max_wait_s]
        if open_servers:
            return open_servers
        which = f"of all {len(working)} healthy edge servers for the model '{model}'"
        if free:
            wait_s = min(server.wait_s(now) for server in free)
            how = "too long" if len(free) == len(working) else "full or too long"
            message = f"The queues {which} are {how}: a request would wait {wait_s:.0f} s, at most {max_wait_s:g} s are"
            raise QueuesFullError(f"{message} allowed; try again later.", self.retry_after_s(model))
        message = f"The queues {which} are full ({working[0].max_queue} waiting requests each); try again later."
        raise QueuesFullError(message, self.retry_after_s(model))

    def _objection(self, server: Server, model: str) -> str:
        """Why the policy's choice can not be taken."""
        if server.model != model:
            return f"edge '{server.name}' holds the model '{server.model}', not '{model}'"
        if not server.healthy:
            return f"edge '{server.name}' is unhealthy: {server.reason}"
        if server.full:
            return f"edge '{server.name}' is full ({server.max_queue} waiting requests)"
        if server.silent:
            return f"edge '{server.name}' has missed a report"
        return f"edge '{server.name}' would begin it in {server.wait_s(self._clock()):.0f} s"

    def _least_work(self, open_servers: list[Server], task: Task) -> str:
        """Name of the server with the least expected completion time."""
        now = self._clock()

        def completion_s(server: Server) -> float:
            return (server.backlog_gcycles(now) + task.workload_gcycles) / server.capacity_gcycles_s

        return min(open_servers, key=completion_s).name

    def _admit(self, name: str, job_id: str, task: Task) -> None:
        server = self.servers[name]
        server.settle(self._clock())
        server.remaining_gcycles[job_id] = task.workload_gcycles
