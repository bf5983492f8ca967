"""Metrics of a service for Prometheus: what the gateways see of every edge server, exported by Ray.

Gateways count, and the edges need not know: counters of all gateways add up, and of an edge's state each has its own
view. Ray adds the prefix ``ray_``, the suffix ``_total`` to counters, and labels such as ``application`` and
``replica``. ``docs/serving.md`` lists the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeError, EdgeFullError, EdgeLostError, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.http.errors import ServiceError

DECISION_BOUNDARIES_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]
REQUEST_BOUNDARIES_S = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0]


class Meter:
    """Is told what happens and records nothing: the gateway of tests and of programs without Ray."""

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


class RayMeter(Meter):
    """Records with Ray's metrics, which every node exports for Prometheus; made inside the gateway's replica."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        def histogram(name: str, description: str, boundaries: list[float]) -> Histogram:
            return Histogram(name, description=description, boundaries=boundaries, tag_keys=("edge",))

        def gauge(name: str, description: str) -> Gauge:
            return Gauge(name, description=description, tag_keys=("edge",))

        def gauge_of(name: str, description: str, *tags: str) -> Gauge:
            return Gauge(name, description=description, tag_keys=tags)

        def counter(name: str, description: str, *tags: str) -> Counter:
            return Counter(name, description=description, tag_keys=tags)

        self._decisions = counter(
            "edgegen_decisions", "Scheduling decisions, by chosen edge and by who decided.", "edge", "decided_by"
        )
        self._decision_s = histogram(
            "edgegen_decision_seconds", "Time of a scheduling decision.", DECISION_BOUNDARIES_S
        )
        self._queue_s = histogram("edgegen_queue_seconds", "Time a request waited on an edge.", REQUEST_BOUNDARIES_S)
        self._generation_s = histogram(
            "edgegen_generation_seconds",
            "Time an edge took to generate the pictures of a request.",
            REQUEST_BOUNDARIES_S,
        )
        self._request_s = histogram(
            "edgegen_request_seconds", "Time from arrival at the gateway to the answer.", REQUEST_BOUNDARIES_S
        )
        self._pictures = counter("edgegen_pictures", "Pictures generated.", "edge")
        self._failures = counter(
            "edgegen_edge_failures", "Attempts that an edge failed; reason is lost, full or failed.", "edge", "reason"
        )
        self._refusals = counter("edgegen_refusals", "Requests that got an error answer, by its code.", "code")
        self._queue = gauge("edgegen_queue_length", "Requests waiting on an edge.")
        self._backlog = gauge("edgegen_backlog_gcycles", "Work admitted to an edge and not finished, Gcycle.")
        self._capacity = gauge("edgegen_capacity_gcycles_per_second", "Computing capacity of an edge, Gcycle/s.")
        self._named: set[tuple[str, str]] = set()
        self._policy = gauge_of("edgegen_policy", "1 for the policy in each slot.", "slot", "policy")
        self._agreement = gauge_of("edgegen_shadow_agreement", "Share of equal choices of a shadow.", "policy")
        self._gain = gauge_of("edgegen_shadow_expected_gain", "Expected gain of a shadow's choices.", "policy")
        self._difference = gauge_of(
            "edgegen_canary_difference", "Ends of the interval of canary minus control.", "policy", "end"
        )
        self._healthy = gauge("edgegen_edge_healthy", "1 if an edge may get work, else 0.")

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
        self._named |= in_charge
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
