# SPDX-License-Identifier: Apache-2.0
"""The watch: what a gateway knows of its fleet, for people who look at it. No edge is asked anything for that.

Everything comes from the books and from what the meter is told. It is looked at once a second, however many viewers
there are, and each of them gets the same messages: first the whole state, then what has changed. Without viewers only
the queues are sampled.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgegen.serve.console.events import Recent
from edgegen.serve.console.history import History
from edgegen.serve.console.requests import request_row
from edgegen.serve.console.rows import changes, edge_row
from edgegen.serve.console.viewers import Viewer, Viewers
from edgegen.serve.control.books import Server
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.metrics import Meter
from edgegen.serve.record.recorder import Recorder

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Time between two messages, s."""
MOST_REQUESTS = 100
"""Requests in the log."""


class Watch(Meter):
    """Keeps what viewers are shown, and shows it.

    Args:
        servers: The books.
        overview: Describes everything but the edges: health, and who decides.
        held: Says how many requests wait at the gateway.
        recorder: Has noted the requests; prompts are shown if it keeps them as they are.
        clock: Monotonic time, s.
        wall: Time of day, s since 1970.

    Attributes:
        viewers: Those who get messages.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        overview: Callable[[], dict[str, Any]],
        held: Callable[[], int],
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.viewers = Viewers()
        self._servers, self._overview, self._held, self._recorder = servers, overview, held, recorder
        self._clock, self._wall = clock, wall
        self._gateway = secrets.token_hex(4)
        self._history = History(len(servers))
        self._lists = {"decisions": Recent(wall=wall), "happenings": Recent(wall=wall)}
        self._seen: dict[str, tuple[bool, frozenset[str]]] = {}  # health and models of each edge
        self._sequence, self._looked_at = 0, -float("inf")
        self._rows: list[dict[str, Any]] = []
        self._state: dict[str, Any] = {}
        self._told = self._counts()
        self._whole = b""
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look at the books."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking, and end all streams."""
        self.viewers.end()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def decided(self, decision: Decision, task: Task) -> None:
        """See :class:`Meter`."""
        self._lists["decisions"].add(
            model=task.model,
            home=task.home,
            edge=decision.server,
            decision_s=round(decision.decision_s, 6),
            policy=decision.policy,
            canary=decision.canary,
            fallback=decision.fallback,
            shadow=decision.shadow,
        )

    def whole(self) -> bytes:
        """Return the state as JSON; at most a period old."""
        if self._clock() - self._looked_at >= PERIOD_S:
            self._look()
        if not self._whole:
            self._whole = _json(self._everything())
        return self._whole

    def join(self) -> Viewer:
        """Add a viewer, who gets the whole state first and then what changes, until it leaves.

        Raises:
            ServiceError: If too many watch already, or the service is about to end.
        """
        self.viewers.check_room()
        return self.viewers.join(_message("fleet", self._sequence, self.whole()))

    async def _run(self) -> None:
        while True:
            try:
                self._glance()
                if self.viewers:
                    self._look()
            except Exception:  # requests go on, and so does the watch
                logger.exception("the console could not look at the books")
            await asyncio.sleep(PERIOD_S)

    def _glance(self) -> None:
        """Look at what must not be missed: queues, models that come and go, edges that are lost."""
        self._history.sample(self._servers, self._held(), self._clock())
        for server in self._servers:
            before = self._seen.get(server.name)
            now = self._seen[server.name] = (server.healthy, server.resident)
            if before is None or before == now:
                continue
            add = self._lists["happenings"].add
            if before[0] != now[0]:
                add(kind="back" if server.healthy else "lost", edge=server.name, model=None, reason=server.reason)
            for model in sorted(now[1] - before[1]):
                add(kind="loaded", edge=server.name, model=model, reason=None)
            for model in sorted(before[1] - now[1]):
                add(kind="evicted", edge=server.name, model=model, reason=None)

    def _look(self) -> None:
        """Look at everything, and tell the viewers what has changed."""
        now = self._clock()
        rows = [edge_row(server, now) for server in self._servers]
        state = self._overview()
        changed: dict[str, Any] = {}
        if self._rows:
            pairs = zip(rows, self._rows, strict=True)
            changed["edges"] = [difference for row, before in pairs if (difference := changes(row, before))]
        if state != self._state:
            changed["state"] = state
        changed |= self._entries(self._told)
        self._told = self._counts()
        self._rows, self._state, self._looked_at, self._whole = rows, state, now, b""
        self._sequence += 1
        changed = {name: value for name, value in changed.items() if value}
        if self.viewers and changed:
            told = {"sequence": self._sequence, "at": round(self._wall(), 3), "counts": self._counts(), **changed}
            self.viewers.tell(_message("change", self._sequence, _json(told)))

    def _everything(self) -> dict[str, Any]:
        return {
            "object": "fleet",
            "gateway": self._gateway,
            "sequence": self._sequence,
            "at": round(self._wall(), 3),
            "period_s": PERIOD_S,
            "state": self._state,
            "edges": self._rows,
            "history": self._history.state([server.name for server in self._servers]),
            "counts": self._counts(),
            **self._entries(dict.fromkeys(self._told, 0)),
        }

    def _counts(self) -> dict[str, int]:
        """How much has happened, by kind."""
        return {name: entries.count for name, entries in self._lists.items()} | {"requests": self._recorder.noted}

    def _entries(self, told: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
        """What has happened since then, as far as it is remembered."""
        entries = {name: entries.since(told[name]) for name, entries in self._lists.items()}
        noted, prompts = self._recorder.since(told["requests"], MOST_REQUESTS), self._recorder.shows_prompts
        return entries | {"requests": [request_row(number, one, prompts) for number, one in noted]}


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _message(event: str, number: int, data: bytes) -> bytes:
    """A server-sent event; JSON has no line breaks of its own."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.encode(), data)
