# SPDX-License-Identifier: Apache-2.0
"""The layer of the web application that asks for API keys, where a service has them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgegen.serve.http.errors import ServiceError
from edgegen.serve.http.keys import Grant, KeyRing, UnknownKeyError, set_grant
from edgegen.serve.http.limits import REQUESTS

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
OPEN_FOLDERS = ("/console/", "/v1/pictures/")
"""What anybody may read: whether the service lives, how it is asked, the page that people ask it with, and pictures
whose address is signed. That page sends the key with what it asks. Everything else wants a key."""
_READING = ("GET", "HEAD")
_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key that `edgegen keys add` has made, as `Authorization: Bearer KEY`.",
}


class KeyGuard:
    """Refuses requests without a key, counts those that do work, and tells the application what the key allows.

    Args:
        app: The application inside.
        ring: The keys.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self._app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        set_grant(None)
        grant: Grant | None = None
        try:
            grant = self._grant(scope)
            if grant is not None and scope["method"] not in _READING:
                grant.limits.take(grant.key, **{REQUESTS: 1})
        except ServiceError as error:
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, _telling(send, grant))
            return
        set_grant(grant)
        await self._app(scope, receive, _telling(send, grant))

    def _grant(self, scope: Scope) -> Grant | None:
        """What the key of a request allows; None where none is given and none is needed."""
        try:
            key = self._ring.find(Headers(scope=scope).get("authorization"))
        except UnknownKeyError:
            if is_open(scope["method"], scope["path"]):
                return None
            raise
        scope.setdefault("state", {})["key"] = key.name
        return Grant(key, self._ring.limits)


def is_open(method: str, path: str) -> bool:
    """Whether a request needs no key."""
    return method in _READING and (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS))


def _telling(send: Send, grant: Grant | None) -> Send:
    """Write what is left of the limits of a key into an answer."""
    if grant is None:
        return send

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(grant.limits.headers(grant.key))
        await send(message)

    return telling


def describe_keys(app: FastAPI) -> None:
    """Say in the schema of an application that it wants keys."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {"apiKey": _SCHEME}
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                if not is_open(method.upper(), path):
                    operation["security"] = [{"apiKey": []}]
                    operation["responses"].setdefault("401", {"description": "There is no API key, or not a valid one"})
                    if method.upper() not in _READING or path == "/v1/models/{model}":
                        operation["responses"].setdefault("403", {"description": "The API key does not allow it"})
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
