# SPDX-License-Identifier: Apache-2.0
"""A job on an edge, and what the edge is doing right now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgegen.serve.control.jobs import LOAD, Job, Pictures
from edgegen.serve.edge.queue import Item

PATIENCE = 3.0
"""How many times its expected time a load may take before the edge counts as hung."""
UNKNOWN_LOAD_S = 600.0
"""Expected time of a load of which nothing is known, s: it may be a download."""


@dataclass(eq=False)  # an entry is itself and no other, however alike
class Entry:
    """A job on an edge.

    Attributes:
        job: The job.
        model: The model that paints it.
        arrived_s: When it arrived, s.
        outcome: What whoever sent it waits for.
        steps: Denoising steps of each picture, as chosen so far.
        work_gcycles: Work of all pictures with these, Gcycle.
    """

    job: Job
    model: str
    arrived_s: float
    outcome: asyncio.Future[Pictures]
    steps: int
    work_gcycles: float

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.outcome.done()

    @property
    def kind(self) -> tuple[object, ...]:
        """What must be equal of jobs that are painted together, besides their steps."""
        job = self.job
        return self.model, job.width, job.height, job.guidance_scale, job.negative_prompt is None


@dataclass(eq=False)
class Turn:
    """What an edge is doing: a load, then the pictures of one job or of several that are painted together.

    Attributes:
        item: What began it.
        entries: The jobs that are in it.
        begun_s: When it began, s.
        load_s: Expected time of its load; None if it loads nothing, or no more, s.
        steps: Steps of all of its pictures together.
        steps_done: How many are done.
        moved_s: When it last made progress, s.
        task: The painting, once it has begun.
    """

    item: Item[Entry]
    entries: list[Entry]
    begun_s: float
    load_s: float | None = None
    steps: int = 1
    steps_done: int = 0
    moved_s: float = 0.0
    task: asyncio.Future[Sequence[Any]] | None = field(default=None, repr=False)

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for one of its jobs."""
        return any(entry.wanted for entry in self.entries)

    def has(self, name: str) -> bool:
        """Whether a job of this key is in it."""
        return any(name in (entry.job.key, entry.job.id) for entry in self.entries)

    def load_left_s(self, now_s: float) -> float:
        """Time until its load is done, s."""
        return 0.0 if self.load_s is None else max(self.begun_s + self.load_s - now_s, 0.0)

    def stalled_s(self, now_s: float) -> float:
        """Time without progress, s; a load makes none, so that of one begins when it takes far too long."""
        patience_s = 0.0 if self.load_s is None else PATIENCE * (self.load_s or UNKNOWN_LOAD_S)
        return max(now_s - self.moved_s - patience_s, 0.0)

    def remaining_gcycles(self, now_s: float, capacity_gcycles_s: float) -> list[tuple[str, float]]:
        """Return the work left of each of its jobs, Gcycle; that of the load is with the first, or alone."""
        load = self.load_left_s(now_s) * capacity_gcycles_s
        share = 1 - self.steps_done / self.steps
        left = [(entry.job.id, entry.work_gcycles * share) for entry in self.entries]
        if not left:
            return [load_entry(self.item.model, load)]
        (name, work), *others = left
        return [(name, work + load), *others]


def load_entry(model: str, work_gcycles: float) -> tuple[str, float]:
    """Return what a report says of a load that belongs to no job."""
    return LOAD + model, work_gcycles
