# SPDX-License-Identifier: Apache-2.0
"""The steps of a job, chosen where it runs: an allocator that the process of an edge owns. Without Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError
from edgegen.serve.control.jobs import Job


@dataclass(frozen=True)
class Placed:
    """What an edge knows of a job when its steps are chosen: when it joins the queue, and again when it begins.

    Attributes:
        backlog_s: Time until all that was placed there before is done, loads included, s; 0 when it begins.
        load_s: Expected time to load its model, s; 0 if that will be in memory by then.
        capacity_gcycles_s: Computing capacity with its model, Gcycle/s.
        left_s: Time until the promised end, s; infinite where nothing was promised.
    """

    backlog_s: float
    load_s: float
    capacity_gcycles_s: float
    left_s: float


class StepsView(ABC):
    """How the policies of a kind of world see a job, and what their decisions mean; of one edge."""

    @abstractmethod
    def observe(self, job: Job, placed: Placed) -> Any:
        """Return the view of the kind's allocator for one copy."""

    @abstractmethod
    def steps(self, job: Job, placed: Placed, action: Tensor) -> int:
        """Return the steps that a decision means.

        Raises:
            ValueError: If it has a wrong shape or is not finite.
        """


class LiveAllocator:
    """Chooses the steps of jobs on one edge.

    Args:
        policy: Decides.
        role: Name of its role.
        view: What it sees.
        explore: Whether it samples.

    Attributes:
        decisions: Decisions taken.
        failures: Those that failed.
        last_failure: Why the latest one of these did.
    """

    def __init__(self, policy: Policy, role: str, view: StepsView, explore: bool = False) -> None:
        self.policy = policy
        self.decisions = 0
        self.failures = 0
        self.last_failure: str | None = None
        self._role, self._view, self._explore = role, view, explore
        self._memory: Memory | None = None

    def try_out(self, model: str) -> None:
        """Let the policy decide about a job that nobody has sent: the first decision takes longer than others.

        Raises:
            InputError: If it fails.
        """
        job, placed = Job("", "", None, 2, 0.0, 64, 64, (0,), 1.0, model, 1), Placed(0.0, 0.0, 1.0, 60.0)
        try:
            view = self._view.observe(job, placed)
            with torch.inference_mode():
                action, _ = self.policy.act(self._role, view, self.policy.begin(self._role, view), self._explore)
            self._view.steps(job, placed, action)
        except Exception as error:  # a policy is foreign code
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"The policy '{self.policy.name}' can not choose steps: {reason}.") from None

    def __call__(self, job: Job, placed: Placed) -> int:
        """Return the denoising steps of each picture, between the fewest that the job allows and those it asks for.

        Raises:
            ValueError: If the policy fails; what it remembered is forgotten.
        """
        least = job.steps if job.least_steps is None else min(job.least_steps, job.steps)
        if least == job.steps:
            return job.steps
        self.decisions += 1
        try:
            view = self._view.observe(job, placed)
            with torch.inference_mode():
                memory = self._memory
                if memory is None:
                    memory = self.policy.begin(self._role, view)
                action, memory = self.policy.act(self._role, view, memory, self._explore)
            steps = self._view.steps(job, placed, action)
        except Exception as error:  # a policy is foreign code: whatever it does, jobs must be done
            self.failures += 1
            self.last_failure = f"policy '{self.policy.name}' failed: {type(error).__name__}: {error}".splitlines()[0]
            self._memory = None
            raise ValueError(self.last_failure) from None
        self._memory = memory
        return min(max(steps, least), job.steps)
