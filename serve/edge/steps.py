# SPDX-License-Identifier: Apache-2.0
"""How many denoising steps a job gets at its edge: what the edge knows of that, and the plain rule."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgegen.serve.control.jobs import Job
from edgegen.serve.control.steps import Placed
from edgegen.serve.edge.pace import Pace
from edgegen.serve.edge.turn import Entry
from edgegen.serve.model_config import ModelCard

logger = logging.getLogger(__name__)

HEADROOM = 0.05
"""Share by which a job may take longer than expected and still be in time: what is in time to the moment is late."""


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
    """Return all steps that the deadline allows with some headroom, and not fewer than the fewest that are useful."""
    spare_s = state.left_s / (1 + HEADROOM) - state.end_s(0)
    if math.isinf(spare_s) or spare_s >= job.steps * state.step_s:
        return job.steps
    return within_limits(job, math.floor(spare_s / state.step_s + 1e-9))


def try_out(decide: DecideSteps, model: str) -> None:
    """Have the steps of a job chosen that nobody has sent: the first choice takes longer than others.

    What goes wrong is no matter here: it will again when a job comes, and then the plain rule chooses.
    """
    job = Job("", "", None, 2, 0.0, 64, 64, (0,), 1.0, model, 1, left_s=60.0)
    try:
        decide(job, StepsState(0.0, 0.0, 1.0, behind_s=0.0, step_s=0.1, fixed_s=0.1, left_s=60.0))
    except Exception:  # a policy is foreign code
        logger.exception("the steps of a first request could not be chosen")


def within_limits(job: Job, steps: float) -> int:
    """Return a number of steps as a job allows it; all of them where it leaves no choice, or the number is none."""
    if job.least_steps is None or math.isnan(steps):
        return job.steps
    return int(min(max(steps, min(job.least_steps, job.steps)), job.steps))


class StepsChooser:
    """Chooses the steps of the jobs of an edge, and says what work they are then.

    Args:
        cards: The models that the edge may hold.
        pace: How fast it is.
        decide: Chooses when a job joins the queue; without it the plain rule does, then and again at the start.
    """

    def __init__(self, cards: Mapping[str, ModelCard], pace: Pace, decide: DecideSteps | None = None) -> None:
        self._cards = cards
        self._pace = pace
        self._decide = decide

    def choose_by(self, decide: DecideSteps | None) -> None:
        """Let somebody else choose from now on; the plain rule if None."""
        self._decide = decide

    def choose(
        self, entry: Entry, now_s: float, *, backlog_s: float = 0.0, behind_s: float = 0.0, load_s: float = 0.0
    ) -> None:
        """Choose the steps of a job that leaves a choice.

        Args:
            entry: The job; its steps and its work are set.
            now_s: Clock reading, s.
            backlog_s: Time until all in front of it is done, s.
            behind_s: Time of all behind it, s.
            load_s: Time to load its model, s.
        """
        job, card = entry.job, self._cards[entry.model]
        if job.least_steps is None:
            return
        size, pictures = f"{job.width}x{job.height}", len(job.seeds)

        def time_s(steps: int) -> float:
            return self._pace.work_s(entry.model, card.workload_gcycles(pictures, steps, size))

        state = StepsState(
            backlog_s=backlog_s,
            load_s=load_s,
            capacity_gcycles_s=1 / self._pace.work_s(entry.model, 1.0),
            behind_s=behind_s,
            step_s=time_s(1) - time_s(0),
            fixed_s=time_s(0),
            left_s=job.left_s - (now_s - entry.arrived_s),
        )
        try:
            steps = within_limits(job, (self._decide or all_in_time)(job, state))
        except Exception:  # a policy is foreign code: whatever it does, the job must be done
            logger.exception("the steps of a request could not be chosen")
            steps = all_in_time(job, state)
        entry.steps = steps
        share = card.workload_gcycles(pictures, steps, size) / card.workload_gcycles(pictures, job.steps, size)
        entry.work_gcycles = job.workload_gcycles * share

    def choose_again(self, entry: Entry, now_s: float, behind_s: float) -> None:
        """Choose the steps of a job that starts, if the plain rule chooses: it only needs the time.

        A policy has seen the queue in front of the job as it will see it in no other moment.
        """
        if self._decide is None:
            self.choose(entry, now_s, behind_s=behind_s)
