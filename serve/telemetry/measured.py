# SPDX-License-Identifier: Apache-2.0
"""Metrics of a service: what the gateways see of their requests and of every edge server.

Gateways count, and the edges need not know: counters of all gateways add up, and of an edge's state each has its own
view. Every metric is exported twice: by Ray, which adds the prefix ``ray_``, the suffix ``_total`` to counters, and
labels such as ``application`` and ``replica``, and at each gateway's ``/metrics``; see ``docs/observability.md``.

Labels hold names out of the config, routes, and codes of errors: nothing that a person sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeError, EdgeFullError, EdgeLostError, Job, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.http.errors import ServiceError
from edgegen.serve.metrics import Meter, UnderWay
from edgegen.serve.telemetry.instruments import Instruments

if TYPE_CHECKING:
    from edgegen.serve.control.dispatcher import Outcome

OPERATION = "generate_content"
"""What OpenTelemetry's conventions for generative models call the making of pictures."""
DECISION_BOUNDARIES_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]
REQUEST_BOUNDARIES_S = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0]
HTTP_BOUNDARIES_S = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0]


class Measured(Meter):
    """Records with instruments.

    Args:
        make: Makes them.
    """

    def __init__(self, make: Instruments) -> None:
        self._decisions = make.counter(
            "edgegen_decisions", "Scheduling decisions, by chosen edge and by who decided.", "edge", "decided_by"
        )
        self._decision_s = make.histogram(
            "edgegen_decision_seconds", "Time of a scheduling decision.", DECISION_BOUNDARIES_S, "edge"
        )
        self._queue_s = make.histogram(
            "edgegen_queue_seconds", "Time a request waited on an edge.", REQUEST_BOUNDARIES_S, "edge"
        )
        self._load_s = make.histogram(
            "edgegen_load_seconds", "Time a request waited for its model to be loaded.", REQUEST_BOUNDARIES_S, "edge"
        )
        self._generation_s = make.histogram(
            "edgegen_generation_seconds",
            "Time an edge took to generate the pictures of a request.",
            *(REQUEST_BOUNDARIES_S, "edge"),
        )
        self._request_s = make.histogram(
            "edgegen_request_seconds", "Time from arrival at the gateway to the answer.", REQUEST_BOUNDARIES_S, "edge"
        )
        self._duration_s = make.histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from arrival at the gateway to the answer, refusals included.",
            *(REQUEST_BOUNDARIES_S, "gen_ai_operation_name", "gen_ai_request_model", "error_type"),
        )
        self._promises = make.counter(
            "edgegen_promises", "Requests by what became of their deadline.", "model", "outcome"
        )
        self._http_s = make.histogram(
            "http_server_request_duration_seconds",
            "Time of an answer over HTTP.",
            *(HTTP_BOUNDARIES_S, "http_route", "http_request_method", "http_response_status_code"),
        )
        self._waiting = make.gauge("edgegen_requests_waiting", "Requests that wait, here or on an edge.", "model")
        self._running = make.gauge("edgegen_requests_running", "Requests in work.", "model")
        self._loads = make.counter("edgegen_model_loads", "Models that an edge has taken into memory.", "edge", "model")
        self._evictions = make.counter(
            "edgegen_model_evictions", "Models that an edge has dropped from memory.", "edge", "model"
        )
        self._keys = make.gauge("edgegen_api_keys", "API keys that there are.")
        self._keys_sound = make.gauge("edgegen_api_keys_sound", "1 if the file with the API keys can be used, else 0.")
        self._pictures = make.counter("edgegen_pictures", "Pictures generated.", "edge")
        self._failures = make.counter(
            "edgegen_edge_failures", "Attempts that an edge failed; reason is lost, full or failed.", "edge", "reason"
        )
        self._refusals = make.counter("edgegen_refusals", "Requests that got an error answer, by its code.", "code")
        self._queue = make.gauge("edgegen_queue_length", "Requests waiting on an edge.", "edge")
        self._backlog = make.gauge(
            "edgegen_backlog_gcycles", "Work admitted to an edge and not finished, Gcycle.", "edge"
        )
        self._capacity = make.gauge(
            "edgegen_capacity_gcycles_per_second", "Computing capacity of an edge, Gcycle/s.", "edge"
        )
        self._named: set[tuple[str, str]] = set()
        self._policy = make.gauge("edgegen_policy", "1 for the policy in each slot.", "slot", "policy")
        self._agreement = make.gauge("edgegen_shadow_agreement", "Share of equal choices of a shadow.", "policy")
        self._gain = make.gauge("edgegen_shadow_expected_gain", "Expected gain of a shadow's choices.", "policy")
        self._difference = make.gauge(
            "edgegen_canary_difference", "Ends of the interval of canary minus control.", "policy", "end"
        )
        self._healthy = make.gauge("edgegen_edge_healthy", "1 if an edge may get work, else 0.", "edge")
        self._resident: dict[str, frozenset[str]] = {}

    def ended(self, job: Job, outcome: Outcome | None, error: BaseException | None, total_s: float) -> None:
        """See :class:`Meter`."""
        if outcome is None and not isinstance(error, ServiceError):  # its client went away first
            return
        kind = error.code or error.type if isinstance(error, ServiceError) else ""
        tags = {"gen_ai_operation_name": OPERATION, "gen_ai_request_model": job.model, "error_type": kind}
        self._duration_s.observe(total_s, tags=tags)
        kept = "failed" if outcome is None else "in_time" if total_s <= job.left_s else "late"
        self._promises.inc(1, tags={"model": job.model, "outcome": kept})
        if outcome is not None and outcome.pictures.load_s > 0:
            self._load_s.observe(outcome.pictures.load_s, tags={"edge": outcome.server})

    def answered(self, route: str, method: str, status: str, time_s: float) -> None:
        """See :class:`Meter`."""
        tags = {"http_route": route, "http_request_method": method, "http_response_status_code": status}
        self._http_s.observe(time_s, tags=tags)

    def requests(self, under_way: Mapping[str, UnderWay]) -> None:
        """See :class:`Meter`."""
        for model, number in under_way.items():
            self._waiting.set(number.waiting, tags={"model": model})
            self._running.set(number.running, tags={"model": model})

    def keys(self, count: int, sound: bool) -> None:
        """See :class:`Meter`."""
        self._keys.set(count, tags={})
        self._keys_sound.set(float(sound), tags={})

    def decided(self, decision: Decision, task: Task) -> None:
        """See :class:`Meter`."""
        chosen_by = "canary" if decision.canary else "policy"
        decided_by = chosen_by if decision.fallback is None else "fallback"
        self._decisions.inc(1, tags={"edge": decision.server, "decided_by": decided_by})
        self._decision_s.observe(decision.decision_s, tags={"edge": decision.server})

    def policies(self, label: str, state: Mapping[str, Any]) -> None:
        """See :class:`Meter`."""
        in_charge = {("charge", label)}
        for slot in ("shadow", "canary"):
            if (other := state[slot]) is not None:
                in_charge.add((slot, other["name"]))
        for slot, name in self._named - in_charge:
            self._policy.set(0.0, tags={"slot": slot, "policy": name})
        for slot, name in in_charge:
            self._policy.set(1.0, tags={"slot": slot, "policy": name})
        self._named = in_charge
        if (shadow := state["shadow"]) is not None and shadow["decisions"]:
            self._agreement.set(shadow["agreement"], tags={"policy": shadow["name"]})
            self._gain.set(shadow["expected_gain"], tags={"policy": shadow["name"]})
        if (canary := state["canary"]) is not None and canary["interval"] is not None:
            for end, value in zip(("low", "high"), canary["interval"], strict=True):
                self._difference.set(value, tags={"policy": canary["name"], "end": end})

    def served(self, server: str, pictures: Pictures, total_s: float) -> None:
        """See :class:`Meter`."""
        tags = {"edge": server}
        self._pictures.inc(len(pictures.png), tags=tags)
        self._queue_s.observe(pictures.queue_s, tags=tags)
        self._generation_s.observe(pictures.generation_s, tags=tags)
        self._request_s.observe(total_s, tags=tags)

    def edge_failed(self, server: str, error: EdgeError) -> None:
        """See :class:`Meter`."""
        reason = {EdgeLostError: "lost", EdgeFullError: "full"}.get(type(error), "failed")
        self._failures.inc(1, tags={"edge": server, "reason": reason})

    def refused(self, error: ServiceError) -> None:
        """See :class:`Meter`."""
        self._refusals.inc(1, tags={"code": error.code or error.type})

    def state(self, server: Server, backlog_gcycles: float) -> None:
        """See :class:`Meter`."""
        tags = {"edge": server.name}
        self._queue.set(max(server.jobs - 1, 0), tags=tags)
        self._backlog.set(backlog_gcycles, tags=tags)
        self._capacity.set(server.capacity_gcycles_s, tags=tags)
        self._healthy.set(float(server.healthy), tags=tags)
        self._count_loads(server)

    def _count_loads(self, server: Server) -> None:
        """Count what has come into the memory of an edge, and what has left it, since it was last seen."""
        if server.report is None or not server.healthy:
            return
        before, self._resident[server.name] = self._resident.get(server.name), server.resident
        if before is None:  # what it began with
            return
        for model in sorted(server.resident - before):
            self._loads.inc(1, tags={"edge": server.name, "model": model})
        for model in sorted(before - server.resident):
            self._evictions.inc(1, tags={"edge": server.name, "model": model})
