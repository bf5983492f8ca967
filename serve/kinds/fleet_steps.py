# SPDX-License-Identifier: Apache-2.0
"""The allocator of the fleet kind at an edge: what it sees of a job, and the steps that its decision means."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.fleet.books import fixed_of
from edgegen.envs.fleet.curves import GRADES, grades_of
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import AllocatorView
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.steps import Placed, StepsView
from edgegen.serve.model_config import picture_mbit, text_mbit


class FleetSteps(StepsView):
    """What the allocator of one edge sees.

    Args:
        config: The service.
        name: The edge.
        world: The service as a scenario.
    """

    def __init__(self, config: ServiceConfig, name: str, world: FleetScenario) -> None:
        self._fixed, self._cards, self._name = fixed_of(world), config.cards(), name
        self._models = {model: number for number, model in enumerate(self._cards)}
        edge = next(edge for edge in config.edges if edge.name == name)
        self._in_cloud, self._rate_mbit_s = edge.cloud is not None, edge.rate_mbit_s
        self._site = world.sites if self._in_cloud else config.homes.index(name)
        self._first, self._hop_s, self._promise_s = edge.all_models[0], config.utility.hop_s, config.promise_s

    def observe(self, job: Job, placed: Placed) -> AllocatorView:
        """Return the view of the fleet world's allocator for one copy."""
        fixed, name = self._fixed, job.model or self._first
        model, full = self._models[name], float(job.steps)
        least = full if job.least_steps is None else min(float(job.least_steps), full)
        pictures = len(job.seeds) * self._cards[name].relative_area(f"{job.width}x{job.height}")
        speed = placed.capacity_gcycles_s
        least_s, full_s = (
            pictures * (fixed.fixed_s[model] + steps * fixed.step_s[model]) / speed for steps in (least, full)
        )
        network_s, backlog_s = self._network_s(job), 0.0 if self._in_cloud else placed.backlog_s
        grades = np.empty(GRADES)
        grades_of(fixed, model, least, full, grades)
        # A request without a promise has that of the service.
        promised_s, left_s = (
            self._promise_s if math.isinf(time_s) else time_s for time_s in (job.left_s, placed.left_s)
        )
        slack_s = left_s - backlog_s - placed.load_s - network_s - least_s
        columns = (
            *(True, self._site, self._in_cloud, model, job.weight, promised_s, backlog_s, job.mean_backlog_s),
            *(placed.load_s, network_s, least_s, full_s, slack_s, speed),
            *(fixed.cloud_work_price * speed if self._in_cloud else 0.0, least, full, grades[0], grades[-1], grades),
        )
        return AllocatorView(*(torch.from_numpy(np.asarray(values)[None]) for values in columns))

    def steps(self, job: Job, placed: Placed, action: Tensor) -> int:
        """Return the fewest steps and the share of the others that was chosen, rounded down as in the simulator."""
        del placed
        if tuple(action.shape) != (1, 1, 1, 1):
            raise ValueError(f"shares of steps have shape {tuple(action.shape)}, expected (1, 1, 1, 1)")
        share = float(action)
        if not math.isfinite(share):
            raise ValueError(f"the share of the steps is {share}")
        least = job.steps if job.least_steps is None else min(job.least_steps, job.steps)
        return least + math.floor(min(max(share, 0.0), 1.0) * (job.steps - least) + 1e-9)

    def _network_s(self, job: Job) -> float:
        if self._in_cloud:
            return float(self._fixed.cloud_s)
        size_mbit = text_mbit(job.prompt + (job.negative_prompt or ""))
        there_s = 0.0 if job.home in ("", self._name) else self._hop_s + size_mbit / self._rate_mbit_s
        return len(job.seeds) * picture_mbit(job.width * job.height) / self._rate_mbit_s + there_s
