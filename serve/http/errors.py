# SPDX-License-Identifier: Apache-2.0
"""Failures that are answered over HTTP, in the shape that clients of the OpenAI API expect."""

from __future__ import annotations

import math
from typing import Any

MOST_SHOWN = 60
"""Characters of somebody else's text in a message."""
RESTART_S = 20.0
"""About how long a service takes to begin again, s."""


class ServiceError(Exception):
    """A request that gets an error answer.

    Args:
        message: One sentence for people.
        param: The field it is about, if any.

    Attributes:
        status: HTTP status.
        type: Kind of error, as in the OpenAI API.
        code: Short machine-readable reason, or None.
        headers: Further HTTP headers.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers: dict[str, str] = {}

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        return error_body(self.message, self.type, self.param, self.code)


class RequestError(ServiceError):
    """The request can not be served as it is."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param)
        self.code = code


class DeadlineTooShortError(RequestError):
    """The request takes longer than it may, even where nothing else is to be done."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "deadline_s", "deadline_too_short")


class NotFoundError(RequestError):
    """There is nothing of this name to tell about."""

    status = 404


class ForbiddenError(RequestError):
    """Whoever asks may not have it."""

    status = 403


class GoneError(RequestError):
    """It was there until a while ago."""

    status = 410

    def __init__(self, message: str) -> None:
        super().__init__(message, code="link_expired")


class SlowBodyError(RequestError):
    """The body of the request did not arrive in time."""

    status = 408


class TooLargeError(RequestError):
    """The request is too large to be read."""

    status = 413


class MediaTypeError(RequestError):
    """The body of the request does not say that it is JSON."""

    status = 415


class OtherRequestError(RequestError):
    """The key of a request was used for another one."""

    status = 422

    def __init__(self) -> None:
        super().__init__(
            "The header Idempotency-Key names another request; every request needs a key of its own.",
            code="idempotency_key_reused",
        )


class QueuesFullError(ServiceError):
    """Every healthy server's queue is full.

    Args:
        message: One sentence for people.
        retry_after_s: When a place should be free, s.
    """

    status = 429
    type = "rate_limit_error"
    code = "queues_full"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after_s)))}


class TooLateError(QueuesFullError):
    """There is so much work that the request could not be finished in time."""

    code = "too_late"


class NoServerError(ServiceError):
    """No healthy server, or no policy decision, to serve the request."""

    status = 503
    type = "service_unavailable_error"
    code = "no_server"


class StoppingError(ServiceError):
    """The service is about to end, or begins again.

    Args:
        message: One sentence for people.
        retry_after_s: When there should be another one, s.
    """

    status = 503
    type = "service_unavailable_error"
    code = "stopping"

    def __init__(self, message: str, retry_after_s: float = RESTART_S) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after_s)))}


class GatewayLostError(StoppingError):
    """The process that schedules died, and its successor is not there yet."""

    code = "gateway_lost"


class FailedError(ServiceError):
    """Generation failed on every server that was tried."""

    status = 502
    code = "generation_failed"


class TimedOutError(ServiceError):
    """The answer took too long."""

    status = 504
    type = "timeout_error"
    code = "timeout"


class DeadlineMissedError(TimedOutError):
    """A request that was accepted can not be finished in time any more; no work was done for it.

    Args:
        retry_after_s: When there should be a place for it, s.
    """

    code = "deadline_missed"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "The request could not be begun early enough to be finished by its deadline, and was dropped before any "
            "work was done for it."
        )
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after_s)))}


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error in the shape of the OpenAI API."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def short(text: str, most: int = MOST_SHOWN) -> str:
    """Cut a text for an error message."""
    return text if len(text) <= most else text[: most - 3] + "..."
