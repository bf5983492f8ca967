# SPDX-License-Identifier: Apache-2.0
"""The layer of the web application that counts requests and begins their traces."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import context as otel
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.serve.metrics import Meter
from edgegen.serve.telemetry.json_lines import ids_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
"""Stands for routes and methods that there are not, so that nobody can fill the metrics with names."""
GONE = "client_gone"
UNTRACED = frozenset(
    {"/", "/healthz", "/readyz", "/metrics", "/favicon.ico", "/openapi.json", "/v1/fleet", "/v1/fleet/events"}
)
"""What is asked every few seconds or for minutes, and says nothing of requests."""


class Observer:
    """Counts requests by route, method and status, and puts a span around those that are traced.

    Args:
        app: The application inside.
        meter: Counts.
        tracer: Makes spans; nothing is traced if None.
    """

    def __init__(self, app: ASGIApp, meter: Meter, tracer: Tracer | None = None) -> None:
        self._app = app
        self._meter = meter
        self._tracer = tracer
        self._carrier = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = time.perf_counter()
        span = self._begin(scope)
        token = None if span is None else otel.attach(set_span_in_context(span))
        try:
            await self._app(scope, receive, note)
        except Exception:
            status = status or 500  # as the layer around this one answers
            raise
        finally:
            route, method = _route(scope), scope["method"] if scope["method"] in METHODS else OTHER
            self._meter.answered(route, method, GONE if status is None else str(status), time.perf_counter() - begun)
            if token is not None:
                otel.detach(token)
            if span is not None:
                _end(span, scope, route, method, status)

    def _begin(self, scope: Scope) -> Span | None:
        if self._tracer is None or scope["path"] in UNTRACED or scope["path"].startswith("/console/"):
            return None
        headers = Headers(scope=scope)
        given = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"] if scope["method"] in METHODS else "_OTHER",
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope.get("http_version", "1.1"),
        }
        if (request_id := scope.get("state", {}).get("request_id")) is not None:
            attributes["edgegen.request_id"] = request_id
        span = self._tracer.start_span(
            scope["method"], self._carrier.extract(given, otel.Context()), SpanKind.SERVER, attributes=attributes
        )
        scope.setdefault("state", {}).update(ids_of(span))
        return span


def _end(span: Span, scope: Scope, route: str, method: str, status: int | None) -> None:
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
        if status is None:
            span.set_attribute("error.type", GONE)
        else:
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_attribute("error.type", str(status))
        if status is None or status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()


def _route(scope: Scope) -> str:
    """The route that a request took, with names for what differs."""
    path: str = getattr(scope.get("route"), "path", OTHER)
    return path
