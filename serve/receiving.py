# SPDX-License-Identifier: Apache-2.0
"""The body of a request, received whole: no more of it than is allowed, and in time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from edgegen.serve.http.errors import SlowBodyError, TooLargeError

MAX_BODY_BYTES = 256 * 1024
"""Enough for two prompts of the most characters that a config can allow, each written as a pair of escapes."""

MAX_DISCARDED_BYTES = 64 * 1024**2
"""Longest body that is read for nothing, so that its sender hears why."""
NEEDS_PICTURES = ("/v1/images/edits", "/v1/images/variations")
"""Routes of the OpenAI API that take pictures; they are refused, and what they get is not kept."""


async def discard_body(receive: Receive, most: int) -> None:
    """Receive the body of a request and forget it, part by part.

    Args:
        receive: Of the request, as ASGI has it.
        most: Bytes after which the rest is left where it is.

    Raises:
        ClientDisconnect: If the client goes away.
    """
    seen, more = 0, True
    while more and seen <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        seen += len(message.get("body", b""))
        more = message.get("more_body", False)


async def receive_body(receive: Receive, timeout_s: float, most: int = MAX_BODY_BYTES) -> bytes:
    """Receive the body of a request.

    Args:
        receive: Of the request, as ASGI has it.
        timeout_s: How long that may take, s.
        most: Allowed bytes.

    Raises:
        TooLargeError: If it has more bytes.
        SlowBodyError: If it takes longer.
        ClientDisconnect: If the client goes away.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > most:
                    raise TooLargeError(
                        f"The request body is longer than the {most} bytes that are allowed.", code="too_large"
                    )
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise SlowBodyError(f"The request body did not arrive within {timeout_s:g} s.", code="slow_body") from None
