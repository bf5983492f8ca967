# SPDX-License-Identifier: Apache-2.0
"""Routes of the console: the page at ``/``, its files, and the state of the fleet, once or as a stream."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from edgegen.serve.console.assets import INDEX, Asset, assets
from edgegen.serve.console.viewers import Viewer
from edgegen.serve.console.watch import Watch
from edgegen.serve.http.api import ErrorAnswer

ROUTES = "GET /, GET /v1/fleet, GET /v1/fleet/events"
FLEET = "/v1/fleet"
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""So that nothing on the way keeps messages back."""
_STATE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The state", "content": {"application/json": {"schema": {"type": "object"}}}},
    500: {"description": "The service failed unexpectedly", "model": ErrorAnswer},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `fleet` with the whole state, then `change` with what is different",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    500: _STATE[500],
    503: {"description": "As many watch as may, or the service is about to end", "model": ErrorAnswer},
}


def add_console(app: FastAPI, watch: Watch) -> None:
    """Add the routes to an application.

    Args:
        app: Gets them.
        watch: Knows what happens.
    """

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        """Show the console."""
        return _answer(request, assets()[INDEX])

    @app.get("/console/{name}", include_in_schema=False)
    async def file(request: Request) -> Response:
        """Return a file of the console."""
        asset = assets().get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        return _answer(request, asset)

    @app.get(FLEET, responses=_STATE)
    async def fleet() -> Response:
        """Show the state of the fleet, what happened in the last minutes, and the latest requests."""
        return Response(watch.whole(), media_type="application/json")

    @app.get(f"{FLEET}/events", responses=_STREAM, response_class=StreamingResponse)
    async def events(request: Request) -> Response:
        """Show the same, and what changes from then on; a stream ends after two minutes."""
        if getattr(request.state, "head", False):
            return Response(media_type="text/event-stream", headers=STREAM_HEADERS)
        return _Stream(watch.join())


class _Stream(StreamingResponse):
    """What a viewer gets, until it goes away or its stream is over."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer.messages(), media_type="text/event-stream", headers=STREAM_HEADERS)
        self._viewer = viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._viewer.leave()


def _answer(request: Request, asset: Asset) -> Response:
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.body, media_type=asset.kind, headers=asset.headers)
