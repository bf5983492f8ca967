# SPDX-License-Identifier: Apache-2.0
"""``/v1/schedule``: decisions about work that somebody else does."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from edgegen.envs.urls import shown
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.leasing import Leased, Leasing
from edgegen.serve.control.live_world import Task
from edgegen.serve.http.api import ErrorDetail
from edgegen.serve.http.caller import Caller
from edgegen.serve.http.errors import NotFoundError, RequestError, ServiceError, short
from edgegen.serve.http.intake import Intake, read_json
from edgegen.serve.http.keys import grant_of_request
from edgegen.serve.image_request import ImageRequest, LeftOut, model_rules, request_model, validate_request
from edgegen.serve.model_config import ModelCard

SCHEDULE = "/v1/schedule"
MOST_TASKS = 100
LEAST_TIME_S, MOST_TIME_S = 1e-3, 1e6
"""Shortest and longest time that work may be said to have taken, s."""
_SHARED = ("model", "n", "size", "quality", "num_inference_steps", "deadline_s", "weight", "edge")
"""Fields that a task has in common with a request for pictures."""


class Address(BaseModel):
    """A service elsewhere that does the work of an edge."""

    url: str = Field(description="Where it is.")
    model: str = Field(description="What it calls the model.")


class Scheduled(BaseModel):
    """Where a task should go."""

    lease: str = Field(description="Name of the lease, to be given back when the work is done.")
    tag: str | None = Field(description="That of the task.")
    server: str = Field(description="The edge that should do it.")
    address: Address | None = Field(description="How that edge is reached, if it is a service elsewhere, or null.")
    model: str = Field(description="The model.")
    steps: int = Field(description="Denoising steps of each picture.")
    least_steps: int = Field(description="Fewest of them that were allowed.")
    most_steps: int = Field(description="Most of them.")
    wait_s: float = Field(description="Expected time until it is begun, s.")
    load_s: float = Field(description="Expected time to load the model, s.")
    generation_s: float = Field(description="Expected time of generation, s.")
    in_time: bool = Field(description="Whether it is expected to be done by its deadline.")
    expires_at: int = Field(description="Second since 1970 at which the lease is forgotten.")
    decision_s: float = Field(description="Time of the scheduling decision, s.")
    fallback: str | None = Field(description="Why the policy's own choice was not taken, or null.")


class Refused(BaseModel):
    """A task for which there is no place."""

    tag: str | None = Field(description="That of the task.")
    error: ErrorDetail


class Schedule(BaseModel):
    """Answer of ``POST /v1/schedule``: decisions in the order of the tasks."""

    object: str = "list"
    data: list[Scheduled | Refused]


class Released(BaseModel):
    """Answer of ``DELETE /v1/schedule/LEASE``."""

    lease: str
    released: bool = True


class _Task(LeftOut):
    tag: Annotated[str, Field(max_length=200)] | None = Field(None, description="A name, to be found in the answer.")


def task_model(config: ServiceConfig, cards: Mapping[str, ModelCard]) -> type[_Task]:
    """Return a task as a service takes it: what a request for pictures says of its work."""
    narrow = request_model(config, cards).model_fields
    fields: dict[str, Any] = {name: (narrow[name].annotation, copy.copy(narrow[name])) for name in _SHARED}
    return create_model("Task", __base__=_Task, __doc__="Work of a request for pictures.", **fields)


class Scheduling:
    """Answers ``/v1/schedule``.

    Args:
        config: Limits and edges.
        cards: Models by name.
        intake: Makes work of what is asked for.
        leasing: Decides.
    """

    def __init__(self, config: ServiceConfig, cards: Mapping[str, ModelCard], intake: Intake, leasing: Leasing) -> None:
        self._model = task_model(config, cards)
        self._cards, self._aliases = cards, config.model_aliases
        self._intake, self._leasing = intake, leasing
        self._edges = {edge.name: edge for edge in config.edges}

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the bodies that are taken."""
        task = self._model.model_json_schema()
        if rules := model_rules(self._cards, self._aliases):
            task["allOf"] = rules
        tasks = {"type": "array", "minItems": 1, "maxItems": MOST_TASKS, "items": task}
        return {
            "type": "object",
            "required": ["tasks"],
            "additionalProperties": False,
            "properties": {"tasks": tasks},
        }

    async def decide(self, body: bytes, caller: Caller) -> Schedule:
        """Decide about the tasks of a body.

        Raises:
            RequestError: If it is none that this service takes; then nothing is decided.
        """
        asked = [self._work(number, task, caller) for number, task in enumerate(_tasks(read_json(body)))]
        return Schedule(data=list(await asyncio.gather(*(self._decide(*one) for one in asked))))

    async def give_back(self, lease: str, generation_s: float | None) -> Released:
        """End a lease.

        Raises:
            NotFoundError: If there is none of this name.
        """
        if not await self._leasing.give_back(lease, generation_s):
            message = f"There is no lease {short(lease)!r}: it was given back, or it has expired."
            raise NotFoundError(message, "lease", "lease_not_found")
        return Released(lease=lease)

    def _work(self, number: int, task: object, caller: Caller) -> tuple[str | None, Task, Job]:
        try:
            if not isinstance(task, dict):
                raise RequestError(f"It must be a JSON object, not {type(task).__name__}.", code="invalid_value")
            checked = validate_request(task, self._model)
            given = {name: getattr(checked, name) for name in _SHARED}
            return checked.tag, *self._intake.admit(ImageRequest.model_construct(prompt="", **given), caller)
        except RequestError as error:
            param = f"tasks.{number}" + (f".{error.param}" if error.param else "")
            raise RequestError(f"Task {number}: {error.message}", param, error.code) from None

    async def _decide(self, tag: str | None, task: Task, job: Job) -> Scheduled | Refused:
        try:
            grant = grant_of_request()
            if grant is not None:
                grant.admit(task.model, len(job.seeds), task.workload_gcycles)
            return self._told(tag, job, await self._leasing.take(task, job))
        except ServiceError as error:
            return Refused(tag=tag, error=ErrorDetail(**error.body()["error"]))

    def _told(self, tag: str | None, job: Job, leased: Leased) -> Scheduled:
        lease, edge = leased.lease, self._edges[leased.decision.server]
        address = None
        if edge.url is not None:
            address = Address(url=shown(edge.url), model=edge.model_names.get(job.model, job.model))
        return Scheduled(
            lease=leased.name,
            tag=tag,
            server=edge.name,
            address=address,
            model=job.model,
            steps=lease.steps,
            least_steps=job.steps if job.least_steps is None else min(job.least_steps, job.steps),
            most_steps=job.steps,
            wait_s=lease.wait_s,
            load_s=lease.load_s,
            generation_s=lease.generation_s,
            in_time=lease.wait_s + lease.load_s + lease.generation_s <= job.left_s,
            expires_at=math.floor(time.time() + lease.expires_s),
            decision_s=leased.decision.decision_s,
            fallback=leased.decision.fallback,
        )


def _tasks(data: dict[str, Any]) -> list[object]:
    for name in data:
        if name != "tasks":
            raise RequestError(
                f"Request: unknown field '{short(name)}'; the only one is tasks.", short(name), "unknown_field"
            )
    if "tasks" not in data:
        raise RequestError("Request: tasks is missing.", "tasks", "missing_field")
    tasks = data["tasks"]
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= MOST_TASKS:
        found = f"has {len(tasks)} entries" if isinstance(tasks, list) else f"is {short(repr(tasks))}"
        message = f"The field 'tasks' {found}, but it must be a list of 1 to {MOST_TASKS} tasks."
        raise RequestError(message, "tasks", "invalid_value")
    return tasks


def generation_time(text: str | None) -> float | None:
    """Read how long work took, s.

    Raises:
        RequestError: If that is no time.
    """
    if text is None:
        return None
    try:
        time_s = float(text)
    except ValueError:
        time_s = math.nan
    if not LEAST_TIME_S <= time_s <= MOST_TIME_S:
        allowed = f"a number from {LEAST_TIME_S:g} to {MOST_TIME_S:g}"
        message = f"The parameter 'generation_s' is {short(repr(text))}, but it must be {allowed}."
        raise RequestError(message, "generation_s", "invalid_value")
    return time_s
