# SPDX-License-Identifier: Apache-2.0
"""The outermost layer of the web application: a request's id, its line in the log, and an answer whatever happens."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.serve.http.errors import error_body, short
from edgegen.serve.telemetry import context

ID_HEADER = "x-request-id"
TIME_HEADER = "openai-processing-ms"
"""Where the OpenAI API tells how long an answer took, ms."""
MOST_PATH = 200
"""Characters of a path in the log."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

logger = logging.getLogger(__name__)
lines = logging.getLogger("edgegen.requests")


def request_id(scope: Scope) -> str:
    """Return the id that a request brought, or a new one where it brought none or one that does not fit in a log."""
    given = Headers(scope=scope).get(ID_HEADER, "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


class RequestLog:
    """Gives every request an id, logs one line of JSON about it, and answers where everything else failed.

    The line says when the request came, its id, method, path and status (null: the client went away first), how long
    it took, which edge made the pictures and whose API key it had. Prompts and keys are not in it.

    Args:
        app: The application inside.
        echo: Whether to write the id into the answer; Ray Serve's proxy does that itself.
    """

    def __init__(self, app: ASGIApp, echo: bool = True) -> None:
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = {**scope.get("state", {}), "request_id": request_id(scope)}
        scope = {**scope, "state": state}
        status: int | None = None

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[TIME_HEADER] = str(round(1000 * (time.perf_counter() - begun)))
                if self._echo:
                    headers[ID_HEADER] = state["request_id"]
            await send(message)

        context.request_id.set(state["request_id"])
        came, begun = datetime.now(UTC), time.perf_counter()
        try:
            await self._app(scope, receive, note)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception as error:
            logger.exception("unexpected failure of request %s", state["request_id"])
            if status is not None:  # too late for another answer
                raise
            message = f"The service failed unexpectedly ({type(error).__name__}); its log has the details."
            await JSONResponse(error_body(message, "server_error", None, "internal_error"), 500)(scope, receive, note)
        finally:
            line = {
                "at": came.isoformat(timespec="milliseconds"),
                "request_id": state["request_id"],
                "method": scope["method"],
                "path": short(scope["path"], MOST_PATH),
                "status": status,
                "time_s": round(time.perf_counter() - begun, 4),
                "edge": state.get("edge"),
                "key": state.get("key"),
                **({"trace_id": state["trace_id"]} if "trace_id" in state else {}),
            }
            lines.info("%s", json.dumps(line))


class ProxyIds:
    """Makes Ray Serve's proxy, which echoes ids as they are, use the same ids as the log.

    Args:
        app: The proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers[ID_HEADER] = request_id(scope)
            scope = {**scope, "headers": headers.raw}
        await self._app(scope, receive, send)


class HeadAsGet:
    """Answers ``HEAD`` wherever ``GET`` is answered, without the body.

    Args:
        app: The application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        state = {**scope.get("state", {}), "head": True}  # for answers without an end
        inner = {**scope, "method": "GET", "state": state}
        await self._app(inner, receive, bodiless)
        if "route" in inner:  # those outside want to know
            scope["route"] = inner["route"]


def log_to_stdout() -> None:
    """Write the lines to the standard output of this process, which containers and Ray collect."""
    if not lines.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        lines.addHandler(handler)
        lines.setLevel(logging.INFO)
        lines.propagate = False
