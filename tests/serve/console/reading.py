# SPDX-License-Identifier: Apache-2.0
"""Streams of events as a client reads them, straight from the application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

EVENTS = "/v1/fleet/events"


class Stream:
    """An answer that goes on.

    Attributes:
        status: Its status.
        headers: Its headers.
        over: Set when it has ended.
    """

    def __init__(self):
        self.status, self.headers, self.over = 0, {}, asyncio.Event()
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked, self.reads = False, asyncio.Event()
        self.reads.set()

    async def event(self):
        """The next message: its name and its data; comments are left out."""
        while True:
            text = (await asyncio.wait_for(self.chunks.get(), 20)).decode()
            if text.startswith(":"):
                continue
            assert text.endswith("\n\n")
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            assert set(fields) == {"id", "event", "data"}
            return fields["event"], json.loads(fields["data"])

    async def send(self, message):
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.begun.set()
        elif message["body"]:
            self.chunks.put_nowait(message["body"])

    async def receive(self):
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


@asynccontextmanager
async def reading(app, path=EVENTS, method="GET") -> AsyncIterator[Stream]:
    """Ask for a stream, and leave at the end of the block."""
    stream = Stream()
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [], "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""}
    scope |= {"server": ("test", 80), "client": ("test", 1)}
    work = asyncio.ensure_future(app(scope, stream.receive, stream.send))
    work.add_done_callback(lambda _: stream.over.set())
    try:
        await asyncio.wait_for(stream.begun.wait(), 20)
        yield stream
    finally:
        stream.gone.set()
        stream.reads.set()
        await asyncio.wait({work}, timeout=5)
        work.cancel()
