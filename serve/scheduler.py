"""The live scheduler: keeps the books of every edge server and asks the policy where each request goes.

Plain Python on one thread, without Ray. The policy sees exactly what it sees in the simulator: backlogs, capacities,
rates, and the tasks of a slot by the server and index at which they arrived.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.policy import Memory, Policy
from edgegen.envs.arrivals import Tasks
from edgegen.envs.observation import Observation
from edgegen.serve.books import Server
from edgegen.serve.errors import NoServerError, QueuesFullError
from edgegen.serve.jobs import EdgeReport

logger = logging.getLogger(__name__)


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

    Args:
        servers: Books in the order in which the policy numbers the servers.
        policy: Decides; called under ``torch.inference_mode``.
        slot_s: Length of a slot, s.
        explore: Whether the policy samples.
        fallback: Place by least work when the policy fails; refuse otherwise.
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
            QueuesFullError: If all that do are full.
        """
        begun = time.perf_counter()
        open_servers = self._open_servers(task.model, frozenset())
        reason = None
        try:
            chosen = self._ask_policy(task)
        except Exception as error:  # a policy is foreign code: whatever it does, requests must be answered
            reason = f"policy '{self.policy.name}' failed: {type(error).__name__}: {error}".splitlines()[0]
            self._policy_failed(reason)
            if not self._fallback:
                raise NoServerError(f"{reason[0].upper()}{reason[1:]}, and the service has no fallback.") from None
        else:
            self.policy_healthy = True
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
        try:
            open_servers = self._open_servers(task.model, tried)
        except (NoServerError, QueuesFullError):
            open_servers = self._open_servers(task.model, frozenset())
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
        server.report, server.healthy, server.reason = report, True, None
        server.capacity_gcycles_s = report.capacity_gcycles_s
        server.elsewhere_gcycles, server.elsewhere_jobs = 0.0, 0
        for job, work in report.remaining_gcycles:
            if job in server.remaining_gcycles:
                server.remaining_gcycles[job] = work
            else:
                server.elsewhere_gcycles += work
                server.elsewhere_jobs += 1

    def lose(self, name: str, reason: str) -> None:
        """Mark a server as unhealthy until its next report."""
        server = self.servers[name]
        if server.healthy:
            logger.warning("edge '%s' is unhealthy: %s", name, reason)
        server.healthy, server.reason = False, reason
        server.elsewhere_gcycles, server.elsewhere_jobs = 0.0, 0

    def free_in_s(self, model: str) -> float:
        """Time until a place for a model should be free, s; 0 if no healthy server holds it."""
        now = self._clock()
        healthy = (server for server in self.servers.values() if server.model == model and server.healthy)
        return min((server.free_in_s(now) for server in healthy), default=0.0)

    def backlog_gcycles(self) -> dict[str, float]:
        """Work admitted and not finished, by server, Gcycle."""
        now = self._clock()
        return {name: server.backlog_gcycles(now) for name, server in self.servers.items()}

    def observe(self, task: Task) -> tuple[Observation, int]:
        """Return what the policy sees of a request that has just arrived, and the request's column k.

        Counts the request into the current slot.
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
        servers = self.servers.values()
        observation = Observation(
            slot=slot,
            backlog_gcycles=torch.tensor([[server.backlog_gcycles(now) for server in servers]]),
            capacity_gcycles_s=torch.tensor([[server.capacity_gcycles_s for server in servers]]),
            rate_mbit_s=torch.tensor([[server.rate_mbit_s for server in servers]]),
            tasks=Tasks(present, only(task.size_mbit), only(task.workload_gcycles), only(task.result_mbit)),
        )
        return observation, column

    def _ask_policy(self, task: Task) -> str:
        observation, column = self.observe(task)
        with torch.inference_mode():
            memory = self.policy.initial_memory(observation) if self._memory is None else self._memory
            actions, memory = self.policy.act(observation, memory, self._explore)
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

    def _open_servers(self, model: str, without: frozenset[str]) -> list[Server]:
        healthy = [
            server
            for server in self.servers.values()
            if server.model == model and server.healthy and server.name not in without
        ]
        if not healthy:
            raise NoServerError(f"No healthy edge server holds the model '{model}' at the moment.")
        open_servers = [server for server in healthy if not server.full]
        if not open_servers:
            raise QueuesFullError(
                f"The queues of all {len(healthy)} healthy edge servers for the model '{model}' are full "
                f"({healthy[0].max_queue} waiting requests each); try again later.",
                self.free_in_s(model),
            )
        return open_servers

    def _objection(self, server: Server, model: str) -> str | None:
        """Why the policy's choice can not be taken, or None."""
        if server.model != model:
            return f"edge '{server.name}' holds the model '{server.model}', not '{model}'"
        if not server.healthy:
            return f"edge '{server.name}' is unhealthy: {server.reason}"
        if server.full:
            return f"edge '{server.name}' is full ({server.max_queue} waiting requests)"
        return None

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
