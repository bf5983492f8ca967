# SPDX-License-Identifier: Apache-2.0
"""What stands in Ray Serve's HTTP proxy, in front of the gateway: here slow clients wait, and Serve's own errors end.

Serve gives a request to the gateway with its first byte and lets it read the rest from there, so half-sent requests
would fill the gateway. And what Serve itself has to say, for example that the gateway has died, it says in plain text.
The proxy lives on when a gateway dies, so a request that was with it can be given to another one. It goes there under
the same name, and so is not done twice.

Serve calls :func:`middlewares` in every proxy, because ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from contextlib import suppress
from typing import Any

import uvicorn.config
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.serve.bounded_http import BoundedProtocol
from edgegen.serve.http.caller import TRY_HEADER
from edgegen.serve.http.errors import GatewayLostError, ServiceError, StoppingError, TimedOutError
from edgegen.serve.receiving import MAX_DISCARDED_BYTES, NEEDS_PICTURES, discard_body, receive_body
from edgegen.serve.request_log import ID_HEADER, ProxyIds

logger = logging.getLogger(__name__)

CALLBACK = "edgegen.serve.front:middlewares"
SERVES_OWN = "/-/"
"""Where Serve's own routes begin; nobody but operators asks there."""
MOST_TRIES = 3
"""Gateways that a request may see die; one that kills them must not go on."""
STATE_TRIES = 2
"""Gateways that are asked for the state of the service, one after the other, in the time there is for that."""
_VARIABLE = "EDGEGEN_FRONT_"


class Limits(BaseModel):
    """What a proxy allows; each can be set for its process as ``EDGEGEN_FRONT_`` and the name in capitals.

    Attributes:
        receive_timeout_s: Longest time until a request has been received, s.
        max_connections: Connections of the proxy.
        answer_timeout_s: Longest time from then to the answer, s; beyond that which the gateway itself allows.
        state_timeout_s: The same for everything that only asks for the state of the service; until the answer begins,
            if that is a stream of events.
        stalled_s: Longest time that a client of such a stream may take to receive what is sent, s.
    """

    model_config = ConfigDict(frozen=True)

    receive_timeout_s: float = 10.0
    max_connections: int = 512
    answer_timeout_s: float = 330.0
    state_timeout_s: float = 3.0
    stalled_s: float = 20.0

    @classmethod
    def of_process(cls) -> Limits:
        """Return the limits that the environment sets."""
        given = {name: os.environ.get(_VARIABLE + name.upper()) for name in cls.model_fields}
        return cls.model_validate({name: text for name, text in given.items() if text})

    def variables(self) -> dict[str, str]:
        """Return the environment that sets these limits."""
        return {_VARIABLE + name.upper(): str(value) for name, value in self.model_dump().items()}


def middlewares() -> list[Middleware]:
    """Prepare a proxy, before it opens its port; called by Serve.

    Returns:
        What Serve puts around its proxy, from the inside out.
    """
    limits = Limits.of_process()
    BoundedProtocol.receive_timeout_s = limits.receive_timeout_s
    BoundedProtocol.max_connections = limits.max_connections
    # Serve makes uvicorn's configuration itself and leaves the choice of the protocol open.
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{BoundedProtocol.__module__}:{BoundedProtocol.__name__}"
    return [Middleware(Front, limits=limits), Middleware(ProxyIds)]


class Front:
    """Hands whole requests to the gateway, once more if it dies, and answers in the shape of the OpenAI API.

    Args:
        app: Serve's proxy.
        limits: What is allowed.
    """

    def __init__(self, app: ASGIApp, limits: Limits | None = None) -> None:
        self._app = app
        self._limits = limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith(SERVES_OWN):
            await self._app(scope, receive, send)
            return
        attempt = _Attempt(self._app, scope, receive, send, self._limits.stalled_s)
        try:
            if scope["path"] in NEEDS_PICTURES:  # the connection itself has a deadline
                await discard_body(receive, MAX_DISCARDED_BYTES)
            else:
                attempt.body = await receive_body(receive, self._limits.receive_timeout_s)
            await self._answer(attempt)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except ServiceError as error:
            if attempt.passed_on:  # too late for another answer: cut it off
                raise
            headers = {**error.headers, ID_HEADER: Headers(scope=scope).get(ID_HEADER, "")}
            await JSONResponse(_body(scope, error), error.status, headers)(scope, receive, send)

    async def _answer(self, attempt: _Attempt) -> None:
        if attempt.scope["method"] in ("GET", "HEAD"):
            await self._answer_state(attempt)
            return
        limit_s = self._limits.answer_timeout_s
        end = asyncio.get_running_loop().time() + limit_s
        for _ in range(MOST_TRIES):
            try:
                if await attempt.run(end):
                    return
            except TimeoutError:
                raise TimedOutError(f"The request was not finished within {limit_s:g} s.") from None
            logger.warning("a gateway died with a request")
        raise GatewayLostError(f"A gateway died {MOST_TRIES} times while it served the request.")

    async def _answer_state(self, attempt: _Attempt) -> None:
        limit_s = self._limits.state_timeout_s
        for _ in range(STATE_TRIES):
            with suppress(TimeoutError):
                if await attempt.run(asyncio.get_running_loop().time() + limit_s / STATE_TRIES):
                    return
        raise GatewayLostError(f"No gateway answers within {limit_s:g} s.")


class _Attempt:
    """A request on its way to the gateway.

    Attributes:
        body: The whole body.
        passed_on: Whether the gateway's answer has begun to go to the client.
        streams: Whether that is a stream of events about the state of the service, which ends when it likes.
    """

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, stalled_s: float) -> None:
        self._app = app
        self.scope = scope
        self._receive = receive
        self._send = send
        self.body = b""
        self.passed_on = self.streams = False
        self._stalled_s = stalled_s
        self._name, self._tries = uuid.uuid4().hex, 0
        self._began = asyncio.get_running_loop().time()
        self._gone = False

    async def run(self, end: float) -> bool:
        """Give the request to the gateway; false if that dies before it has answered.

        Args:
            end: Reading of the loop's clock until which the answer must be complete, s.

        Raises:
            ServiceError: If Serve refuses the request.
            TimeoutError: If there is no answer in time.
        """
        self._begin()
        # A copy, because Serve changes it.
        headers = [(name, value) for name, value in self.scope["headers"] if name != TRY_HEADER.encode()]
        age_s = asyncio.get_running_loop().time() - self._began
        headers.append((TRY_HEADER.encode(), f"{self._name} {self._tries} {age_s:.3f}".encode()))
        scope = {**self.scope, "headers": headers}
        # A task and not asyncio.timeout: Serve takes a cancellation for a client that went away, and returns.
        work = asyncio.ensure_future(self._app(scope, self._read, self._pass))
        try:
            await asyncio.wait({work}, timeout=end - asyncio.get_running_loop().time())
            if not work.done() and not self.streams:
                raise TimeoutError
            await work
        finally:
            work.cancel()
        if self.passed_on or self._gone:
            return True
        if self._own is not None and self._own[0] != 500:
            raise _in_our_words(*self._own)
        return False

    def _begin(self) -> None:
        self._tries += 1
        self._sent = False
        self._own: tuple[int, Headers] | None = None

    async def _read(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        message = await self._receive()
        self._gone = self._gone or message["type"] == "http.disconnect"
        return message

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            # The gateway has no such answers.
            if message["status"] >= 400 and headers.get("content-type", "").startswith("text/plain"):
                self._own = message["status"], headers
                return
            self.passed_on = True
            kind = headers.get("content-type", "")
            self.streams = self.scope["method"] == "GET" and kind.startswith("text/event-stream")
        if self.streams:
            # Serve does not wait for slow clients and would keep for them whatever the gateway sends.
            try:
                async with asyncio.timeout(self._stalled_s):
                    await self._send(message)
            except TimeoutError:
                raise ClientDisconnect from None
        elif self.passed_on:
            await self._send(message)


def _in_our_words(status: int, headers: Headers) -> ServiceError:
    """What an answer of Serve itself means."""
    if status == 408:
        return TimedOutError("The request was not finished within the time that Ray Serve allows.")
    if status == 404:  # Serve has no application: it is being removed, or not there yet
        return StoppingError("The service is about to end, or not yet there.")
    return GatewayLostError(
        f"The gateway can not take the request (Ray Serve answered {status}).", float(headers.get("retry-after", 1))
    )


def _body(scope: Scope, error: ServiceError) -> dict[str, Any]:
    if scope["path"] in ("/healthz", "/readyz") and error.status == 503:  # as the gateway itself would say it
        return {"status": "unavailable", "reason": error.message}
    return error.body()
