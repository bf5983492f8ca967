# SPDX-License-Identifier: Apache-2.0
"""Decisions for executors outside: where work should go, without doing it, and how the books know of it.

A decision is written down as a lease at the edge itself, whose reports tell it to every gateway as they tell jobs. It
weighs what is left of the work by the clock, until it is given back or forgotten.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgegen.serve.control.contact import Edge
from edgegen.serve.control.jobs import LEASE, EdgeError, Job, Lease
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision, Scheduler
from edgegen.serve.http.errors import NoServerError
from edgegen.serve.metrics import Meter


@dataclass(frozen=True)
class Leased:
    """Where a task should go.

    Attributes:
        name: Name of the lease.
        decision: The decision.
        lease: What the edge expects.
    """

    name: str
    decision: Decision
    lease: Lease


class Leasing:
    """Decides about tasks and keeps leases for them.

    Args:
        scheduler: Decides.
        edges: The edges by name.
        meter: Is told of decisions.
    """

    def __init__(self, scheduler: Scheduler, edges: Mapping[str, Edge], meter: Meter) -> None:
        self._scheduler, self._edges, self._meter = scheduler, edges, meter

    async def take(self, task: Task, job: Job) -> Leased:
        """Decide about a task, and have its edge count the work.

        Args:
            task: The task as the scheduler sees it.
            job: The task as an edge sees it; its id and its key are replaced.

        Raises:
            NoServerError: If no healthy server holds the model, or that which was chosen does not answer.
            QueuesFullError: If all that do are full, or the task would have to wait too long on them.
        """
        number = uuid.uuid4().hex
        task = replace(task, key=number)  # a canary gets its share of tasks, and not of what they came in
        decision = self._scheduler.place(task, LEASE + number)
        self._meter.decided(decision, task)
        job = replace(job, id=LEASE + number, key=None, alias=None, mean_backlog_s=decision.mean_backlog_s)
        try:
            lease = await self._edges[decision.server].lease(job)
        except BaseException as error:
            self._scheduler.finish(decision.server, job.id)
            if isinstance(error, EdgeError):
                message = f"The edge server '{decision.server}', which was chosen, does not answer: {error}."
                raise NoServerError(message) from None
            raise
        return Leased(f"{decision.server}.{number}", decision, lease)

    async def give_back(self, name: str, generation_s: float | None = None) -> bool:
        """End a lease, whichever gateway made it; whether there was one.

        Args:
            name: Name of the lease.
            generation_s: How long the work took, s, where that is known.

        Raises:
            NoServerError: If its edge does not answer.
        """
        server, _, number = name.partition(".")
        if server not in self._edges:
            return False
        try:
            found = await self._edges[server].release(LEASE + number, generation_s)
        except EdgeError as error:
            raise NoServerError(f"The edge server '{server}' does not answer: {error}.") from None
        self._scheduler.finish(server, LEASE + number)
        return found
