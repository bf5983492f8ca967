# SPDX-License-Identifier: Apache-2.0
"""A request and what became of it, as a gateway notes it, and as a row of a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgegen.envs.core.records import COLUMNS, FAILED, GONE, LATE, REFUSED, SERVED
from edgegen.serve.control.admission import Terms
from edgegen.serve.control.jobs import Job, Pictures
from edgegen.serve.control.live_world import Task
from edgegen.serve.http.errors import FailedError, ServiceError, TimedOutError
from edgegen.serve.image_request import PRIORITIES


class Made(NamedTuple):
    """What is noted of pictures that were made; times in s.

    Attributes:
        edge: The edge that made them.
        queue_s: Time that the request waited there.
        load_s: Time that it waited for its model to be loaded.
        load_source: Where the model was.
        generation_s: Time of generation.
        steps: Denoising steps of each picture; those that were asked for if None.
        decision_s: Time of all decisions about it.
        fallback: Why the policy's own choice was not taken, or None.
        canary: Whether the canary decided.
    """

    edge: str
    queue_s: float
    load_s: float
    load_source: str
    generation_s: float
    steps: int | None
    decision_s: float
    fallback: str | None
    canary: bool

    @classmethod
    def of(cls, pictures: Pictures, edge: str, decision_s: float, fallback: str | None, canary: bool) -> Made:
        """Note pictures, without themselves."""
        times = (pictures.queue_s, pictures.load_s, pictures.load_source, pictures.generation_s, pictures.steps)
        return cls(edge, *times, decision_s, fallback, canary)


@dataclass(frozen=True, slots=True)
class Noted:
    """A request that has come to its end.

    Attributes:
        task: The request as policies see it.
        job: The request as edges see it.
        terms: What its client may expect.
        arrival_s: When it came, s since 1970.
        total_s: From then to the end, s.
        policy: The policy that decided, or would have.
        made: What was made; None if there are no pictures.
        failure: What became of it else, and why.
    """

    task: Task
    job: Job
    terms: Terms
    arrival_s: float
    total_s: float
    policy: str
    made: Made | None = None
    failure: tuple[str, str | None] | None = None

    def row(self, prompt: Callable[[str], str | None]) -> dict[str, Any]:
        """The row of a recording, by column.

        Args:
            prompt: What is shown of a prompt.
        """
        task, job, made = self.task, self.job, self.made
        outcome, reason = self.outcome
        at_edge = (None,) * 5 if made is None else (made.edge, made.queue_s, made.load_s, made.generation_s, made.steps)
        edge, queue_s, load_s, generation_s, steps = at_edge
        values = (
            *(self.arrival_s, self.terms.request_id, self.terms.account, task.model, task.home, edge),
            *(len(job.seeds), job.steps, job.least_steps, job.steps if made and steps is None else steps),
            *(job.width, job.height, task.deadline_s, task.weight, PRIORITIES[self.terms.priority]),
            *(task.workload_gcycles, task.size_mbit, task.result_mbit, queue_s, load_s, generation_s),
            *(made.decision_s if made else None, self.total_s, made.load_source if made else None),
            *(outcome, reason, self.policy, made is not None and made.canary, made.fallback if made else None),
            prompt(job.prompt),
        )
        return dict(zip(COLUMNS, values, strict=True))

    @property
    def outcome(self) -> tuple[str, str | None]:
        """What became of it, and why if there are no pictures."""
        if self.made is None:
            return self.failure or (GONE, None)
        return (LATE if self.total_s > self.task.deadline_s else SERVED), None


def failure_of(error: BaseException) -> tuple[str, str | None]:
    """What became of a request that ended with an error, and why."""
    if isinstance(error, ServiceError):
        return (FAILED if isinstance(error, FailedError | TimedOutError) else REFUSED), error.code
    return (FAILED, type(error).__name__) if isinstance(error, Exception) else (GONE, None)
