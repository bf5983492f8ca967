# SPDX-License-Identifier: Apache-2.0
"""An open loop: every request of a sequence is sent when it is due, whether earlier ones have been answered or not."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from edgegen.envs.core.errors import InputError, first_line
from edgegen.serve.connection import connect
from edgegen.serve.load.sequence import Asked, Sequence

NO_ANSWER = 0
"""Status of a request that got no answer."""


@dataclass(frozen=True)
class Answered:
    """What came back for a request of a sequence.

    Attributes:
        asked: The request.
        status: HTTP status; 0 if there was no answer.
        delay_s: From the moment at which it was due to the whole answer, s.
        edge: The edge that made the picture; empty unless the status is 200, as all that follows.
        steps: Denoising steps.
        queue_s: Time it waited on the edge, s.
        load_s: Time that the edge took to load its model, s.
        generation_s: Time of generation, s.
        total_s: Time in the service, s.
        fallback: Why the policy's own choice was not taken, or None.
        refusal: Why there is no picture, or None.
        png: The picture.
    """

    asked: Asked
    status: int
    delay_s: float
    edge: str = ""
    steps: int = 0
    queue_s: float = 0.0
    load_s: float = 0.0
    generation_s: float = 0.0
    total_s: float = 0.0
    fallback: str | None = None
    refusal: str | None = None
    png: bytes = b""

    @property
    def begun_s(self) -> float:
        """When its generation began, s after the first moment of the sequence."""
        return self.asked.at_s + self.total_s - self.generation_s

    @property
    def is_late(self) -> bool:
        """Whether it came after its promised delay, or never."""
        return self.status != httpx.codes.OK or self.delay_s > self.asked.deadline_s


def send(base_url: str, sequence: Sequence, timeout_s: float = 600.0) -> list[Answered]:
    """Send a sequence and return what came back, in its order.

    Args:
        base_url: The service, with or without ``/v1`` behind it.
        sequence: The requests.
        timeout_s: Longest time to an answer, s.

    Raises:
        InputError: If no request was answered, because the service can not be reached.
    """
    answers = asyncio.run(_send(base_url, sequence, timeout_s))
    if answers and all(answer.status == NO_ANSWER for answer in answers):
        where = connect(base_url).where()
        raise InputError(f"The service at {where} can not be reached: {answers[0].refusal}.")
    return answers


async def _send(base_url: str, sequence: Sequence, timeout_s: float) -> list[Answered]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with connect(base_url).async_client(timeout=timeout_s, limits=limits) as client:
        return await send_all(client, sequence)


async def send_all(
    client: httpx.AsyncClient, sequence: Sequence, clock: Callable[[], float] = time.perf_counter
) -> list[Answered]:
    """Send a sequence from now on and return what came back, in its order.

    Args:
        client: A client of the service.
        sequence: The requests.
        clock: Reading of the clock on which the loop sleeps, s.
    """
    first = clock()

    async def one(asked: Asked) -> Answered:
        await asyncio.sleep(first + asked.at_s - clock())
        return await _ask(client, asked, first + asked.at_s, clock)

    return list(await asyncio.gather(*(one(asked) for asked in sequence.asked)))


async def _ask(client: httpx.AsyncClient, asked: Asked, due: float, clock: Callable[[], float]) -> Answered:
    body = {
        "prompt": asked.prompt,
        "model": asked.model,
        "edge": asked.home,
        "seed": asked.seed,
        "deadline_s": asked.deadline_s,
        "weight": asked.weight,
        "n": asked.pictures,
        **({} if asked.steps is None else {"num_inference_steps": asked.steps}),
    }
    try:
        response = await client.post("/v1/images/generations", json=body)
        answer = response.json()
        delay_s = clock() - due
        if response.status_code != httpx.codes.OK:
            return Answered(asked, response.status_code, delay_s, refusal=str(answer["error"]["message"]))
        return _answered(asked, answer, delay_s)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        return Answered(asked, NO_ANSWER, clock() - due, refusal=first_line(error))


def _answered(asked: Asked, answer: Any, delay_s: float) -> Answered:
    served = answer["edgegen"]
    return Answered(
        asked=asked,
        status=httpx.codes.OK,
        delay_s=delay_s,
        edge=served["server"],
        steps=int(served["steps"]),
        queue_s=float(served["queue_s"]),
        load_s=float(served["load_s"]),
        generation_s=float(served["generation_s"]),
        total_s=float(served["total_s"]),
        fallback=served["fallback"],
        png=base64.b64decode(answer["data"][0]["b64_json"]),
    )
