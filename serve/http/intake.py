# SPDX-License-Identifier: Apache-2.0
"""What comes in: how bodies are read, and what a request is to the scheduler and to an edge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from edgegen.envs.core.seeds import MAX_SEED
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.jobs import Delivery, Job
from edgegen.serve.control.live_world import Task
from edgegen.serve.http.caller import Caller
from edgegen.serve.http.errors import MediaTypeError, RequestError, short
from edgegen.serve.image_request import AUTO_SIZE, ImageRequest, request_model, validate_request
from edgegen.serve.model_config import ModelCard, parse_size, picture_mbit, text_mbit


def check_media_type(content_type: str | None) -> None:
    """Refuse a body that does not say that it is JSON.

    A web page may send any other kind, and one that says nothing, to a service on the reader's own machine without
    asking first.

    Raises:
        MediaTypeError: If it says something else, or nothing.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"is {short(repr(content_type))}" if content_type else "is missing"
        raise MediaTypeError(
            f"The header Content-Type {said}, but it must be application/json.", code="unsupported_media_type"
        )


def parse_request(body: bytes, model: type[ImageRequest] = ImageRequest) -> ImageRequest:
    """Read a request body.

    Args:
        body: As it came.
        model: What the service takes; the general shape unless given.

    Raises:
        RequestError: If it is not JSON, or a field is unknown, missing, of the wrong type or outside its limits.
    """
    return validate_request(read_json(body), model)


def read_json(body: bytes) -> dict[str, Any]:
    """Read a body that is to be a JSON object.

    Raises:
        RequestError: If it is none.
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
    return data


class Intake:
    """Checks requests against what the service can do and turns them into work.

    Args:
        config: Limits and edges.
        cards: Models by name.

    Attributes:
        request_model: The body of a request as this service takes it.
    """

    def __init__(self, config: ServiceConfig, cards: Mapping[str, ModelCard]) -> None:
        self.request_model = request_model(config, cards)
        self._cards = cards
        self._aliases = config.model_aliases
        self._seed = config.seed
        self._promise_s = config.promise_s
        self._homes = config.homes
        self._turn = 0

    def admit(self, request: ImageRequest, caller: Caller) -> tuple[Task, Job]:
        """Return a request as the scheduler and as an edge see it.

        Args:
            request: An instance of :attr:`request_model`; what depends on the chosen model is checked here.
            caller: Who sends it, and how it is named. The seed of a request without one comes from its key, so that
                it is the same however often the request is sent.

        Raises:
            RequestError: If the model does not allow the size or the steps.
        """
        card = self.card(request.model)
        least: int | None
        least, steps = card.steps_of(request.grade)
        if request.num_inference_steps is not None:
            least, steps = None, request.num_inference_steps
        if request.stream and request.response_format == "url":
            raise RequestError(
                "The field 'response_format' is 'url', but a stream has its pictures as b64_json.",
                "response_format",
                "invalid_value",
            )
        if steps > card.max_steps:
            raise RequestError(
                f"The field 'num_inference_steps' is {steps}, but it must be an integer from 1 to {card.max_steps} for "
                f"the model '{card.name}'.",
                "num_inference_steps",
                "invalid_value",
            )
        size = card.sizes[0] if request.size in (None, AUTO_SIZE) else request.size
        if size not in card.sizes:
            raise RequestError(
                f"The field 'size' is {size!r}, but the model '{card.name}' makes {', '.join(card.sizes)}.",
                "size",
                "invalid_size",
            )
        width, height = parse_size(size)
        pictures = 1 if request.n is None else request.n
        seed = _seed_of(self._seed, caller.key) if request.seed is None else request.seed
        workload_gcycles = card.workload_gcycles(pictures, steps, size)
        guidance = card.default_guidance if request.guidance_scale is None else request.guidance_scale
        seeds = tuple((seed + index) % (MAX_SEED + 1) for index in range(pictures))
        task = Task(
            model=card.name,
            home=self._next_home() if request.edge is None else request.edge,
            workload_gcycles=workload_gcycles,
            size_mbit=text_mbit(request.prompt + (request.negative_prompt or "")),
            result_mbit=pictures * picture_mbit(width * height),
            pictures=pictures * card.relative_area(size),
            steps=steps,
            least_steps=least,
            deadline_s=self._promise_s if request.deadline_s is None else request.deadline_s,
            weight=1.0 if request.weight is None else request.weight,
            key=caller.key,
            least_gcycles=None if least is None else card.workload_gcycles(pictures, min(least, steps), size),
        )
        job = Job(
            id="",
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            steps=steps,
            guidance_scale=guidance,
            width=width,
            height=height,
            seeds=seeds,
            workload_gcycles=workload_gcycles,
            model=card.name,
            least_steps=task.least_steps,
            left_s=task.deadline_s,
            weight=task.weight,
            home=task.home,
            key=caller.key,
            alias=caller.alias,
            delivery=Delivery(
                request.output_format or "png",
                100 if request.output_compression is None else request.output_compression,
                request.grade,
                request.response_format == "url",
            ),
            previews=(request.partial_images or 0) if request.stream else 0,
            sending=caller.sending,
        )
        return task, job

    def card(self, model: str | None) -> ModelCard:
        """Return the model that a request names, by whatever name; the first if it names none."""
        if model is None:
            return next(iter(self._cards.values()))
        return self._cards[self._aliases.get(model, model)]

    def _next_home(self) -> str:
        home = self._homes[self._turn]
        self._turn = (self._turn + 1) % len(self._homes)
        return home


def _seed_of(service_seed: int, key: str) -> int:
    digest = hashlib.sha256(f"{service_seed} {key}".encode()).digest()
    return int.from_bytes(digest[:8]) % (MAX_SEED + 1)
