# SPDX-License-Identifier: Apache-2.0
"""Those who watch: each gets the same messages, as long as it keeps up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edgegen.serve.http.errors import ServiceError, StoppingError

MOST_VIEWERS = 64
"""Of a gateway; more of them can ask for the state now and then."""
MOST_BEHIND = 8
"""Messages that a viewer may be behind before it is dropped."""
STREAM_S = 120.0
"""Length of a stream, s; then viewers come again, perhaps to another gateway. Nobody is kept from ending for longer."""
ALIVE_S = 10.0
"""Time without a message after which an empty one shows that the stream lives, s."""
_ALIVE = b": alive\n\n"


class TooManyViewersError(ServiceError):
    """There are as many viewers as a gateway takes."""

    status = 503
    type = "service_unavailable_error"
    code = "too_many_viewers"

    def __init__(self) -> None:
        super().__init__(
            f"{MOST_VIEWERS} viewers watch this gateway already; ask GET /v1/fleet now and then, or come back later."
        )
        self.headers = {"Retry-After": "10"}


class Viewer:
    """One who watches.

    Args:
        viewers: Those to whom it belongs.
        first: The first message.
    """

    def __init__(self, viewers: Viewers, first: bytes) -> None:
        self._viewers = viewers
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting.put_nowait(first)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the messages, until the stream is over or this viewer was dropped."""
        clock = asyncio.get_running_loop().time
        end = clock() + STREAM_S
        while (left_s := end - clock()) > 0:
            try:
                async with asyncio.timeout(min(ALIVE_S, left_s)):
                    message = await self._waiting.get()
            except TimeoutError:
                message = _ALIVE
            if message is None:
                return
            yield message

    def leave(self) -> None:
        """Watch no more."""
        self._viewers.leave(self)

    def tell(self, message: bytes) -> bool:
        """Take a message for later; false if too many wait already."""
        if self._waiting.qsize() >= MOST_BEHIND:
            return False
        self._waiting.put_nowait(message)
        return True

    def end(self) -> None:
        """Forget what waits, and end the stream as soon as its connection takes anything."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)


class Viewers:
    """All who watch a gateway. Messages are made once, and whoever does not take them in time is dropped."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()
        self._closed = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._viewers)

    def check_room(self) -> None:
        """Check that one more may come.

        Raises:
            TooManyViewersError: If there are as many as may be.
            StoppingError: If the service is about to end.
        """
        if self._closed:
            raise StoppingError("The service is about to end and takes no new viewers.")
        if len(self._viewers) >= MOST_VIEWERS:
            raise TooManyViewersError()

    def join(self, first: bytes) -> Viewer:
        """Add a viewer.

        Args:
            first: Its first message.

        Raises:
            ServiceError: As for :meth:`check_room`.
        """
        self.check_room()
        viewer = Viewer(self, first)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Take a viewer off the list, if it is on it."""
        self._viewers.discard(viewer)

    def tell(self, message: bytes) -> None:
        """Give all of them a message, and drop those that are too far behind."""
        for viewer in [viewer for viewer in self._viewers if not viewer.tell(message)]:
            self.leave(viewer)
            viewer.end()

    def close(self) -> None:
        """End all streams, for good: the service ends only when they have."""
        self._closed = True
        self.end()

    def end(self) -> None:
        """End all streams."""
        for viewer in self._viewers:
            viewer.end()
        self._viewers.clear()
