# SPDX-License-Identifier: Apache-2.0
"""Who may ask: the keys of a service as a gateway holds them, and the one of the request that is being served."""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import as_path, reason_of
from edgegen.serve.http.errors import ServiceError, short
from edgegen.serve.http.key_file import KEY, ApiKey, KeyFile, digest, read_keys
from edgegen.serve.http.limits import PICTURES, WORK, Limits

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Least time between two looks at whether the file has changed, s."""
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_NOBODY = secrets.token_bytes(32)
"""What keys with an unknown id are compared with, so that they take as long as others."""


class UnknownKeyError(ServiceError):
    """A request without a key that counts."""

    status = 401
    type = "invalid_request_error"

    def __init__(self, message: str, code: str = "invalid_api_key") -> None:
        super().__init__(message)
        self.code = code
        self.headers = {"WWW-Authenticate": "Bearer"}


class NotAllowedError(ServiceError):
    """A key that does not allow what is asked for."""

    status = 403
    type = "invalid_request_error"
    code = "model_not_allowed"


@dataclass(frozen=True)
class Grant:
    """What the key of a request allows.

    Attributes:
        key: The key.
        limits: What is left of its limits.
    """

    key: ApiKey
    limits: Limits

    def allows(self, model: str) -> bool:
        """Whether the key may use a model, by its own name."""
        return self.key.models is None or model in self.key.models

    def check(self, model: str) -> None:
        """Check that the key may use a model, by its own name.

        Raises:
            NotAllowedError: If it may not.
        """
        if not self.allows(model):
            raise NotAllowedError(
                f"This API key may not use the model {short(model)!r}; it may use {', '.join(self.key.models or ())}.",
                "model",
            )

    def admit(self, model: str, pictures: int, work_gcycles: float) -> None:
        """Let a request pass, and count it.

        Args:
            model: The model it needs.
            pictures: Pictures it asks for.
            work_gcycles: Its work, Gcycle.

        Raises:
            NotAllowedError: If the key may not use the model.
            LimitError: If it has used up a limit.
        """
        self.check(model)
        self.limits.take(self.key, **{PICTURES: pictures, WORK: work_gcycles})


_grant: ContextVar[Grant | None] = ContextVar("edgegen_grant", default=None)


def grant_of_request() -> Grant | None:
    """Return what the key of the request that is being served allows; None where the service has no keys."""
    return _grant.get()


def set_grant(grant: Grant | None) -> None:
    """Say what the key of a request allows, in the task that serves it."""
    _grant.set(grant)


class KeyRing:
    """The keys of a service, as the file has them now.

    Args:
        path: The file.
        gateways: Gateways of the service, among which limits are divided.
        aliases: Models by the other names that they have; a key may name its models by these, too.
        clock: Monotonic time, s.
        today: Time of the day, s since 1970.

    Attributes:
        limits: What is left of the limits of all keys.
        error: Why the file is not as it should be, so that the keys before still count; None if all is well.

    Raises:
        InputError: If the file can not be used.
    """

    def __init__(
        self,
        path: str | Path,
        gateways: int = 1,
        aliases: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._path = as_path(path, "Key file")
        self._clock, self._today = clock, today
        self._aliases = aliases or {}
        self.limits = Limits(gateways, clock)
        self.error: str | None = None
        self._stamp = _stamp(self._path)
        self._looked_at = clock()
        self._take(read_keys(self._path))

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, authorization: str | None) -> ApiKey:
        """Return the key that the header of a request names.

        Args:
            authorization: The header ``Authorization``.

        Raises:
            UnknownKeyError: If there is none, or it does not count (any more).
        """
        self.look()
        if not authorization:
            raise UnknownKeyError(
                "There is no API key; send it in the header Authorization, as 'Bearer' and the key.", "missing_api_key"
            )
        bearer = _BEARER.fullmatch(authorization.strip())
        given = KEY.fullmatch(bearer[1]) if bearer else None
        if given is None:
            raise UnknownKeyError("The header Authorization holds no API key of this service.")
        key, hashed = self._keys.get(given[1], (None, _NOBODY))
        if not hmac.compare_digest(digest(given[0]), hashed) or key is None:
            raise UnknownKeyError("The API key is not one of this service.")
        if key.expired(datetime.fromtimestamp(self._today(), UTC)):
            raise UnknownKeyError(f"The API key has expired at {key.expires:%Y-%m-%d %H:%M} UTC.", "expired_api_key")
        return key

    def look(self) -> None:
        """Read the file again if it has changed; one that can not be used changes nothing."""
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(read_keys(self._path))
        except InputError as error:
            self.error = str(error)
            logger.error("the API keys from before still count: %s", error)
        else:
            self.error = None
            logger.warning("there are %d API keys now", len(self._keys))

    def state(self) -> dict[str, object]:
        """Return what ``/healthz`` tells."""
        return {"count": len(self._keys), "error": self.error}

    def _take(self, file: KeyFile) -> None:
        keys = (key.with_own_names(self._aliases) for key in file.keys)
        self._keys = {key.id: (key, bytes.fromhex(key.sha256)) for key in keys}
        self.limits.keep(self._keys)


def _stamp(path: Path) -> tuple[int, int, int] | str:
    """What changes when a file does: also that of a link's target, which is how Kubernetes exchanges secrets."""
    try:
        state = path.stat()
    except OSError as error:
        return reason_of(error)
    return state.st_ino, state.st_mtime_ns, state.st_size
