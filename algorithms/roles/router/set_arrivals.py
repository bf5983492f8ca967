# SPDX-License-Identifier: Apache-2.0
"""What a server expects to come to all servers in a slot, from its own arrivals so far: it adapts to any traffic.

Every server takes it that the others get what it gets, as with all that it does not see. It keeps running sums of its
own tasks, their squares and their work; until it has seen a few slots, a prior load stands in for them. Policies that
were stored before there was such an estimate carry the mean arrivals of their training and go on with those.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.envs.offloading.view import RouterView, Tasks

PRIOR_LOAD = 0.8
"""Offered load that is expected before anything was seen: work in a slot over what all servers can do in it."""

PRIOR_SLOTS = 2.0
"""Slots of arrivals that the prior is worth."""

MOST_LOAD = 1.25
"""Load that no estimate goes beyond: where a server gets more, it is a hot spot, or queues would grow for ever."""

FORGETTING = 1 / 32
"""Part of the sums that every slot takes away, so that they follow traffic that changes."""

SUMS = 6
"""Running sums of slots, tasks, tasks² and work until the last slot, and tasks and work so far in the present one."""

UNIT = 0
"""Place of the log of the unit among the features that :meth:`SeenArrivals.of_task` gives."""


class Arrivals(ABC):
    """What is expected of a slot, by observer.

    Attributes:
        unit_slots: Time that stands for 1 in features and rewards ``[E, B, 1]``, slots.
        all_gcycles: Work expected to reach all servers in the slot ``[E, B]``, Gcycle.
    """

    features: int
    """Number of features of :meth:`of_task`."""
    unit_slots: Tensor
    all_gcycles: Tensor

    @abstractmethod
    def placed(self, rank: Tensor) -> tuple[Tensor, Tensor]:
        """Work that all servers have placed when each has placed its first tasks, and that they place after the next.

        Args:
            rank: Tasks placed so far by each server ``[E, B]``, int64.

        Returns:
            Twice ``[E, B]``, Gcycle.
        """

    @abstractmethod
    def progress(self, rank: Tensor) -> Tensor:
        """How far a server is in its tasks of the slot, as a feature ``[E, B]``."""

    @abstractmethod
    def of_task(self, task: Tasks) -> list[Tensor]:
        """Features of the next tasks ``[E, B]``, and of what is expected."""


class FrozenArrivals(Arrivals):
    """The mean arrivals of the training scenario, whatever comes: of policies that were stored with them.

    Args:
        spec: Has the arrivals.
        view: The slot.
    """

    features = 3

    def __init__(self, spec: RouterSpec, view: RouterView) -> None:
        self.spec = spec
        like = view.backlog_gcycles
        servers = like.shape[1]
        self.unit_slots = torch.ones_like(like)[..., None]
        self.all_gcycles = torch.full_like(like, servers * sum(spec.work_profile_gcycles))
        self._capacity = (view.capacity_gcycles_s * spec.slot_s)[:, None].sum(-1)  # [E, 1]
        profile = servers * like.new_tensor(spec.work_profile_gcycles)
        self._before = torch.cat([profile.new_zeros(1), profile.cumsum(0)])  # [N + 1]

    def placed(self, rank: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Arrivals.placed`."""
        last = len(self._before) - 1
        return self._before[rank.clamp_max(last)], self._before[-1] - self._before[(rank + 1).clamp_max(last)]

    def progress(self, rank: Tensor) -> Tensor:
        """See :meth:`Arrivals.progress`."""
        return rank / len(self.spec.work_profile_gcycles)

    def of_task(self, task: Tasks) -> list[Tensor]:
        """Size and work over the largest of the training, and the work over the capacity of an average server."""
        servers = task.workload_gcycles.shape[1]
        return [
            task.size_mbit / self.spec.size_scale_mbit,
            task.workload_gcycles / self.spec.workload_scale_gcycles,
            servers * task.workload_gcycles / self._capacity,
        ]


class SeenArrivals(Arrivals):
    """What each server's own arrivals so far let it expect.

    The number of its tasks in a slot is taken to be normal, with the mean and the deviation that were seen; the work of
    a task is the mean over all own tasks, those of the present slot included. Times are in units of what the mean task
    takes on an average server, so worlds of few large and of many small tasks look alike.

    Args:
        spec: Slot length.
        view: The slot.
        sums: Running sums of own arrivals ``[E, B, SUMS]``.
    """

    features = 4

    def __init__(self, spec: RouterSpec, view: RouterView, sums: Tensor) -> None:
        tasks, servers = view.tasks, view.tasks.present.shape[1]
        capacity = (view.capacity_gcycles_s * spec.slot_s).sum(-1, keepdim=True)  # [E, 1]
        slots, count, squares, work, open_count, open_work = sums.unbind(-1)
        seen_count = count + open_count + tasks.present.sum(-1)
        seen_work = work + open_work + (tasks.workload_gcycles * tasks.present).sum(-1)
        # Before the first task nothing is known of tasks: an eighth of what a server can do in a slot.
        unknown = (capacity / (8 * servers)).expand_as(seen_work)
        self.mean_work_gcycles = torch.where(seen_count > 0, seen_work / seen_count.clamp_min(1e-9), unknown)
        self.mean_work_gcycles = self.mean_work_gcycles.clamp_min(1e-9)
        usual = PRIOR_LOAD * capacity / (servers * self.mean_work_gcycles)
        weight = slots + PRIOR_SLOTS
        mean = (count + PRIOR_SLOTS * usual) / weight
        spread = usual**2 / 4 + usual / 4  # between that of even spread over 0 … 2·mean and that of a fixed number
        square = (squares + PRIOR_SLOTS * (usual**2 + spread)) / weight
        self.deviation = (square - mean**2).clamp_min(0.0625).sqrt()
        self.mean_tasks = torch.minimum(mean, MOST_LOAD / PRIOR_LOAD * usual)
        self.load = servers * mean * self.mean_work_gcycles / capacity
        self.all_gcycles = servers * self.mean_tasks * self.mean_work_gcycles
        self.unit_slots = (servers * self.mean_work_gcycles / capacity)[..., None]
        self._all_left = self._expected_beyond(torch.zeros_like(mean))

    def placed(self, rank: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Arrivals.placed`: all servers place their n-th tasks before any places the next."""
        per_task = self.all_gcycles / self._all_left
        return (
            per_task * (self._all_left - self._expected_beyond(rank)).clamp_min(0),
            per_task * self._expected_beyond(rank + 1),
        )

    def _expected_beyond(self, rank: Tensor) -> Tensor:
        """E[max(N − n, 0)] of a normal N ``[E, B]``."""
        beyond = (self.mean_tasks - rank) / self.deviation
        density = torch.exp(-(beyond**2) / 2) / math.sqrt(2 * math.pi)
        expected: Tensor = self.deviation * (density + beyond * torch.special.ndtr(beyond)).clamp_min(1e-9)
        return expected

    def progress(self, rank: Tensor) -> Tensor:
        """See :meth:`Arrivals.progress`."""
        return (rank / (self.mean_tasks + 1)).log1p()

    def of_task(self, task: Tasks) -> list[Tensor]:
        """The log of the unit, the work over the mean, the load that comes, and how much the number of tasks varies."""
        return [
            self.unit_slots[..., 0].log(),
            (task.workload_gcycles / self.mean_work_gcycles).log1p(),
            self.load.log1p(),
            self.deviation / (self.mean_tasks + 1),
        ]


def add_arrivals(sums: Tensor, present: Tensor, work_gcycles: Tensor) -> None:
    """Count tasks that came in the present slot, in place.

    Args:
        sums: Running sums ``[E, B, SUMS]``.
        present: Whether there is a task ``[E, B, N]``.
        work_gcycles: Its work ``[E, B, N]``.
    """
    sums[..., 4] += present.sum(-1)
    sums[..., 5] += (work_gcycles * present).sum(-1)


def close_slots(sums: Tensor, slots: int) -> None:
    """Take the present slot into the running sums, and then slots - 1 without any task, in place."""
    kept = (1 - FORGETTING) ** (slots - 1)
    count, work = sums[..., 4].clone(), sums[..., 5].clone()
    for place, value in enumerate((torch.ones_like(count), count, count**2, work)):
        sums[..., place] = (sums[..., place] * (1 - FORGETTING) + value) * kept
    sums[..., 0] += (1 - kept) / FORGETTING
    sums[..., 4:] = 0
