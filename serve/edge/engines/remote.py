# SPDX-License-Identifier: Apache-2.0
"""A service with the images API of OpenAI as an engine."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from edgegen.envs.core.errors import InputError, first_line
from edgegen.serve.connection import connect
from edgegen.serve.control.jobs import GenerationError, Job
from edgegen.serve.edge.engines.base import Engine, Painting, Started
from edgegen.serve.edge.engines.remote_stream import EVENT_STREAM, PNG, Show, WatchedPicture, completed, words_of
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard

ROUTE = "/v1/images/generations"
TRIES = 4
"""How often a picture is asked for while the service is busy or can not be reached."""
FIRST_PAUSE_S = 0.5
"""Pause before the second try where the service names none, s; then twice as long each time."""
MOST_BYTES = 256 * 1024**2
"""Longest answer that is read."""


class RemoteEngine(Engine):
    """Asks another service for pictures; what it holds and how it works is its own business.

    Args:
        edge: Where the service is, and how it is asked.
        cards: The models that may be asked for.

    Raises:
        InputError: If the address is none, or the variable that is to hold the key is not set.
    """

    def __init__(self, edge: EdgeConfig, cards: Mapping[str, ModelCard]) -> None:
        self.concurrency = edge.concurrency
        self._edge = edge
        key = api_key(edge)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._connection = connect(edge.url or "")
        self._spread = random.Random(edge.name)
        self._opened: httpx.AsyncClient | None = None

    def start(self, models: Sequence[str], warmup_steps: int) -> Mapping[str, Started]:
        """Nothing is loaded, and nothing is asked that might cost."""
        return {}

    async def load(self, model: str) -> None:
        """Nothing: all models are where they are."""

    async def unload(self, model: str, to_host: bool) -> None:
        """Nothing: all models are where they are."""

    async def paint(self, painting: Painting) -> tuple[tuple[bytes, ...], ...]:
        """See :meth:`Engine.paint`.

        Raises:
            GenerationError: If the service refuses, can not be reached, is too slow or answers nonsense.
        """
        png: list[bytes] = []
        try:
            async with asyncio.timeout(self._edge.timeout_s):
                for job in painting.jobs:
                    before = len(png)
                    for body, pictures in self._bodies(job, painting):
                        watched = WatchedPicture(painting, job, len(png) - before, len(png))
                        png += await self._ask(body, pictures, watched.show)
                        painting.advance(len(png) * painting.steps)
        except TimeoutError:
            raise GenerationError(f"{self._where()} did not answer within {self._edge.timeout_s:g} s") from None
        return painting.by_job(png)

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._opened is None:  # in the loop that uses it
            limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
            timeout = httpx.Timeout(None, connect=10.0)  # a painting has a deadline of its own
            self._opened = self._connection.async_client(limits=limits, timeout=timeout, headers=self._headers)
        return self._opened

    def _where(self) -> str:
        return f"the service at {self._connection.where()}"

    def _bodies(self, job: Job, painting: Painting) -> list[tuple[dict[str, Any], int]]:
        """What to send for a job, and how many pictures come back for each."""
        body = {
            **self._edge.fields,
            "model": self._edge.model_names.get(painting.model, painting.model),
            "prompt": job.prompt,
            "size": f"{job.width}x{job.height}",
        }
        if self._edge.streams and job.previews:
            body |= {"stream": True, "partial_images": job.previews}
        elif not self._edge.extensions:
            return [({**body, "n": len(job.seeds)}, len(job.seeds))]
        # A picture for each request: what a seed means for the second one is not agreed upon, nor which of several a
        # preview is of.
        if not self._edge.extensions:
            return [({**body, "n": 1}, 1)] * len(job.seeds)
        more = {"num_inference_steps": painting.steps, "guidance_scale": job.guidance_scale}
        if job.negative_prompt is not None:
            more["negative_prompt"] = job.negative_prompt  # type: ignore[assignment]
        return [({**body, **more, "n": 1, "seed": seed}, 1) for seed in job.seeds]

    async def _ask(self, body: Mapping[str, Any], pictures: int, show: Show) -> list[bytes]:
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                status, headers, content = await self._post(body, show)
            except httpx.HTTPError as error:
                if last:
                    reason = first_line(error) or type(error).__name__
                    raise GenerationError(f"{self._where()} can not be reached: {reason}") from None
                wanted_s = None
            else:
                if status == 200:
                    return self._pictures(content, pictures)
                if last or not (status == 429 or status >= 500):
                    raise GenerationError(f"{self._where()} answered {status}{_said(content)}")
                wanted_s = _retry_after_s(headers.get("retry-after"))
            await asyncio.sleep(pause_s * self._spread.uniform(0.75, 1.25) if wanted_s is None else wanted_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    async def _post(self, body: Mapping[str, Any], show: Show) -> tuple[int, httpx.Headers, bytes | list[Any]]:
        """Send a request; returns the status, the headers, and the body or the finished pictures of a stream."""
        async with self._client().stream("POST", ROUTE, json=body) as response:
            status, headers = response.status_code, response.headers
            if status == 200 and headers.get("content-type", "").startswith(EVENT_STREAM):
                return status, headers, await completed(self._parts(response), show, self._where())
            return status, headers, b"".join([part async for part in self._parts(response)])

    async def _parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                raise GenerationError(f"{self._where()} sends more than {MOST_BYTES >> 20} MiB")
            yield part

    def _pictures(self, content: bytes | list[Any], number: int) -> list[bytes]:
        try:
            entries = json.loads(content)["data"] if isinstance(content, bytes) else content
            png = [base64.b64decode(entry["b64_json"], validate=True) for entry in entries]
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise GenerationError(f"{self._where()} answered without pictures in data[].b64_json") from None
        if len(png) != number:
            raise GenerationError(f"{self._where()} answered with {len(png)} pictures instead of {number}")
        if any(not picture.startswith(PNG) for picture in png):
            raise GenerationError(f"{self._where()} answered with something that is no PNG")
        return png


def api_key(edge: EdgeConfig) -> str | None:
    """Return the key that an edge sends; None if it sends none.

    Raises:
        InputError: If the environment variable that the edge names is not set, or can not be sent.
    """
    if edge.api_key_env is None:
        return None
    key = os.environ.get(edge.api_key_env, "").strip()
    if not key:
        raise InputError(f"Edges: api_key_env of '{edge.name}' is {edge.api_key_env}, but the environment has no such.")
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"Edges: the key in {edge.api_key_env} for '{edge.name}' has characters that no key can have.")
    return key


def _said(content: bytes | list[Any]) -> str:
    """What a service says is wrong, in the shape of the API or in that of FastAPI, which vLLM-Omni has."""
    try:
        assert isinstance(content, bytes)  # streams have the status 200
        said = json.loads(content)
        message = said["error"]["message"] if "error" in said else said["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    words = words_of(message)
    return f": {words}" if words else ""


def _retry_after_s(value: str | None) -> float | None:
    """Time that a service asks to wait, s; None if it names none."""
    if value is None:
        return None
    try:
        return max(float(value), 0.0) if value.strip().isdigit() else max(_until_s(value), 0.0)
    except (ValueError, TypeError):
        return None


def _until_s(date: str) -> float:
    when = parsedate_to_datetime(date)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
