# SPDX-License-Identifier: Apache-2.0
"""HTTP connections that a few slow or idle clients can not use up: uvicorn's protocol with deadlines and a bound.

Uvicorn gives clients as long as they like to send a request. Here its headers and its body have one deadline together,
and where there are too many connections those that wait for their client give way to new ones.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgegen.serve.http.errors import RequestError, ServiceError, SlowBodyError, StoppingError


class BoundedProtocol(H11Protocol):
    """One connection.

    Attributes:
        receive_timeout_s: Longest time from the first byte of a request (or from the connection) to its last, s.
        max_connections: Connections of a server.
    """

    receive_timeout_s: ClassVar[float] = 10.0
    max_connections: ClassVar[int] = 512

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._waits_since = 0.0
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if need be in the place of one that waits for its client."""
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > self.max_connections:
            others = (one for one in self.connections if isinstance(one, BoundedProtocol) and one is not self)
            waiting = [one for one in others if one.waits]
            victim = min(waiting, key=lambda one: one._waits_since) if waiting else self
            victim.close_with(
                StoppingError("The service has too many connections.", 1), tell=victim._heard or not waiting
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._received()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the deadline with the first byte of a request, and end it with the last."""
        if self.transport.is_closing():
            return
        self._heard = True
        if self._deadline is None and self.waits:
            self._expect()
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request; part of it may have come already."""
        self._waits_since, self._heard = self.loop.time(), bool(self.conn.trailing_data[0])
        super().on_response_complete()
        self._settle()

    @property
    def waits(self) -> bool:
        """Whether nothing can be done here before the client sends something."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def close_with(self, error: ServiceError, tell: bool = True) -> None:
        """Close the connection, and before it answer a request that has begun."""
        self._received()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            tell = tell and not self.cycle.response_started
            self.cycle.disconnected = True  # the application hears of it, and can answer no more
            self.cycle.message_event.set()
        if tell and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer(error)
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the shape of all errors."""
        self.close_with(RequestError(msg, code="invalid_http"))

    def _expect(self) -> None:
        self._waits_since = self.loop.time()
        self._deadline = self.loop.call_later(self.receive_timeout_s, self._too_slow)

    def _received(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _settle(self) -> None:
        """End the deadline if a request is complete, or the connection is no longer this protocol's."""
        taken_over = self not in self.connections
        half = self.conn.their_state is h11.SEND_BODY or (
            self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        )
        if taken_over or not half:
            self._received()
        elif self._deadline is None:
            self._expect()

    def _too_slow(self) -> None:
        message = f"The request did not arrive within {self.receive_timeout_s:g} s."
        self.close_with(SlowBodyError(message, code="slow_request"), tell=self._heard)

    def _answer(self, error: ServiceError) -> None:
        body = json.dumps(error.body()).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *error.headers.items(),
        ]
        head = h11.Response(status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase)
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
