# SPDX-License-Identifier: Apache-2.0
"""What goes out: answers in the shape of the OpenAI API, with a part of our own."""

from __future__ import annotations

import base64
import re
import time
from typing import Literal

from pydantic import BaseModel, Field

from edgegen.serve.control.dispatcher import Outcome
from edgegen.serve.control.jobs import Job
from edgegen.serve.http.links import Link, Links
from edgegen.serve.http.pictures import delivered
from edgegen.serve.model_config import ModelCard

PATCH = 16
"""Width and height in pixels of what counts as one token of a picture."""

_WORD = re.compile(r"\w+|[^\w\s]")


class Picture(BaseModel):
    """One picture in base64."""

    b64_json: str


class LinkedPicture(BaseModel):
    """Where one picture can be fetched for a while."""

    url: str


class InputTokens(BaseModel):
    """Tokens of what was asked for."""

    text_tokens: int
    image_tokens: int = 0


class OutputTokens(BaseModel):
    """Tokens of what was made."""

    image_tokens: int
    text_tokens: int = 0


class Usage(BaseModel):
    """The size of a request: words and marks of its texts, and patches of 16×16 pixels of its pictures."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class Service(BaseModel):
    """How a request was served."""

    server: str = Field(description="The edge that generated the pictures.")
    home: str = Field(description="The edge that the request arrived at.")
    decision_s: float = Field(description="Time of the scheduling decision, s.")
    queue_s: float = Field(description="Time waited on the edge, s.")
    load_s: float = Field(description="Time the edge took to load the model, s.")
    generation_s: float = Field(description="Time of generation, s.")
    total_s: float = Field(description="Time from arrival at the gateway to the answer, s.")
    model: str = Field(description="The model that painted them.")
    steps: int = Field(description="Denoising steps of each picture.")
    least_steps: int = Field(description="Fewest steps that its quality or deadline could have meant.")
    most_steps: int = Field(description="Most of them.")
    workload_gcycles: float = Field(description="Work of the request, Gcycle.")
    seed: int = Field(description="Seed of the first picture.")
    fallback: str | None = Field(description="Why the policy's own choice was not taken, or null.")
    ignored: list[str] = Field(description="Fields of the request that were given and changed nothing.")


class ImageResponse(BaseModel):
    """Answer of ``POST /v1/images/generations``; the OpenAI shape and an ``edgegen`` part."""

    created: int
    background: Literal["opaque"] = "opaque"
    output_format: str
    quality: str = Field(description="The grade that was asked for, or that of the steps that were made.")
    size: str
    data: list[Picture] | list[LinkedPicture]
    usage: Usage
    edgegen: Service


class ErrorDetail(BaseModel):
    """What went wrong, in the shape of the OpenAI API."""

    message: str = Field(description="One sentence for people.")
    type: str = Field(description="The kind of error.")
    param: str | None = Field(description="The field that it is about, if any.")
    code: str | None = Field(description="A short reason for programs, if any.")


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


def usage_of(job: Job, pictures: int | None = None) -> Usage:
    """Return the size of a request; with as many of its pictures as are given, or all."""
    words = len(_WORD.findall(f"{job.prompt} {job.negative_prompt or ''}"))
    patches = (len(job.seeds) if pictures is None else pictures) * -(-job.width // PATCH) * -(-job.height // PATCH)
    return Usage(
        input_tokens=words,
        input_tokens_details=InputTokens(text_tokens=words),
        output_tokens=patches,
        output_tokens_details=OutputTokens(image_tokens=patches),
        total_tokens=words + patches,
    )


def service_of(job: Job, outcome: Outcome, ignored: list[str]) -> Service:
    """Return how a request was served."""
    return Service(
        server=outcome.server,
        home=job.home,
        decision_s=outcome.decision_s,
        queue_s=outcome.pictures.queue_s,
        load_s=outcome.pictures.load_s,
        generation_s=outcome.pictures.generation_s,
        total_s=outcome.total_s,
        model=job.model,
        steps=job.steps if outcome.pictures.steps is None else outcome.pictures.steps,
        least_steps=job.steps if job.least_steps is None else min(job.least_steps, job.steps),
        most_steps=job.steps,
        workload_gcycles=job.workload_gcycles,
        seed=job.seeds[0],
        fallback=outcome.fallback,
        ignored=ignored,
    )


async def respond(
    job: Job, outcome: Outcome, ignored: list[str], card: ModelCard, links: Links, base_url: str
) -> ImageResponse:
    """Return the answer to a request that was served.

    Args:
        job: The request as an edge saw it.
        outcome: What became of it.
        ignored: Fields that were given and changed nothing.
        card: The model.
        links: Makes addresses of pictures.
        base_url: Address of the service, as the client sees it.
    """
    service, wanted = service_of(job, outcome, ignored), job.delivery
    data: list[Picture] | list[LinkedPicture]
    if wanted.links:
        name, numbers = job.key or "", range(len(job.seeds))
        files = [Link(name, number, wanted.output_format) for number in numbers]
        data = [LinkedPicture(url=links.address(base_url, file)) for file in files]
    else:
        pictures = await delivered(outcome.pictures.png, wanted)
        data = [Picture(b64_json=base64.b64encode(picture).decode("ascii")) for picture in pictures]
    return ImageResponse(
        created=int(time.time()),
        output_format=wanted.output_format,
        quality=wanted.quality or card.quality_of(service.steps),
        size=f"{job.width}x{job.height}",
        data=data,
        usage=usage_of(job),
        edgegen=service,
    )
