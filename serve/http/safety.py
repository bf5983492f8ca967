# SPDX-License-Identifier: Apache-2.0
"""What every request and answer of the web application has to keep to: sizes, names of hosts, origins, headers."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.serve.config import ServiceConfig
from edgegen.serve.http.errors import RequestError, error_body, short

MAX_URL_BYTES = 8 * 1024
MAX_HEADERS, MAX_HEADER_BYTES = 100, 32 * 1024
"""Far beyond what clients and the proxies on the way write; uvicorn alone would take 64 KiB together."""
OWN_POLICY = ("/docs", "/redoc")
"""Pages that FastAPI makes, with scripts from elsewhere. They take no keys."""
EMBEDDED = "/v1/pictures/"
"""What other pages may show, because its address is signed."""
DEFAULTS = {
    "X-Content-Type-Options": "nosniff",  # an answer is what it says it is, whatever somebody had it say
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # signed addresses are nobody else's business
}
PRIVATE = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}
_EXPOSED = (
    *("X-Request-Id", "Retry-After", "OpenAI-Processing-Ms"),
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "images") for what in ("limit", "remaining", "reset")),
)


class UrlTooLongError(RequestError):
    """The address of a request is too long."""

    status = 414


class HeadersTooLargeError(RequestError):
    """The headers of a request are too many or too long."""

    status = 431


class UnknownHostError(RequestError):
    """The request is meant for another host."""

    status = 421


class Bounds:
    """Refuses requests that are too long or meant for another host, and writes the usual headers into answers.

    Args:
        app: The application inside.
        hosts: Names of hosts that the service answers to; any if empty.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        usual = _usual_headers(scope["path"])

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in usual.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except RequestError as error:
            await JSONResponse(error.body(), error.status)(scope, receive, safe)
        else:
            await self._app(scope, receive, safe)

    def _check(self, scope: Scope) -> None:
        url_bytes = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
        if url_bytes > MAX_URL_BYTES:
            raise UrlTooLongError(
                f"The address of the request has {url_bytes} bytes, but {MAX_URL_BYTES} at most are allowed.",
                code="url_too_long",
            )
        headers = scope["headers"]
        header_bytes = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_HEADERS or header_bytes > MAX_HEADER_BYTES:
            raise HeadersTooLargeError(
                f"The request has {len(headers)} headers with {header_bytes} bytes, but {MAX_HEADERS} with "
                f"{MAX_HEADER_BYTES} bytes at most are allowed.",
                code="headers_too_large",
            )
        if self._hosts:
            given = Headers(scope=scope).get("host", "")
            if _without_port(given) not in self._hosts:
                raise UnknownHostError(
                    f"The header Host is {short(repr(given))}, but this service answers to "
                    f"{', '.join(sorted(self._hosts))}; allowed_hosts in its config says so.",
                    code="unknown_host",
                )


class Origins(CORSMiddleware):
    """Tells browsers whose pages may ask; questions of others are refused in the shape of the API."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before it sends the request of a page."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        message = f"Pages of {short(request_headers['origin'])!r} may not send this; cors_origins says whose may."
        body = error_body(message, "invalid_request_error", None, "origin_not_allowed")
        return JSONResponse(body, 403, headers={"Vary": "Origin"})


def make_safe(app: FastAPI, config: ServiceConfig) -> None:
    """Put what is in here around an application.

    Args:
        app: Gets it.
        config: Says which hosts and origins are allowed.
    """
    if config.cors_origins:
        app.add_middleware(
            Origins,
            allow_origins=config.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),  # clients write many of their own; none is believed but the key
            expose_headers=_EXPOSED,
        )
    app.add_middleware(Bounds, hosts=config.allowed_hosts)


def _usual_headers(path: str) -> dict[str, str]:
    usual = dict(DEFAULTS)
    if path in OWN_POLICY:
        del usual["Content-Security-Policy"]
    if path.startswith("/v1/") and not path.startswith(EMBEDDED):
        usual |= PRIVATE
    return usual


def _without_port(host: str) -> str:
    """The name in a header ``Host``, IPv6 addresses in brackets."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()
