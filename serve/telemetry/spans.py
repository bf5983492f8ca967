# SPDX-License-Identifier: Apache-2.0
"""Spans of a request: the gateway's, that of the decision, and on the edge waiting, loading and generating.

The edges themselves know nothing of traces. What they report of a job, time waited, time of the load and time of
generation, is drawn as spans that end when its pictures arrive at the gateway.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import context as otel
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from edgegen.serve.control.admission import Terms
from edgegen.serve.control.jobs import EdgeError, Job, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.http.errors import ServiceError
from edgegen.serve.metrics import Meter
from edgegen.serve.telemetry.measured import OPERATION

if TYPE_CHECKING:
    from edgegen.serve.control.dispatcher import Outcome

NS = 1e9


@dataclass
class _Work:
    """What is under way for a request."""

    span: Span
    began_ns: int
    edge: Span | None = None
    waited: bool = False


_work: ContextVar[_Work | None] = ContextVar("edgegen_traced_work", default=None)


class Spans(Meter):
    """Makes the spans below that of the HTTP request.

    Args:
        tracer: Makes them.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def began(self, task: Task, job: Job, terms: Terms) -> None:
        """See :class:`Meter`; called in the task that sees to the request, whose context it changes."""
        del terms
        now = time.time_ns()
        span = self._tracer.start_span(
            f"{OPERATION} {job.model}",
            kind=SpanKind.INTERNAL,
            start_time=now,
            attributes={
                "gen_ai.operation.name": OPERATION,
                "gen_ai.provider.name": "edgegen",
                "gen_ai.request.model": job.model,
                "gen_ai.request.choice.count": len(job.seeds),
                "gen_ai.request.seed": job.seeds[0],
                "gen_ai.output.type": "image",
                "edgegen.home": task.home,
                "edgegen.request.steps": job.steps,
                "edgegen.request.width": job.width,
                "edgegen.request.height": job.height,
                "edgegen.work_gcycles": job.workload_gcycles,
                **({"edgegen.deadline_s": job.left_s} if math.isfinite(job.left_s) else {}),
            },
        )
        _work.set(_Work(span, now))
        otel.attach(set_span_in_context(span))

    def decided(self, decision: Decision, task: Task) -> None:
        """See :class:`Meter`."""
        work = _work.get()
        if work is None:
            return
        now = time.time_ns()
        begun = now - int(decision.decision_s * NS)
        inside = set_span_in_context(work.span)
        if not work.waited:
            work.waited = True
            self._tracer.start_span("admission", inside, start_time=work.began_ns).end(max(begun, work.began_ns))
        attributes: dict[str, str | bool | float] = {
            "edgegen.edge": decision.server,
            "edgegen.decision_s": decision.decision_s,
            "edgegen.policy": decision.policy,
            "edgegen.canary": decision.canary,
        }
        if decision.fallback is not None:
            attributes["edgegen.fallback"] = decision.fallback
        self._tracer.start_span("decision", inside, attributes=attributes, start_time=begun).end(now)
        work.edge = self._tracer.start_span(
            f"edge {decision.server}",
            inside,
            kind=SpanKind.CLIENT,
            attributes={"edgegen.edge": decision.server},
            start_time=now,
        )

    def edge_failed(self, server: str, error: EdgeError) -> None:
        """See :class:`Meter`."""
        work = _work.get()
        if work is not None and work.edge is not None:
            _fail(work.edge, type(error).__name__, str(error))
            work.edge = None

    def served(self, server: str, pictures: Pictures, total_s: float) -> None:
        """See :class:`Meter`."""
        work = _work.get()
        if work is None or work.edge is None:
            return
        end = time.time_ns()
        parts = {"generate": pictures.generation_s, "load": pictures.load_s, "queue": pictures.queue_s}
        work.edge.set_attributes({f"edgegen.{_ATTRIBUTES[name]}": spent_s for name, spent_s in parts.items()})
        inside, ends = set_span_in_context(work.edge), end
        for name, spent_s in parts.items():
            begins = ends - int(spent_s * NS)
            if spent_s > 0:
                self._tracer.start_span(name, inside, start_time=begins).end(ends)
            ends = begins
        work.edge.end(end)
        work.edge = None

    def ended(self, job: Job, outcome: Outcome | None, error: BaseException | None, total_s: float) -> None:
        """See :class:`Meter`."""
        work = _work.get()
        if work is None:
            return
        if work.edge is not None:
            _fail(work.edge, _kind(error), "the request ended first")
        if outcome is None:
            _fail(work.span, _kind(error), "" if error is None else str(error))
            return
        pictures = outcome.pictures
        work.span.set_attributes(
            {
                "gen_ai.response.model": job.model,
                "edgegen.edge": outcome.server,
                "edgegen.steps": job.steps if pictures.steps is None else pictures.steps,
                "edgegen.queue_s": pictures.queue_s,
                "edgegen.load_s": pictures.load_s,
                "edgegen.generation_s": pictures.generation_s,
                "edgegen.decision_s": outcome.decision_s,
                "edgegen.total_s": total_s,
                "edgegen.in_time": total_s <= job.left_s,
            }
        )
        work.span.end()


_ATTRIBUTES = {"generate": "generation_s", "load": "load_s", "queue": "queue_s"}


def _kind(error: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "client_gone"
    if isinstance(error, ServiceError):
        return error.code or error.type
    return type(error).__name__


def _fail(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, message))
    span.end()
