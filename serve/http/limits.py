# SPDX-License-Identifier: Apache-2.0
"""How much a key may ask for in a minute: buckets that fill all the time and that requests take from.

A bucket holds what is allowed in a minute and fills at that rate, so a key that paused may send a minute's worth at
once, and on average no more than its limit. Where there are several gateways, each gives its own share of the rate:
what all of them give together is never more than the limit, but a client whose requests all meet one gateway gets that
one's share only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgegen.serve.http.errors import ServiceError
from edgegen.serve.http.key_file import ApiKey

MINUTE_S = 60.0
DIGITS = 6
REQUESTS, PICTURES, WORK = "requests", "images", "work"
"""Kinds of limits, as headers call them."""
_UNITS = {REQUESTS: "requests", PICTURES: "pictures", WORK: "Gcycle of work"}


class LimitError(ServiceError):
    """A key has used up what it may ask for in a minute.

    Args:
        kind: Of what.
        limit: How much it may ask for in a minute.
        wait_s: When there will be enough again, s.
    """

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, kind: str, limit: float, wait_s: float) -> None:
        super().__init__(
            f"Rate limit reached: this API key allows {limit:g} {_UNITS[kind]} per minute; try again in "
            f"{in_words(wait_s)}."
        )
        self.headers = {"Retry-After": str(max(1, math.ceil(round(wait_s, DIGITS))))}


@dataclass
class Bucket:
    """What is left of one limit.

    Attributes:
        limit: Allowed in a minute by all gateways together.
        share: Part of it that is this gateway's.
        level: What is left at ``at``; below zero after a request that was larger than the bucket.
        at: Clock reading, s.
    """

    limit: float
    share: float
    level: float
    at: float

    @property
    def size(self) -> float:
        """Most that it holds: a minute's worth, and at least one of what is counted."""
        return max(self.limit * self.share, min(self.limit, 1.0))

    def fill(self, now: float) -> None:
        """Bring the level up to date."""
        self.level = min(self.size, self.level + (now - self.at) * self.limit * self.share / MINUTE_S)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Time until so much may be taken, s. What is larger than the bucket may be taken from a full one."""
        return max(min(amount, self.size) - self.level, 0.0) * MINUTE_S / (self.limit * self.share)

    def resize(self, limit: float) -> None:
        """Change the limit and keep the same part of it."""
        part = self.level / self.size
        self.limit = limit
        self.level = part * self.size


class Limits:
    """The buckets of all keys at one gateway.

    Args:
        gateways: Gateways of the service.
        clock: Monotonic time, s.
    """

    def __init__(self, gateways: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = 1 / gateways
        self._clock = clock
        self._buckets: dict[str, dict[str, Bucket]] = {}

    def take(self, key: ApiKey, **amounts: float) -> None:
        """Take from the buckets of a key: from all or from none.

        Args:
            key: The key.
            amounts: How much, by kind.

        Raises:
            LimitError: If one of them has not got enough.
        """
        buckets = self._filled(key)
        wanted = [(buckets[kind], kind, amount) for kind, amount in amounts.items() if kind in buckets]
        for bucket, kind, amount in wanted:
            if (wait_s := bucket.wait_s(amount)) > 0:
                raise LimitError(kind, bucket.limit, wait_s)
        for bucket, _, amount in wanted:
            bucket.level -= amount

    def headers(self, key: ApiKey) -> dict[str, str]:
        """Return what of its limits is left, as OpenAI's API tells it; work is not among what that knows."""
        buckets = self._filled(key)
        said = {}
        for kind in (REQUESTS, PICTURES):
            if (bucket := buckets.get(kind)) is not None:
                said[f"x-ratelimit-limit-{kind}"] = f"{bucket.limit:g}"
                said[f"x-ratelimit-remaining-{kind}"] = str(max(math.floor(bucket.level), 0))
                said[f"x-ratelimit-reset-{kind}"] = in_words(bucket.wait_s(bucket.size))
        return said

    def keep(self, ids: Iterable[str]) -> None:
        """Forget the buckets of all other keys."""
        known = set(ids)
        self._buckets = {id_: buckets for id_, buckets in self._buckets.items() if id_ in known}

    def _filled(self, key: ApiKey) -> dict[str, Bucket]:
        now = self._clock()
        buckets = self._buckets.setdefault(key.id, {})
        given = {
            REQUESTS: key.requests_per_minute,
            PICTURES: key.pictures_per_minute,
            WORK: key.work_gcycles_per_minute,
        }
        for kind, limit in given.items():
            bucket = buckets.get(kind)
            if limit is None:
                buckets.pop(kind, None)
            elif bucket is None:
                bucket = buckets[kind] = Bucket(float(limit), self._share, 0.0, now)
                bucket.level = bucket.size
            else:
                bucket.fill(now)
                if bucket.limit != limit:
                    bucket.resize(float(limit))
        return buckets


def in_words(time_s: float) -> str:
    """Return a time as OpenAI's headers have it: ``20ms``, ``1.5s``, ``6m0s``."""
    time_s = round(time_s, DIGITS)  # 12 s and a rounding error are 12 s
    if time_s < 1:
        return f"{math.ceil(round(time_s * 1000, DIGITS))}ms"
    if time_s < MINUTE_S:
        return f"{math.ceil(time_s * 10) / 10:g}s"
    minutes, seconds = divmod(math.ceil(time_s), 60)
    return f"{minutes}m{seconds}s"
