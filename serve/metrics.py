# SPDX-License-Identifier: Apache-2.0
"""Who is told what happens in a gateway, to count it, trace it or show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgegen.serve.control.admission import Terms
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeError, Job, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.http.errors import ServiceError

if TYPE_CHECKING:
    from edgegen.serve.control.dispatcher import Outcome


@dataclass(frozen=True)
class UnderWay:
    """Requests for a model that a gateway has taken and not answered.

    Attributes:
        waiting: Those that wait, at the gateway or on an edge.
        running: Those in work.
    """

    waiting: int = 0
    running: int = 0


class Meter:
    """Is told what happens and records nothing: the gateway of tests and of programs without Ray."""

    def began(self, task: Task, job: Job, terms: Terms) -> None:
        """Take note of a request that was understood; called in the task that sees to it.

        Args:
            task: The request as policies see it.
            job: The request as edges see it.
            terms: What its client may expect.
        """

    def ended(self, job: Job, outcome: Outcome | None, error: BaseException | None, total_s: float) -> None:
        """Record what became of such a request, however many clients waited for it; called in the same task.

        Args:
            job: As it began.
            outcome: The pictures; None if there are none.
            error: Why there are none; ``CancelledError`` if nobody waited for them any more.
            total_s: From arrival at the gateway to now, s.
        """

    def answered(self, route: str, method: str, status: str, time_s: float) -> None:
        """Count an answer over HTTP.

        Args:
            route: Which, with names for what differs.
            method: Of the request.
            status: Of the answer, or that the client went away first.
            time_s: From the request to the end of the answer, s.
        """

    def requests(self, under_way: Mapping[str, UnderWay]) -> None:
        """Record how many requests there are now, by model."""

    def keys(self, count: int, sound: bool) -> None:
        """Record how many API keys there are, and whether their file is as it should be."""

    def decided(self, decision: Decision, task: Task) -> None:
        """Count a scheduling decision about a request."""

    def policies(self, label: str, state: Mapping[str, Any]) -> None:
        """Record who is in charge, and how others do.

        Args:
            label: Who is in charge.
            state: As :meth:`edgegen.serve.control.slots.Slots.state` describes it.
        """

    def served(self, server: str, pictures: Pictures, total_s: float) -> None:
        """Count an answered request.

        Args:
            server: The edge that generated the pictures.
            pictures: The pictures and their times on the edge.
            total_s: From arrival at the gateway to the answer, s.
        """

    def edge_failed(self, server: str, error: EdgeError) -> None:
        """Count an attempt that an edge failed; the request may succeed elsewhere."""

    def refused(self, error: ServiceError) -> None:
        """Count a request that gets an error answer after it was understood."""

    def state(self, server: Server, backlog_gcycles: float) -> None:
        """Record the state of an edge server.

        Args:
            server: The scheduler's books of it.
            backlog_gcycles: Work admitted and not finished, Gcycle.
        """


class Meters(Meter):
    """Tells several meters what happens.

    Args:
        meters: Are told, in this order.
    """

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def began(self, task: Task, job: Job, terms: Terms) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.began(task, job, terms)

    def ended(self, job: Job, outcome: Outcome | None, error: BaseException | None, total_s: float) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.ended(job, outcome, error, total_s)

    def answered(self, route: str, method: str, status: str, time_s: float) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.answered(route, method, status, time_s)

    def requests(self, under_way: Mapping[str, UnderWay]) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.requests(under_way)

    def keys(self, count: int, sound: bool) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.keys(count, sound)

    def decided(self, decision: Decision, task: Task) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.decided(decision, task)

    def policies(self, label: str, state: Mapping[str, Any]) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.policies(label, state)

    def served(self, server: str, pictures: Pictures, total_s: float) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.served(server, pictures, total_s)

    def edge_failed(self, server: str, error: EdgeError) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.edge_failed(server, error)

    def refused(self, error: ServiceError) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.refused(error)

    def state(self, server: Server, backlog_gcycles: float) -> None:
        """See :class:`Meter`."""
        for meter in self._meters:
            meter.state(server, backlog_gcycles)
