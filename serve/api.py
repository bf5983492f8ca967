"""The HTTP interface: request and response models in the shape of the OpenAI images API, and the checks of requests."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgegen.envs.errors import did_you_mean, from_validation
from edgegen.envs.fields import MAX_SEED
from edgegen.serve.config import ModelCard, ServiceConfig, parse_size, picture_mbit, text_mbit
from edgegen.serve.dispatcher import Outcome
from edgegen.serve.errors import RequestError
from edgegen.serve.jobs import Job
from edgegen.serve.scheduler import Task

MAX_BODY_BYTES = 256 * 1024
"""Enough for two prompts of the most characters that a config can allow, each written as a pair of escapes."""


class ImageRequest(BaseModel):
    """Body of ``POST /v1/images/generations``. The first six fields are those of the OpenAI API."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(description="What to paint.")
    model: str | None = Field(None, description="A name of GET /v1/models; the service's first model if left out.")
    n: int = Field(1, description="Number of pictures.")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels; the model's native size if left out.")
    response_format: Literal["b64_json"] = Field("b64_json", description="Pictures come as base64 PNG.")
    user: str | None = Field(None, description="Accepted for compatibility, not used.")
    negative_prompt: str | None = Field(None, description="What not to paint.")
    num_inference_steps: int | None = Field(None, description="Denoising steps.")
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = Field(
        None, description="Classifier-free guidance scale."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        None, description="Seed of the first picture; further pictures count up."
    )
    edge: str | None = Field(None, description="The edge that the request arrived at; in turn if left out.")


class Picture(BaseModel):
    """One picture, PNG in base64."""

    b64_json: str


class Service(BaseModel):
    """How a request was served."""

    server: str = Field(description="The edge that generated the pictures.")
    home: str = Field(description="The edge that the request arrived at.")
    decision_s: float = Field(description="Time of the scheduling decision, s.")
    queue_s: float = Field(description="Time waited on the edge, s.")
    generation_s: float = Field(description="Time of generation, s.")
    total_s: float = Field(description="Time from arrival at the gateway to the answer, s.")
    steps: int = Field(description="Denoising steps of each picture.")
    workload_gcycles: float = Field(description="Work of the request, Gcycle.")
    seed: int = Field(description="Seed of the first picture.")
    fallback: str | None = Field(description="Why the policy's own choice was not taken, or null.")


class ImageResponse(BaseModel):
    """Answer of ``POST /v1/images/generations``; the OpenAI shape and an ``edgegen`` part."""

    created: int
    data: list[Picture]
    edgegen: Service


def parse_request(body: bytes) -> ImageRequest:
    """Read a request body.

    Raises:
        RequestError: If it is not JSON, or a field is unknown, missing or of the wrong type.
    """
    try:
        data = json.loads(body)
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # JSON can spell it as \\ud800; tokenizers, logs and answers can not
        raise RequestError(
            "The request body holds half of a surrogate pair, which is no character.", code="invalid_json"
        ) from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(data, dict):
        raise RequestError(f"The request body must be a JSON object, not {type(data).__name__}.", code="invalid_json")
    try:
        return ImageRequest.model_validate(data)
    except ValidationError as error:
        message = str(from_validation(error, "Request", ImageRequest.model_fields))
        first = error.errors(include_url=False)[0]
        code = {"missing": "missing_field", "extra_forbidden": "unknown_field"}.get(first["type"], "invalid_value")
        raise RequestError(message, param=str(first["loc"][0]), code=code) from None


class Intake:
    """Checks requests against what the service can do and turns them into work.

    Args:
        config: Limits and edges.
        cards: Models by name.
        draw_seed: Supplies seeds for requests without one.
    """

    def __init__(self, config: ServiceConfig, cards: Mapping[str, ModelCard], draw_seed: Callable[[], int]) -> None:
        self._config = config
        self._cards = cards
        self._draw_seed = draw_seed
        self._homes = [edge.name for edge in config.edges]
        self._next_home = 0

    def admit(self, request: ImageRequest) -> tuple[Task, Job]:
        """Return a request as the scheduler and as an edge see it.

        Raises:
            RequestError: If a value is outside what the service allows.
        """
        config = self._config
        card = self._card(request.model)
        self._check_prompt("prompt", request.prompt)
        if request.negative_prompt is not None and len(request.negative_prompt) > config.max_prompt_chars:
            self._check_prompt("negative_prompt", request.negative_prompt)
        _check_range("n", request.n, config.max_pictures)
        steps = card.default_steps if request.num_inference_steps is None else request.num_inference_steps
        _check_range("num_inference_steps", steps, card.max_steps)
        size = request.size or card.sizes[0]
        if size not in card.sizes:
            raise RequestError(
                f"The field 'size' is {short(size)!r}, but the model '{card.name}' makes {', '.join(card.sizes)}.",
                "size",
                "invalid_size",
            )
        width, height = parse_size(size)
        seed = self._draw_seed() if request.seed is None else request.seed
        workload_gcycles = card.workload_gcycles(request.n, steps, size)
        guidance = card.default_guidance if request.guidance_scale is None else request.guidance_scale
        seeds = tuple((seed + index) % (MAX_SEED + 1) for index in range(request.n))
        task = Task(
            model=card.name,
            home=self._home(request.edge),
            workload_gcycles=workload_gcycles,
            size_mbit=text_mbit(request.prompt + (request.negative_prompt or "")),
            result_mbit=request.n * picture_mbit(width * height),
        )
        job = Job("", request.prompt, request.negative_prompt, steps, guidance, width, height, seeds, workload_gcycles)
        return task, job

    def _card(self, model: str | None) -> ModelCard:
        if model is None:
            return next(iter(self._cards.values()))
        if model not in self._cards:
            raise RequestError(
                f"The field 'model' is {short(model)!r}, but this service has {', '.join(self._cards)}."
                f"{did_you_mean(model, self._cards)}",
                "model",
                "model_not_found",
            )
        return self._cards[model]

    def _home(self, edge: str | None) -> str:
        if edge is None:
            edge = self._homes[self._next_home]
            self._next_home = (self._next_home + 1) % len(self._homes)
        elif edge not in self._homes:
            raise RequestError(
                f"The field 'edge' is {short(edge)!r}, but the edges are {', '.join(self._homes)}."
                f"{did_you_mean(edge, self._homes)}",
                "edge",
                "edge_not_found",
            )
        return edge

    def _check_prompt(self, field: str, prompt: str) -> None:
        limit = self._config.max_prompt_chars
        if not prompt.strip():
            raise RequestError(
                f"The field '{field}' is {short(prompt)!r}, but it must hold 1 to {limit} characters that are not "
                "all blank.",
                field,
                "invalid_value",
            )
        if len(prompt) > limit:
            raise RequestError(
                f"The field '{field}' is {short(prompt)!r} with {len(prompt)} characters, but at most {limit} are "
                "allowed.",
                field,
                "invalid_value",
            )


def respond(task: Task, job: Job, outcome: Outcome) -> ImageResponse:
    """Return the answer to a request that was served."""
    return ImageResponse(
        created=int(time.time()),
        data=[Picture(b64_json=base64.b64encode(png).decode("ascii")) for png in outcome.pictures.png],
        edgegen=Service(
            server=outcome.server,
            home=task.home,
            decision_s=outcome.decision_s,
            queue_s=outcome.pictures.queue_s,
            generation_s=outcome.pictures.generation_s,
            total_s=outcome.total_s,
            steps=job.steps,
            workload_gcycles=task.workload_gcycles,
            seed=job.seeds[0],
            fallback=outcome.fallback,
        ),
    )


def _check_range(field: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise RequestError(
            f"The field '{field}' is {value}, but whole numbers from 1 to {most} are allowed.", field, "invalid_value"
        )


def short(text: str, most: int = 60) -> str:
    """Cut a text for an error message."""
    return text if len(text) <= most else text[: most - 3] + "..."
