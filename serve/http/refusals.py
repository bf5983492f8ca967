# SPDX-License-Identifier: Apache-2.0
"""Answers to what fails before or beside the gateway, in the shape of the OpenAI API."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edgegen.serve.http.errors import ServiceError, error_body, short


def install_error_answers(app: FastAPI, routes: str) -> None:
    """Make an app answer every failure in the shape of the OpenAI API.

    Args:
        app: Is changed.
        routes: Those that it has, for whoever asks for another one.
    """

    @app.exception_handler(ServiceError)
    async def refuse(request: Request, error: ServiceError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {short(request.url.path)}"
        code = None
        if error.status_code == 404:
            message, code = f"Unknown route {what}; routes are {routes}.", "unknown_route"
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
