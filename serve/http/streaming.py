# SPDX-License-Identifier: Apache-2.0
"""Requests whose pictures are seen as they come: events of the OpenAI API, with a part of our own.

Previews are decoded on the edge and waited for there; the request itself goes its usual way. So a request that moves
to another edge, or is joined by a second client, is streamed as any other.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from edgegen.serve.control.admission import Terms
from edgegen.serve.control.dispatcher import Dispatcher, Outcome
from edgegen.serve.control.jobs import Job, Preview
from edgegen.serve.control.live_world import Task
from edgegen.serve.http.api import Service, Usage, service_of, usage_of
from edgegen.serve.http.errors import ServiceError
from edgegen.serve.http.pictures import delivered
from edgegen.serve.model_config import ModelCard

BEGIN_S = 1.0
"""Time for which an answer waits for a refusal, s; refusals come at once, and have a status of their own until then."""
PROGRESS_S = 0.25
"""Time between two looks at how far a request is, for those who want to know, s."""
WATCH_S = 10.0
"""How long an edge waits for a preview at a time, s."""
LOOK_S = 0.05
"""Time between two looks at where a request is, before an edge has it, s."""
QUIET_S = 10.0
"""Longest time without a word, s; then a comment tells clients and proxies that the stream lives."""


class Seen(BaseModel):
    """Where a preview is from."""

    edge: str = Field(description="The edge that is at it.")
    model: str = Field(description="The model that paints.")
    image_index: int = Field(description="Number of the picture, of several from 0.")
    step: int = Field(description="Denoising steps that are done of it.")
    steps: int = Field(description="Denoising steps of the whole picture.")


class Image(BaseModel):
    """A picture in an event, finished or not."""

    type: str
    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int
    output_format: str
    quality: str
    size: str


class PartialImage(Image):
    """What a picture will be; it may be smaller."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    partial_image_index: int
    edgegen: Seen


class Finished(Service):
    """How a picture was made."""

    image_index: int = Field(description="Number of the picture, of several from 0.")
    partial_images: int = Field(description="Previews of it that were sent.")


class Completed(Image):
    """A finished picture."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    usage: Usage
    edgegen: Finished


class Doing(BaseModel):
    """How far a request is."""

    status: Literal["held", "queued", "generating"] = Field(
        description="Whether it waits at the gateway, waits on an edge, or is in work (loading its model included)."
    )
    edge: str | None = Field(description="The edge that has it, or null.")
    model: str = Field(description="The model that is to paint.")
    position: int | None = Field(description="Requests on the edge that are before it, or null.")
    wait_s: float | None = Field(description="Expected time until it is begun, s, or null.")
    step: int | None = Field(description="Denoising steps that are done of all its pictures together, or null.")
    steps: int | None = Field(description="Denoising steps of all its pictures together, or null.")


class Progress(BaseModel):
    """How far a request is; sent when it has changed, to those who ask for it."""

    type: Literal["edgegen.progress"] = "edgegen.progress"
    created_at: int
    edgegen: Doing


EVENTS = (PartialImage, Completed, Progress)
"""What a stream is made of, besides errors."""


class Stream:
    """A request under way, and what there is to see of it.

    Args:
        dispatcher: Sees it through.
        task: The request as the scheduler sees it.
        job: The request as an edge sees it.
        terms: What its client may expect.
        card: The model.
        ignored: Fields of the request that were given and changed nothing.
        progress: Whether to tell how far it is, too.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        task: Task,
        job: Job,
        terms: Terms,
        card: ModelCard,
        ignored: list[str],
        progress: bool = False,
    ) -> None:
        self._dispatcher, self._job, self._card, self._ignored = dispatcher, job, card, ignored
        self._progress = progress
        self._key = job.key or ""
        self._work = asyncio.ensure_future(dispatcher.run(task, job, terms))
        self._sent: set[tuple[int, int]] = set()
        self._seen: dict[str, int] = {}
        self._steps: tuple[int | None, int | None] = (None, None)
        self._told: Doing | None = None
        self._rest_s = 0.0
        self.server: str | None = None

    async def accepted(self) -> None:
        """Wait until the request is not refused.

        Raises:
            ServiceError: If it is.
        """
        try:
            await asyncio.wait({self._work}, timeout=BEGIN_S)
            if self._work.done():
                self._work.result()
        except BaseException:
            self._work.cancel()
            raise

    async def events(self) -> AsyncIterator[bytes]:
        """Give the events of the stream; when nobody takes them any more, the work stops."""
        spoken = asyncio.get_running_loop().time()
        watching: asyncio.Future[list[PartialImage]] | None = None
        try:
            while not self._work.done():
                if watching is None and (self._job.previews or self._progress):
                    watching = asyncio.ensure_future(self._previews())
                wait_s = PROGRESS_S if self._progress else QUIET_S
                both: set[asyncio.Future[Any]] = {self._work} if watching is None else {self._work, watching}
                await asyncio.wait(both, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                now = asyncio.get_running_loop().time()
                events: list[bytes] = []
                if watching is not None and watching.done():
                    events, watching = [_event(one) for one in watching.result()], None
                if self._progress and not self._work.done() and (doing := self._doing()) != self._told:
                    self._told = doing
                    events.append(_event(Progress(created_at=int(time.time()), edgegen=doing)))
                if not events and now - spoken >= QUIET_S:
                    events = [b": under way\n\n"]
                for event in events:
                    spoken = now
                    yield event
            async for event in self._last(watching):
                yield event
        finally:
            self._work.cancel()
            if watching is not None:
                watching.cancel()

    async def _last(self, watching: asyncio.Future[list[PartialImage]] | None) -> AsyncIterator[bytes]:
        try:
            outcome = self._work.result()
            self.server = outcome.server
            if watching is not None:  # it may be on its way with a preview
                await asyncio.wait({watching}, timeout=LOOK_S)
                for preview in watching.result() if watching.done() else ():
                    yield _event(preview)
            for preview in await self._previews(outcome.server, 0.0) if self._job.previews else ():
                yield _event(preview)
            for event in await self._completed(outcome):
                yield _event(event)
        except ServiceError as error:
            yield _event(error.body(), "error")

    async def _previews(self, edge: str | None = None, wait_s: float | None = None) -> list[PartialImage]:
        """Wait for previews, and for the place where they are made."""
        if edge is None:
            await asyncio.sleep(self._rest_s)
            while (edge := self._dispatcher.standing(self._key).edge) is None:
                await asyncio.sleep(LOOK_S)
        if wait_s is None:
            wait_s = PROGRESS_S if self._progress else WATCH_S
        glimpse = await self._dispatcher.watch(edge, self._key, self._seen.get(edge, 0), wait_s)
        self._seen[edge] = self._seen.get(edge, 0) + len(glimpse.previews)
        self._steps = (glimpse.step, glimpse.steps)
        # An edge that has not got it yet, or shows nothing, says so at once.
        self._rest_s = LOOK_S if glimpse.done and not glimpse.previews else 0.0
        fresh = [one for one in glimpse.previews if (one.picture, one.index) not in self._sent]
        self._sent |= {(one.picture, one.index) for one in fresh}
        return [await self._partial(edge, one) for one in fresh]

    def _doing(self) -> Doing:
        standing, (step, steps) = self._dispatcher.standing(self._key), self._steps
        begun = step is not None or standing.ahead == 0
        status: Literal["held", "queued", "generating"] = "generating" if begun else "queued"
        return Doing(
            status="held" if standing.edge is None else status,
            edge=standing.edge,
            model=self._job.model,
            position=0 if begun else standing.ahead,
            wait_s=0.0 if begun else None if standing.wait_s is None else round(standing.wait_s, 2),
            step=step,
            steps=steps,
        )

    async def _partial(self, edge: str, preview: Preview) -> PartialImage:
        (shown,) = await delivered([preview.png], self._job.delivery)
        seen = Seen(
            edge=edge, model=self._job.model, image_index=preview.picture, step=preview.step, steps=preview.steps
        )
        return PartialImage(
            **self._common(shown),
            quality=self._job.delivery.quality or "auto",
            partial_image_index=preview.index,
            edgegen=seen,
        )

    async def _completed(self, outcome: Outcome) -> list[Completed]:
        service = service_of(self._job, outcome, self._ignored)
        quality = self._job.delivery.quality or self._card.quality_of(service.steps)
        events = []
        for number, picture in enumerate(await delivered(outcome.pictures.png, self._job.delivery)):
            previews = sum(shown == number for shown, _ in self._sent)
            part = Finished(**service.model_dump(), image_index=number, partial_images=previews)
            usage = usage_of(self._job, pictures=1)
            events.append(Completed(**self._common(picture), quality=quality, usage=usage, edgegen=part))
        return events

    def _common(self, picture: bytes) -> dict[str, Any]:
        return {
            "b64_json": base64.b64encode(picture).decode("ascii"),
            "created_at": int(time.time()),
            "output_format": self._job.delivery.output_format,
            "size": f"{self._job.width}x{self._job.height}",
        }


def _event(content: BaseModel | dict[str, Any], name: str | None = None) -> bytes:
    if isinstance(content, BaseModel):
        data = content.model_dump_json()
        name = str(getattr(content, "type", name))
    else:
        data = json.dumps(content)
    return f"event: {name}\ndata: {data}\n\n".encode()


class EventStream(StreamingResponse):
    """An answer of events, which ends when its client goes away; whatever is in between must not hold it back."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or nobody is there."""
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                with suppress(OSError):  # it went away while something was being sent
                    sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
