# SPDX-License-Identifier: Apache-2.0
"""Who sends a request, how it is named, and whether it was sent before: what its headers say."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers

from edgegen.serve.control.jobs import FIRST, Sending
from edgegen.serve.http.errors import RequestError, short
from edgegen.serve.http.keys import grant_of_request

KEY_HEADER = "idempotency-key"
TRY_HEADER = "x-edgegen-try"
"""Written by what stands in front of the gateways: a name for the request, how often it has been sent to one, and how
long ago for the first time, s."""

_KEY = re.compile(r"[!-~]{1,255}")
_TRY = re.compile(r"([0-9a-f]{32}) ([1-9]) ([0-9]{1,6}\.[0-9]{1,6})")


@dataclass(frozen=True)
class Caller:
    """A request's sender, its names and its history.

    Attributes:
        key: Name of the request; all that have it are one.
        alias: Another name, made from the id that its answer and its line in the log carry.
        account: Name of the sender, as far as its API key tells; "" of one without an API key.
        lasting: Whether the sender has named the request, and so may come back for it.
        known: Whether the request may have been sent before.
        age_s: Time since it was sent to a gateway for the first time, s.
        request_id: The id that its answer and its line in the log carry.
        base_url: Address under which the service was reached.
        sending: How it was sent, as what stands in front of the gateways says.
    """

    key: str
    alias: str | None = None
    account: str = ""
    lasting: bool = False
    known: bool = False
    age_s: float = 0.0
    request_id: str = ""
    base_url: str = ""
    sending: Sending = FIRST

    @classmethod
    def of(cls, headers: Headers, request_id: str, base_url: str = "") -> Caller:
        """Read the headers of a request that has an id.

        Args:
            headers: The headers.
            request_id: Its id.
            base_url: Address under which it reached the service.

        Raises:
            RequestError: If its key is none.
        """
        account = account_of(headers)
        alias = scoped(request_id, account)
        given = headers.get(KEY_HEADER)
        tried = _TRY.fullmatch(headers.get(TRY_HEADER, ""))
        sending, age_s = (Sending(tried[1], int(tried[2])), float(tried[3])) if tried else (FIRST, 0.0)
        if given is None:
            key = tried[1] if tried else uuid.uuid4().hex
            return cls(key, alias, account, False, sending.number > 1, age_s, request_id, base_url, sending)
        if not _KEY.fullmatch(given):
            raise RequestError(
                f"The header Idempotency-Key is {short(repr(given))}, but it must be 1 to 255 visible characters "
                "of ASCII.",
                code="invalid_key",
            )
        key = scoped(given, account)
        return cls(key, alias, account, True, True, age_s, request_id, base_url, sending)


def account_of(headers: Headers) -> str:
    """Return a name for the API key of a request that does not tell the key; "" if there is none."""
    if (grant := grant_of_request()) is not None:
        return grant.key.name
    secret = headers.get("authorization", "")
    return hashlib.sha256(secret.encode()).hexdigest()[:16] if secret else ""


def scoped(name: str, account: str) -> str:
    """Return the name of a request among those of all senders: no one can fetch or meet what another has named."""
    return hashlib.sha256(f"{account} {name}".encode()).hexdigest()[:32]
