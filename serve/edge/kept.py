# SPDX-License-Identifier: Apache-2.0
"""What an edge keeps for a while: each request is done once by its key, and its pictures can be fetched afterwards.

A gateway that dies leaves its requests on the edges. They are finished there, and whoever asks for one again, by
another gateway, joins the work that is under way or gets the pictures that were made. What such a gateway had sent
and is still on its way when the next one asks comes too late: it is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgegen.serve.control.jobs import (
    FIRST,
    Job,
    Kept,
    KeyReusedError,
    OvertakenError,
    Pictures,
    Sending,
    same_pictures,
)
from edgegen.serve.edge.leases import LeasingEdge

BYTES_PER_MB = 10**6


@dataclass
class _Work:
    """A job under way, and how many wait for it."""

    job: Job
    pictures: asyncio.Future[Pictures]
    waiting: int = 0


@dataclass(frozen=True)
class _Finished:
    """Pictures that were made, and when they are to be dropped."""

    job: Job
    pictures: Pictures
    until: float

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.pictures.png))


class KeptPictures:
    """Does each job once by its key, and keeps finished pictures within bounds of time and memory.

    Args:
        server: Name of the edge.
        keep_s: How long pictures are kept, s.
        most_bytes: Most bytes of all kept pictures; beyond that the oldest are dropped.
        clock: Monotonic time, s.
    """

    def __init__(
        self, server: str, keep_s: float, most_bytes: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._keep_s = keep_s
        self._most_bytes = most_bytes
        self._clock = clock
        self._works: dict[str, _Work] = {}
        self._finished: dict[str, _Finished] = {}  # the oldest first
        self._bytes = 0
        # The latest sending that was asked for of each request that was sent again, and when to forget it.
        self._asked: dict[str, tuple[int, float]] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes of all kept pictures."""
        return self._bytes

    async def generate(self, job: Job, make: Callable[[Job], Awaitable[Pictures]]) -> Pictures:
        """Return the pictures of a job; made, joined or kept ones.

        Work ends when the last one who waits for it is cancelled.

        Args:
            job: The job.
            make: Makes its pictures.

        Raises:
            KeyReusedError: If its key names another job.
            OvertakenError: If it is not known here, and a gateway that got its request later has asked for it.
            EdgeError: If making them fails.
        """
        if job.key is None:
            return await make(job)
        self._drop_old()
        if (finished := self._finished.get(job.key)) is not None:
            _check_same(finished.job, job)
            return finished.pictures
        work = self._works.get(job.key)
        if work is None:
            if job.sending.number < self._asked.get(job.sending.name, (1, 0.0))[0]:
                raise OvertakenError("The request is with another gateway by now")
            work = self._works[job.key] = _Work(job, asyncio.ensure_future(make(job)))
            work.pictures.add_done_callback(partial(self._end, work))
        _check_same(work.job, job)
        work.waiting += 1
        try:
            return await asyncio.shield(work.pictures)
        finally:
            work.waiting -= 1
            if not work.waiting and not work.pictures.done():
                self._forget(work)  # nobody may join what is about to stop
                work.pictures.cancel()

    def find(self, name: str, sending: Sending = FIRST) -> Kept | None:
        """Return the request that has this key or alias, or None if there is none here.

        Args:
            name: The key or alias.
            sending: How the request was sent to the gateway that asks; jobs of earlier sendings come too late from now
                on.
        """
        self._drop_old()
        if sending.number > 1:
            self._asked[sending.name] = sending.number, self._clock() + self._keep_s
        for job, pictures in self._all():
            if name in (job.key, job.alias):
                return Kept(self._server, job, pictures)
        return None

    def _all(self) -> list[tuple[Job, Pictures | None]]:
        finished: list[tuple[Job, Pictures | None]] = [(one.job, one.pictures) for one in self._finished.values()]
        return [*reversed(finished), *((work.job, None) for work in self._works.values())]

    def _end(self, work: _Work, _: asyncio.Future[Pictures]) -> None:
        self._forget(work)
        # Asking for the exception also tells asyncio that it was seen, where nobody waits any more.
        if work.pictures.cancelled() or work.pictures.exception() is not None or work.job.key is None:
            return
        kept = _Finished(work.job, work.pictures.result(), self._clock() + self._keep_s)
        self._finished[work.job.key] = kept
        self._bytes += kept.size_bytes
        self._drop_old()

    def _forget(self, work: _Work) -> None:
        if work.job.key is not None and self._works.get(work.job.key) is work:
            del self._works[work.job.key]

    def _drop_old(self) -> None:
        now = self._clock()
        while self._asked and self._asked[first := next(iter(self._asked))][1] <= now:
            del self._asked[first]
        while self._finished:
            key, oldest = next(iter(self._finished.items()))
            if oldest.until > now and self._bytes <= self._most_bytes:
                return
            del self._finished[key]
            self._bytes -= oldest.size_bytes


def _check_same(known: Job, job: Job) -> None:
    if not same_pictures(known, job):
        raise KeyReusedError("The key names another request")


class KeepingEdge(LeasingEdge):
    """An edge server that keeps what it made.

    Args:
        name: Name of the edge.
        keep_s: How long pictures are kept, s.
        keep_mb: Most megabytes of all kept pictures.
        arguments: Those of :class:`EdgeServer`.
        options: Likewise.
    """

    def __init__(self, name: str, keep_s: float, keep_mb: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept = KeptPictures(name, keep_s, keep_mb * BYTES_PER_MB)

    async def generate(self, job: Job) -> Pictures:
        """Return the pictures of a job; made, joined or kept ones.

        Raises:
            KeyReusedError: If its key names another job.
            EdgeError: As :meth:`EdgeServer.generate`.
        """
        return await self._kept.generate(job, super().generate)

    async def find(self, name: str, sending: Sending = FIRST) -> Kept | None:
        """See :meth:`KeptPictures.find`."""
        return self._kept.find(name, sending)
