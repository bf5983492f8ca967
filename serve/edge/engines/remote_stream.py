# SPDX-License-Identifier: Apache-2.0
"""The streams of the images API, as a client of another service reads them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeGuard

from edgegen.serve.control.jobs import GenerationError, Job, Preview
from edgegen.serve.edge.engines.base import Painting

EVENT_STREAM = "text/event-stream"
PNG = b"\x89PNG\r\n\x1a\n"
PARTIAL, COMPLETED = ".partial_image", ".completed"
"""Ends of the types of events; they begin with what was asked for."""
_LAST_WORD = b"[DONE]"
"""What some services end their streams with."""

Show = Callable[[dict[str, Any]], None]


class WatchedPicture:
    """One picture of a job that is painted elsewhere, and its previews as they come.

    Args:
        painting: What it is part of.
        job: The job that it is of.
        picture: Its number in the job.
        before: Pictures of the painting that were made before it.
    """

    def __init__(self, painting: Painting, job: Job, picture: int, before: int) -> None:
        self._painting, self._job, self._picture, self._before = painting, job, picture, before

    def show(self, event: dict[str, Any]) -> None:
        """Take an event of a stream; one that is no preview, or shows nothing that was asked for, is passed over."""
        index, asked, steps = event.get("partial_image_index"), self._job.previews, self._painting.steps
        if not _is_number(index) or not 0 <= index < asked:
            return
        png = picture_of(event)
        if png is None:
            return
        # A service that does not say after which step counts as one that spreads its previews evenly.
        step = max(round(steps * (index + 1) / (asked + 1)), 1)
        own = event.get("edgegen")
        said = own.get("step") if isinstance(own, dict) else None
        if _is_number(said) and 0 < said <= steps:
            step = said
        self._painting.advance(self._before * steps + step)
        self._painting.show(self._job, Preview(self._picture, index, step, steps, png))


async def completed(parts: AsyncIterable[bytes], show: Show, where: str) -> list[dict[str, Any]]:
    """Read a stream to its end; return its finished pictures, as ``data`` of an answer without a stream has them.

    Args:
        parts: The body of the answer.
        show: Gets the events with previews as they come.
        where: The service, for what is said of it.

    Raises:
        GenerationError: If the service says that it failed, or sends what is no event.
    """
    finished = []
    async for data in _data(parts):
        if data == _LAST_WORD:
            continue
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise GenerationError(f"{where} sent an event that is no JSON object")
        if event.get("error") is not None:
            said = event["error"].get("message") if isinstance(event["error"], dict) else event["error"]
            raise GenerationError(f"{where} failed in the middle of its stream: {words_of(said)}")
        kind = str(event.get("type"))
        if kind.endswith(PARTIAL):
            show(event)
        elif kind.endswith(COMPLETED):
            finished.append(event)
    return finished


def picture_of(entry: Any) -> bytes | None:
    """Return the picture in an event or an entry of ``data``; None if there is none in base64, or no PNG."""
    try:
        png = base64.b64decode(entry["b64_json"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return png if png.startswith(PNG) else None


def words_of(said: object, most: int = 200) -> str:
    """Return what a service says as one line, cut off after so many characters, without a full stop."""
    return " ".join(str(said).split())[:most].rstrip(".")


async def _data(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event."""
    line, data = bytearray(), []
    async for part in parts:
        *ended, rest = part.split(b"\n")
        for end in ended:
            text = bytes(line + end).removesuffix(b"\r")
            line.clear()
            if text.startswith(b"data:"):
                data.append(text[5:].removeprefix(b" "))
            elif not text and data:
                yield b"\n".join(data)
                data = []
        line += rest
    if data:  # the last one may lack its empty line
        yield b"\n".join(data)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
