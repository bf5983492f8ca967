"""The web application: routes of a gateway, and errors in the shape of the OpenAI API. No Ray in here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from edgegen.envs.core.errors import did_you_mean
from edgegen.serve.http.api import ErrorAnswer, ImageResponse, check_media_type
from edgegen.serve.http.caller import Caller, account_of, scoped
from edgegen.serve.http.errors import NotFoundError, ServiceError, error_body, short
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.key_guard import KeyGuard, describe_keys
from edgegen.serve.http.keys import grant_of_request
from edgegen.serve.receiving import receive_body
from edgegen.serve.request_log import HeadAsGet, RequestLog

GENERATIONS = "/v1/images/generations"
ROUTES = (
    "POST /v1/images/generations, GET /v1/images/REQUEST, GET /v1/models, GET /v1/models/MODEL, GET /v1/edges, "
    "GET /healthz"
)
_ERRORS = {
    400: "Bad JSON, an unknown field, or a value outside its limits",
    404: "There is nothing of this name",
    408: "The body did not arrive in time",
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

    app = FastAPI(title="edgegen", description="Text-to-image generation on unequal edge servers.", lifespan=lifespan)
    install_error_answers(app)
    app.add_middleware(HeadAsGet)
    if gateway.keys is not None:
        app.add_middleware(KeyGuard, ring=gateway.keys)
        describe_keys(app)
    app.add_middleware(RequestLog, echo=not behind_proxy)
    body = {"required": True, "content": {"application/json": {"schema": gateway.request_schema()}}}

    @app.post(
        GENERATIONS,
        openapi_extra={"requestBody": body, "parameters": [_KEY_PARAMETER]},
        responses=_errors(*_REFUSALS),
    )
    async def generate(request: Request) -> ImageResponse:
        """Generate pictures from a prompt."""
        # Parsed here and not by FastAPI, so that a wrong body gets the same one-sentence answers as a wrong value.
        check_media_type(request.headers.get("content-type"))
        caller = Caller.of(request.headers, request.state.request_id)
        body = gateway.parse(await receive_body(request.receive, gateway.receive_timeout_s))
        answer = await gateway.generate(body, caller)
        request.state.edge = answer.edgegen.server
        return answer

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
        answer = await gateway.fetch(scoped(request.path_params["request_id"], account_of(request.headers)))
        return JSONResponse(UnderWay().model_dump(), 202) if answer is None else answer

    @app.get("/v1/models", responses=_errors(500))
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": gateway.models()}

    # The ids of models may hold slashes: they are names of a hub, or folders.
    @app.get("/v1/models/{model:path}", openapi_extra={"parameters": [_MODEL_PARAMETER]}, responses=_errors(404, 500))
    async def model(request: Request) -> dict[str, Any]:
        """Describe one model."""
        wanted, known = request.path_params["model"], {card["id"]: card for card in gateway.models()}
        if wanted not in known:
            message = f"There is no model {short(wanted)!r}; this service has {', '.join(known)}."
            raise NotFoundError(message + did_you_mean(wanted, known), "model", "model_not_found")
        return known[wanted]

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

    return app


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _ERRORS[status], "model": ErrorAnswer} for status in statuses}


def install_error_answers(app: FastAPI) -> None:
    """Make an app answer every failure in the shape of the OpenAI API."""

    @app.exception_handler(ServiceError)
    async def refuse(request: Request, error: ServiceError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {short(request.url.path)}"
        code = None
        if error.status_code == 404:
            message, code = f"Unknown route {what}; routes are {ROUTES}.", "unknown_route"
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method").replace("GET", "GET, HEAD")
            error.headers = {"Allow": allowed}
            message, code = f"Wrong method in {what}; this route allows {allowed}.", "method_not_allowed"
        else:
            message = f"{error.detail}."
        body = error_body(message, "invalid_request_error", None, code)
        return JSONResponse(body, error.status_code, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        message = f"Request: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}."
        return JSONResponse(error_body(message, "invalid_request_error", None, "invalid_value"), 400)
