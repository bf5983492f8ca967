# SPDX-License-Identifier: Apache-2.0
"""What servers of the offloading world see before they place the tasks of a slot."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from edgegen.envs.core.objectives import Objective
from edgegen.envs.core.world import View

ROUTER = "router"
"""The role of every server: to choose for each task of its users the server that runs it."""


@dataclass(frozen=True)
class Tasks:
    """Tasks of E copies, padded to N per server: ``[E, B, N]``, or ``[E, T, B, N]`` for whole episodes.

    Attributes:
        present: True where a task exists.
        size_mbit: Input size d_n, Mbit.
        workload_gcycles: Work w_n = ρ_n z_n, Gcycle.
        result_mbit: Result size r_n, Mbit.
    """

    present: Tensor
    size_mbit: Tensor
    workload_gcycles: Tensor
    result_mbit: Tensor

    def slot(self, slot: int) -> Tasks:
        """Return the tasks ``[E, B, N]`` of one slot of tasks ``[E, T, B, N]`` (views, nothing is copied)."""
        return Tasks(*(getattr(self, field.name)[:, slot] for field in fields(self)))

    def at_index(self, index: int) -> Tasks:
        """Return the n-th tasks ``[..., B]`` of every server of tasks ``[..., B, N]`` (views)."""
        return Tasks(*(getattr(self, field.name)[..., index] for field in fields(self)))


@dataclass(frozen=True)
class RouterView(View):
    """What can be known when the tasks of a slot are placed. All leading axes are the E copies.

    A policy must use only what its description says it may: row b of ``tasks`` belongs to server b's own users.
    Backlogs and capacities are what the schedulers have heard of the servers; see :class:`HeardView`.

    Attributes:
        slot: Number of the slot.
        backlog_gcycles: Backlog q_{b,t} of every server at the start of the slot ``[E, B]``, Gcycle.
        capacity_gcycles_s: Capacity f_b ``[E, B]`` in this slot, Gcycle/s.
        rate_mbit_s: Transmission rate v_b towards each server ``[E, B]``, or ``[E, B, B]`` from origin to destination,
            Mbit/s.
        tasks: Tasks waiting to be placed in this slot ``[E, B, N]``.
        available: Servers that can take work ``[E, B]``, bool; None where all can. A live service knows of some that
            can not; in the simulator every server takes what it is given.
        by_server: Whether the tasks of a slot are served server by server instead of index by index.
        objective: What a placement costs, for policies that minimise it; the delay where there is none.
    """

    slot: int
    backlog_gcycles: Tensor
    capacity_gcycles_s: Tensor
    rate_mbit_s: Tensor
    tasks: Tasks = field(metadata={"open_axes": (2,)})
    available: Tensor | None = field(default=None, kw_only=True)
    by_server: bool = field(default=False, kw_only=True)
    objective: Objective | None = field(default=None, kw_only=True)

    @property
    def truth(self) -> RouterView:
        """The same slot with true backlogs and capacities, for policies that are said to know everything."""
        return self

    @property
    def age_slots(self) -> Tensor:
        """How many slots ago the servers were as they are shown ``[E, B]``."""
        return torch.zeros_like(self.backlog_gcycles)


@dataclass(frozen=True)
class HeardView(RouterView):
    """An observation of servers whose reports are late or lost.

    Attributes:
        actual: How things really are.
        age: Age of the newest report of each server ``[E, B]``, slots.
    """

    actual: RouterView
    age: Tensor

    @property
    def truth(self) -> RouterView:
        """How things really are."""
        return self.actual

    @property
    def age_slots(self) -> Tensor:
        """Age of the newest report of each server ``[E, B]``, slots."""
        return self.age
