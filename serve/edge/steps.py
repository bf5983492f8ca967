"""How many denoising steps a job gets at its edge: what the edge knows of that, and the plain rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgegen.serve.control.jobs import Job
from edgegen.serve.control.steps import Placed


@dataclass(frozen=True)
class StepsState(Placed):
    """What an edge truly knows of a job when it joins the queue, and again when it starts.

    Attributes:
        backlog_s: Time until all in front of it is done, loads included, s; 0 at the start.
        load_s: Expected time to load its model, s; 0 if that will be in memory by then.
        capacity_gcycles_s: Computing capacity with its model, Gcycle/s.
        behind_s: Time of all behind it, loads included, s; 0 when it joins.
        step_s: Time of one denoising step of all its pictures, s.
        fixed_s: Time of its pictures beside their steps, s.
        left_s: Time until the promised end, s; infinite where nothing was promised.
    """

    behind_s: float
    step_s: float
    fixed_s: float
    left_s: float

    def end_s(self, steps: int) -> float:
        """Time until the job is done with so many steps, s."""
        return self.backlog_s + self.load_s + self.fixed_s + steps * self.step_s


DecideSteps = Callable[[Job, StepsState], int]
"""Chooses the steps of a job, from ``job.least_steps`` to ``job.steps``."""


def all_in_time(job: Job, state: StepsState) -> int:
    """Return all steps that the deadline allows, and not fewer than the fewest that are useful."""
    spare_s = state.left_s - state.end_s(0)
    if math.isinf(spare_s) or spare_s >= job.steps * state.step_s:
        return job.steps
    return within_limits(job, math.floor(spare_s / state.step_s + 1e-9))


def within_limits(job: Job, steps: float) -> int:
    """Return a number of steps as a job allows it; all of them where it leaves no choice, or the number is none."""
    if job.least_steps is None or math.isnan(steps):
        return job.steps
    return int(min(max(steps, min(job.least_steps, job.steps)), job.steps))
