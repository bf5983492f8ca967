# SPDX-License-Identifier: Apache-2.0
"""What a deciding server knows of every server, one row of features each: the state of the set networks.

Every feature is a ratio or a time in units of the mean task, and none depends on how the servers are numbered or how
many there are, so a network that scores all servers with the same weights fits any set of servers.

Servers decide at once and do not see each other's placements of the slot. What the others do is estimated in two ways:
as this server does (times B), and from the arrivals that it expects (:mod:`.set_arrivals`), spread as its own
decisions have been. Probabilities are summed rather than samples: the servers share one policy, so what it would do on
average is what the others do on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.roles.router.set_arrivals import UNIT, Arrivals, FrozenArrivals, SeenArrivals
from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.envs.offloading.view import RouterView, Tasks

MEMBER_FEATURES = 12
LOOK_BACK = 8
"""Slots of own placements that are remembered to bring old reports up to date."""

RECENT_RATE = 0.2
"""Weight of the newest slot in the running mean of a server's own arrivals."""

_BASE = 0  # place of the expected delay among the features of a member
_CAPACITY = 1  # place of the log of the relative capacity
_SHARED = 7  # common features before those of the task
_ARRIVALS: dict[str, type[FrozenArrivals] | type[SeenArrivals]] = {"frozen": FrozenArrivals, "seen": SeenArrivals}


def common_features(spec: RouterSpec) -> int:
    """Number of features C that all servers have in common."""
    return _SHARED + _ARRIVALS[spec.arrivals].features + 1


def split(state: Tensor, spec: RouterSpec) -> tuple[Tensor, Tensor]:
    """Split states ``[..., C + B·F]`` into what is common ``[..., C]`` and the members ``[..., B, F]``."""
    width = common_features(spec)
    common, members = state[..., :width], state[..., width:]
    return common, members.reshape(*members.shape[:-1], -1, MEMBER_FEATURES)


def unit_slots(state: Tensor, spec: RouterSpec) -> Tensor:
    """Time that stands for 1 in states ``[..., D]``, slots ``[...]``."""
    if spec.arrivals == "frozen":
        return torch.ones_like(state[..., 0])
    return state[..., _SHARED + UNIT].exp()


def expected_delay_units(members: Tensor) -> Tensor:
    """Delay expected on each server ``[..., B]``, in units, from the features of the members."""
    return members[..., _BASE].expm1()


def log_capacity(members: Tensor) -> Tensor:
    """Log of each server's share of the capacity, times B ``[..., B]``."""
    return members[..., _CAPACITY]


@dataclass
class SlotView:
    """One slot as the B servers see it while they place their tasks one by one.

    Args:
        spec: Slot length.
        observation: The slot.
        arrivals: What is expected to come.
        waiting_gcycles: Estimated backlogs by observer and server ``[E, B, B]``.
        recent_gcycles: Running mean of each server's own arrivals per slot ``[E, B]``.

    Attributes:
        own_gcycles: Work placed so far by each server ``[E, B, B]``.
        expected_gcycles: The same in expectation over the policy's choices ``[E, B, B]``.
        rank: Tasks placed so far by each server ``[E, B]``, int64.
    """

    spec: RouterSpec
    observation: RouterView
    arrivals: Arrivals
    waiting_gcycles: Tensor
    recent_gcycles: Tensor

    def __post_init__(self) -> None:
        seen, tasks = self.observation, self.observation.tasks
        copies, servers, _ = tasks.present.shape
        self.own_gcycles = seen.backlog_gcycles.new_zeros(copies, servers, servers)
        self.expected_gcycles = torch.zeros_like(self.own_gcycles)
        self.rank = torch.zeros(copies, servers, dtype=torch.long, device=tasks.present.device)
        self._per_slot = (seen.capacity_gcycles_s * self.spec.slot_s)[:, None]  # [E, 1, B]
        self._all = self._per_slot.sum(-1)  # [E, 1]
        work = tasks.workload_gcycles * tasks.present
        self._left = work.sum(-1)  # [E, B]
        wide = (copies, servers, servers)
        rate = seen.rate_mbit_s if seen.rate_mbit_s.dim() == 3 else seen.rate_mbit_s[:, None]
        self._rate = rate.expand(wide)
        self._local = torch.eye(servers, dtype=torch.bool, device=work.device).expand(wide)
        per_slot, unit = self._per_slot, self.arrivals.unit_slots
        wait = (seen.backlog_gcycles[:, None] / per_slot / unit).log1p()
        self._fixed = [
            (per_slot * (servers / self._all[..., None])).log().expand(wide),
            wait.expand(wide),
            (self.waiting_gcycles / per_slot / unit).log1p(),
            self._local.to(work.dtype),
            seen.age_slots[:, None].log1p().expand(wide),
        ]
        self._total = servers * self._left / self._all
        self._queued = (self.waiting_gcycles.sum(-1) / self._all).log1p()
        self._recent = servers * self.recent_gcycles / self._all

    def state(self, task: Tasks) -> Tensor:
        """State of the next task of every server ``[E, B]``, as ``[E, B, 1, D]``."""
        per_slot, unit = self._per_slot, self.arrivals.unit_slots
        servers = task.present.shape[1]
        before, after = self.arrivals.placed(self.rank)
        placed = self.expected_gcycles.sum(-1, keepdim=True)
        share = torch.where(placed > 0, self.expected_gcycles / placed.clamp_min(1e-9), per_slot / self._all[..., None])
        arrived = share * before[..., None] / per_slot
        work = task.workload_gcycles[..., None] / per_slot
        slot_s = self.spec.slot_s
        transfer = torch.where(self._local, 0.0, task.size_mbit[..., None] / self._rate / slot_s)
        back = task.result_mbit[..., None] / self._rate / slot_s
        base = self.waiting_gcycles / per_slot + arrived + work + transfer + back
        members = torch.stack(
            [
                (base / unit).log1p(),
                *self._fixed,
                (arrived / unit).log1p(),
                (servers * self.own_gcycles / per_slot / unit).log1p(),
                (servers * self.expected_gcycles / per_slot / unit).log1p(),
                (work / unit).log1p(),
                (transfer / unit).log1p(),
                share * servers,
            ],
            -1,
        )
        one = torch.ones_like(self._left)
        common = torch.stack(
            [
                before / self._all,
                after / self._all,
                self.arrivals.progress(self.rank),
                self._total,
                servers * self._left / self._all,
                self._recent,
                self._queued,
                *self.arrivals.of_task(task),
                one / servers,
            ],
            -1,
        )
        return torch.cat([common, members.flatten(-2)], -1)[:, :, None]

    def place(self, task: Tasks, server: Tensor, probability: Tensor) -> None:
        """Note what was done with the next task of every server.

        Args:
            task: The tasks ``[E, B]``.
            server: Chosen servers ``[E, B]``.
            probability: The distribution they were drawn from ``[E, B, B]``.
        """
        work = task.workload_gcycles * task.present
        self.own_gcycles = self.own_gcycles.scatter_add(-1, server[..., None], work[..., None])
        self.expected_gcycles = self.expected_gcycles + probability * work[..., None]
        self._left = self._left - work
        self.rank = self.rank + task.present


def catch_up(observation: RouterView, placed_gcycles: Tensor, slot_s: float) -> Tensor:
    """Bring reported backlogs up to date with what was probably placed since: q ← max(q + placed − f Δ, 0) per slot.

    Args:
        observation: What was reported, and when.
        placed_gcycles: Work that each observer thinks was placed in the last K slots ``[E, B, K, B]``, newest first.
        slot_s: Slot length, s.

    Returns:
        Estimated backlogs by observer and server ``[E, B, B]``. Reports older than K slots are brought up by K slots.
    """
    servers = placed_gcycles.shape[1]
    backlog = observation.backlog_gcycles[:, None].expand(-1, servers, -1)
    age = observation.age_slots
    if not age.any():
        return backlog
    drained = (observation.capacity_gcycles_s * slot_s)[:, None]
    for ago in range(placed_gcycles.shape[2], 0, -1):
        later = (backlog + placed_gcycles[:, :, ago - 1] - drained).clamp_min(0)
        backlog = torch.where((age >= ago)[:, None], later, backlog)
    return backlog
