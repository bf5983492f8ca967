# SPDX-License-Identifier: Apache-2.0
"""Addresses of pictures: signed, so that nobody can guess one, and good until a certain time.

All gateways of a service share the key, and each finds the pictures on the edge that keeps them. So any of them answers
for an address that another one has given out.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from edgegen.envs.core.errors import InputError
from edgegen.serve.config import ServiceConfig
from edgegen.serve.http.errors import ForbiddenError, GoneError

PICTURES = "/v1/pictures"
LEAST_KEY = 16
"""Characters that a key must have at least."""

_FILE = re.compile(r"(0|[1-9][0-9]{0,2})\.(png|jpeg|webp)")
_SECONDS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class Link:
    """A picture that an address means.

    Attributes:
        name: Key of its request.
        number: Which of the pictures of the request, from 0.
        output_format: The format in which it is wanted.
    """

    name: str
    number: int
    output_format: str

    @property
    def path(self) -> str:
        """Path of the address."""
        return f"{PICTURES}/{self.name}/{self.number}.{self.output_format}"


class Links:
    """Signs addresses of pictures, and checks those that come back.

    Args:
        key: What they are signed with.
        keep_s: How long pictures are kept, and addresses are good, s.
        clock: Seconds since 1970.
    """

    def __init__(self, key: bytes, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        self._key, self._keep_s, self._clock = key, keep_s, clock

    def address(self, base_url: str, link: Link) -> str:
        """Return the address of a picture, below that of the service."""
        until = str(math.ceil(self._clock() + self._keep_s))
        query = urlencode({"expires": until, "signature": self._signature(link, until)})
        return f"{base_url.rstrip('/')}{link.path}?{query}"

    def check(self, name: str, file: str, expires: str, signature: str) -> Link:
        """Return the picture that an address means.

        Args:
            name: Key of its request.
            file: Its number and format, as ``0.png``.
            expires: Second since 1970 until which the address is good.
            signature: As :meth:`address` made it.

        Raises:
            ForbiddenError: If the signature is not that of this address.
            GoneError: If the address is not good any more.
        """
        named, timed = _FILE.fullmatch(file), _SECONDS.fullmatch(expires)
        if named is not None and timed is not None:
            link = Link(name, int(named[1]), named[2])
            if hmac.compare_digest(self._signature(link, expires).encode(), signature.encode(errors="replace")):
                if int(expires) < self._clock():
                    raise GoneError(f"This address was good for {self._keep_s:g} s, and is no more.")
                return link
        raise ForbiddenError("The address of the picture is not signed by this service.", code="invalid_signature")

    def _signature(self, link: Link, until: str) -> str:
        return hmac.new(self._key, f"{link.path} {until}".encode(), hashlib.sha256).hexdigest()


def url_key(config: ServiceConfig) -> bytes:
    """Return the key that addresses are signed with: that of the environment, or a new one.

    Raises:
        InputError: If the environment variable that the config names is not set, or too short for a key.
    """
    if config.url_key_env is None:
        return secrets.token_bytes(32)
    key = os.environ.get(config.url_key_env, "").strip()
    if len(key) < LEAST_KEY:
        found = "the environment has no such" if not key else f"the key there has {len(key)} characters"
        raise InputError(
            f"Service config '{config.name}': url_key_env is {config.url_key_env}, but {found}; a key has at least "
            f"{LEAST_KEY} characters."
        )
    return key.encode()
