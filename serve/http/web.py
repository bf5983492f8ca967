# SPDX-License-Identifier: Apache-2.0
"""The web application: routes of a gateway, and errors in the shape of the OpenAI API. No Ray in here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from edgegen.serve.console.routes import ROUTES as CONSOLE_ROUTES
from edgegen.serve.console.routes import add_console
from edgegen.serve.http.api import ErrorAnswer, ImageResponse
from edgegen.serve.http.caller import Caller, account_of, scoped
from edgegen.serve.http.errors import RequestError
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.intake import check_media_type
from edgegen.serve.http.key_guard import KeyGuard, describe_keys
from edgegen.serve.http.keys import grant_of_request
from edgegen.serve.http.links import PICTURES
from edgegen.serve.http.pictures import MEDIA_TYPES
from edgegen.serve.http.refusals import install_error_answers
from edgegen.serve.http.safety import make_safe
from edgegen.serve.http.schedule import (
    LEAST_TIME_S,
    MOST_TIME_S,
    SCHEDULE,
    Released,
    Schedule,
    generation_time,
)
from edgegen.serve.http.streaming import EVENTS, EventStream, Stream
from edgegen.serve.receiving import MAX_DISCARDED_BYTES, NEEDS_PICTURES, discard_body, receive_body
from edgegen.serve.request_log import HeadAsGet, RequestLog

GENERATIONS = "/v1/images/generations"
ROUTES = (
    "POST /v1/images/generations, GET /v1/images/REQUEST, GET /v1/pictures/NAME/FILE, POST /v1/schedule, "
    "DELETE /v1/schedule/LEASE, GET /v1/models, GET /v1/models/MODEL, GET /v1/edges, GET /healthz, GET /readyz, "
    "GET /metrics"
)
_ABOUT = (
    "Text-to-image generation on unequal edge servers, with the images API of OpenAI. "
    f"What takes pictures is answered with 400: POST {' and POST '.join(NEEDS_PICTURES)}."
)
_ERRORS = {
    400: "Bad JSON, an unknown field, or a value outside its limits",
    403: "The address is not signed",
    404: "There is nothing of this name",
    408: "The body did not arrive in time",
    410: "The address is not good any more",
    413: "The body is too large",
    415: "The body does not say that it is JSON",
    422: "The header Idempotency-Key names another request",
    429: "All queues are full; the header Retry-After says when a place should be free, in seconds",
    500: "The service failed unexpectedly",
    502: "Generation failed on every edge that was tried",
    503: "No healthy edge holds the model, or the policy failed and nothing may stand in for it",
    504: "Not finished in time",
}
_REFUSALS = (400, 408, 413, 415, 422, 429, 500, 502, 503, 504)
_MODEL_PARAMETER = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "An id of GET /v1/models.",
    "schema": {"type": "string"},
}
_REQUEST_PARAMETER = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "description": "The X-Request-Id or the Idempotency-Key of an earlier request of the same sender.",
    "schema": {"type": "string"},
}
_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name for the request: however often it is sent, it is done once.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


_LEASE_PARAMETERS = [
    {
        "name": "lease",
        "in": "path",
        "required": True,
        "description": "As the schedule has it.",
        "schema": {"type": "string"},
    },
    {
        "name": "generation_s",
        "in": "query",
        "required": False,
        "description": "How long the work took without waiting and loading, s: the edge's pace follows.",
        "schema": {"type": "number", "minimum": LEAST_TIME_S, "maximum": MOST_TIME_S},
    },
]
_LINK_PARAMETERS = [
    {"name": name, "in": place, "required": True, "description": description, "schema": {"type": "string"}}
    for name, place, description in (
        ("name", "path", "Name of the request, as its answer has it."),
        ("file", "path", "Number and format of the picture, such as 0.png."),
        ("expires", "query", "Second since 1970 until which the address is good."),
        ("signature", "query", "What the service has signed it with."),
    )
]
_ANY_PICTURE = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}


_EVENTS = {
    "schema": {
        "type": "object",
        "description": "One event of the stream.",
        "required": ["event", "data"],
        "properties": {
            "event": {"enum": [*(kind.model_fields["type"].default for kind in EVENTS), "error"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [kind.model_json_schema() for kind in (*EVENTS, ErrorAnswer)]},
            },
        },
    }
}
_PICTURES = {"description": "The pictures", "content": {EventStream.media_type: _EVENTS}}


class Ready(BaseModel):
    """Whether requests can be sent to a gateway."""

    status: Literal["ready", "unavailable"]


class UnderWay(BaseModel):
    """A request that is known and not finished."""

    status: Literal["in_progress"] = "in_progress"


def create_app(gateway: Gateway, behind_proxy: bool = False) -> FastAPI:
    """Make the web application of a gateway; its lifespan starts and stops the gateway.

    Args:
        gateway: Answers the requests.
        behind_proxy: Whether Ray Serve's proxy is in front, which writes the ids of requests into the answers.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = FastAPI(title="edgegen", description=_ABOUT, lifespan=lifespan)
    install_error_answers(app, ROUTES if gateway.watch is None else f"{ROUTES}, {CONSOLE_ROUTES}")
    app.add_middleware(HeadAsGet)
    if gateway.keys is not None:
        app.add_middleware(KeyGuard, ring=gateway.keys)
        describe_keys(app)
    make_safe(app, gateway.config)
    gateway.telemetry.add_to(app)
    app.add_middleware(RequestLog, echo=not behind_proxy)
    body = {"required": True, "content": {"application/json": {"schema": gateway.request_schema()}}}

    @app.post(
        GENERATIONS,
        openapi_extra={"requestBody": body, "parameters": [_KEY_PARAMETER]},
        response_model=ImageResponse,
        responses={200: _PICTURES, **_errors(*_REFUSALS)},
    )
    async def generate(request: Request) -> ImageResponse | EventStream:
        """Generate pictures from a prompt; with `stream`, the answer is events, a picture in each."""
        # Parsed here and not by FastAPI, so that a wrong body gets the same one-sentence answers as a wrong value.
        check_media_type(request.headers.get("content-type"))
        caller = Caller.of(request.headers, request.state.request_id, str(request.base_url))
        body = gateway.parse(await receive_body(request.receive, gateway.receive_timeout_s))
        if body.stream:
            stream = await gateway.stream(body, caller)
            return EventStream(_logged(request, stream))
        answer = await gateway.generate(body, caller)
        request.state.edge = answer.edgegen.server
        return answer

    for path in NEEDS_PICTURES:
        app.add_api_route(path, needs_pictures, methods=["POST"], include_in_schema=False)

    @app.get(
        f"{PICTURES}/{{name}}/{{file}}",
        openapi_extra={"parameters": _LINK_PARAMETERS},
        responses={200: {"description": "The picture", "content": _ANY_PICTURE}, **_errors(403, 404, 410, 500)},
        response_class=Response,
    )
    async def picture(request: Request) -> Response:
        """Fetch one picture by the address that the answer to its request has given."""
        path, query = request.path_params, request.query_params
        signed = (query.get("expires", ""), query.get("signature", ""))
        content, media_type = await gateway.picture(path["name"], path["file"], *signed)
        headers = {"Cache-Control": "private, max-age=60", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=media_type, headers=headers)

    tasks = {"required": True, "content": {"application/json": {"schema": gateway.scheduling.schema()}}}

    @app.post(
        SCHEDULE,
        openapi_extra={"requestBody": tasks},
        responses=_errors(400, 408, 413, 415, 500),
    )
    async def schedule(request: Request) -> Schedule:
        """Decide where work should go that somebody else does, and lease the edges for it."""
        check_media_type(request.headers.get("content-type"))
        caller = Caller.of(request.headers, request.state.request_id)
        body = await receive_body(request.receive, gateway.receive_timeout_s)
        return await gateway.scheduling.decide(body, caller)

    @app.delete(
        f"{SCHEDULE}/{{lease}}",
        openapi_extra={"parameters": _LEASE_PARAMETERS},
        responses=_errors(400, 404, 500, 503),
    )
    async def release(request: Request) -> Released:
        """Give a lease back, because its work is done or will not be done."""
        generation_s = generation_time(request.query_params.get("generation_s"))
        return await gateway.scheduling.give_back(request.path_params["lease"], generation_s)

    # Ids may hold slashes, too.
    @app.get(
        "/v1/images/{request_id:path}",
        openapi_extra={"parameters": [_REQUEST_PARAMETER]},
        responses={202: {"description": "The request is under way", "model": UnderWay}, **_errors(404, 500)},
        response_model=ImageResponse,
    )
    async def fetch(request: Request) -> ImageResponse | JSONResponse:
        """Fetch the pictures of an earlier request."""
        if request.url.path == GENERATIONS:
            raise HTTPException(405, headers={"Allow": "POST"})
        name = scoped(request.path_params["request_id"], account_of(request.headers))
        answer = await gateway.fetch(name, str(request.base_url))
        return JSONResponse(UnderWay().model_dump(), 202) if answer is None else answer

    @app.get("/v1/models", responses=_errors(500))
    async def models() -> dict[str, Any]:
        """List the models that may be used."""
        return {"object": "list", "data": gateway.models()}

    # The ids of models may hold slashes: they are names of a hub, or folders.
    @app.get("/v1/models/{model:path}", openapi_extra={"parameters": [_MODEL_PARAMETER]}, responses=_errors(404, 500))
    async def model(request: Request) -> dict[str, Any]:
        """Describe one model."""
        return gateway.model(request.path_params["model"])

    @app.get("/v1/edges", responses=_errors(500))
    async def edges() -> dict[str, Any]:
        """Show the state of every edge server, and who decides about them."""
        return {"object": "list", "data": gateway.edges(), "policies": gateway.policies()}

    @app.get("/healthz", responses={503: {"description": "No edge is healthy"}, **_errors(500)})
    async def health() -> JSONResponse:
        """Tell whether the service can answer: 200 ok or degraded, 503 unavailable."""
        state = gateway.health()
        if gateway.keys is not None and grant_of_request() is None:  # names of edges and policies are for who has a key
            state = {"status": state["status"], "stopping": state["stopping"]}
        return JSONResponse(state, 503 if state["status"] == "unavailable" else 200)

    @app.get(
        "/readyz", responses={503: {"description": "Requests can not be sent here", "model": Ready}, **_errors(500)}
    )
    async def ready() -> JSONResponse:
        """Tell whether requests can be sent here, and no more: 200 or 503."""
        state = Ready(status="ready" if gateway.ready else "unavailable")
        return JSONResponse(state.model_dump(), 200 if gateway.ready else 503)

    if gateway.watch is not None:
        add_console(app, gateway.watch)
    return app


async def _logged(request: Request, stream: Stream) -> AsyncIterator[bytes]:
    """The events of a stream; its line in the log gets the edge."""
    events = stream.events()
    try:
        async for event in events:
            yield event
            request.state.edge = stream.server
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def needs_pictures(request: Request) -> None:
    """Refuse to work on pictures, in whatever form they come: the models here begin with a prompt.

    Raises:
        RequestError: Always.
    """
    await discard_body(request.receive, MAX_DISCARDED_BYTES)
    raise RequestError(
        f"POST {request.url.path} is not served: the models here paint from a prompt alone; use POST {GENERATIONS}.",
        code="not_supported",
    )


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _ERRORS[status], "model": ErrorAnswer} for status in statuses}
