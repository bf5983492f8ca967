"""The web application: routes of a gateway, and errors in the shape of the OpenAI API. No Ray in here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edgegen.serve.api import MAX_BODY_BYTES, ImageRequest, ImageResponse, parse_request, short
from edgegen.serve.errors import ServiceError, TooLargeError, error_body
from edgegen.serve.gateway import Gateway

logger = logging.getLogger(__name__)

ROUTES = "POST /v1/images/generations, GET /v1/models, GET /v1/edges, GET /healthz"
_BODY = {"required": True, "content": {"application/json": {"schema": ImageRequest.model_json_schema()}}}


def create_app(gateway: Gateway) -> FastAPI:
    """Make the web application of a gateway; its lifespan starts and stops the gateway."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = FastAPI(title="edgegen", description="Text-to-image generation on unequal edge servers.", lifespan=lifespan)
    install_error_answers(app)

    @app.post("/v1/images/generations", openapi_extra={"requestBody": _BODY})
    async def generate(request: Request) -> ImageResponse:
        """Generate pictures from a prompt."""
        # Parsed here and not by FastAPI, so that a wrong body gets the same one-sentence answers as a wrong value.
        return await gateway.generate(parse_request(await read_body(request)))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": gateway.models()}

    @app.get("/v1/edges")
    async def edges() -> dict[str, Any]:
        """Show the state of every edge server."""
        return {"object": "list", "data": gateway.edges()}

    @app.get("/healthz")
    async def health() -> JSONResponse:
        """Tell whether the service can answer: 200 ok or degraded, 503 unavailable."""
        state = gateway.health()
        return JSONResponse(state, 503 if state["status"] == "unavailable" else 200)

    return app


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Read the body of a request, and no more of it than is allowed.

    Raises:
        TooLargeError: If it has more bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLargeError(f"The request body is longer than the {most} bytes that are allowed.", code="too_large")
    return bytes(body)


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
            allowed = (error.headers or {}).get("Allow", "another method")
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

    @app.exception_handler(Exception)
    async def crash(request: Request, error: Exception) -> JSONResponse:
        logger.error("unexpected failure", exc_info=error)
        message = f"The service failed unexpectedly ({type(error).__name__}); its log has the details."
        return JSONResponse(error_body(message, "server_error", None, "internal_error"), 500)
