"""When work is done on servers whose capacities change from slot to slot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """How much the servers can do from a slot on, where their capacities change from slot to slot.

    After the last slot that is known every server goes on with its whole capacity.

    Attributes:
        done_gcycles: Work that each queue can do by the begin of each slot ``[Q, K + 1]``, float64, Gcycle.
        slot_s: Slot length, s.
        capacity_gcycles_s: Whole capacity of each queue ``[Q]``, float64.
    """

    done_gcycles: Tensor
    slot_s: float
    capacity_gcycles_s: Tensor

    @classmethod
    def of(cls, capacity_gcycles_s: Tensor, share: Tensor, slot_s: float) -> Progress:
        """Make it from whole capacities ``[E, B]`` and the shares of them in every slot from now on ``[E, K, B]``."""
        capacity = capacity_gcycles_s.double()
        done = (share.double() * capacity[:, None] * slot_s).cumsum(1).transpose(1, 2).flatten(0, 1)
        return cls(torch.nn.functional.pad(done, (1, 0)), slot_s, capacity.flatten())

    def time_to(self, queue: Tensor, work_gcycles: Tensor) -> Tensor:
        """Time until a queue has done some work, s, float64.

        Args:
            queue: Queue of each entry ``[M]``.
            work_gcycles: Work ``[M]``.
        """
        work = work_gcycles.double()
        last = self.done_gcycles.shape[1] - 1
        # One search for all: every queue's row is moved by as much as no row can reach.
        step = float(self.done_gcycles[:, -1].max()) * 1.25 + 1.0
        rows = (self.done_gcycles + step * torch.arange(len(self.done_gcycles), device=work.device)[:, None]).flatten()
        within = work.clamp_max(self.done_gcycles[queue, -1])
        # The first slot by whose end it is done; slots in which nothing is done are passed over.
        slot = torch.searchsorted(rows, within + step * queue) - queue * (last + 1) - 1
        slot = slot.clamp(0, max(last - 1, 0))
        before, after = self.done_gcycles[queue, slot], self.done_gcycles[queue, slot + 1]
        part = ((within - before) / (after - before).clamp_min(1e-12)).clamp(0, 1)
        slots = torch.where(work > within, last, slot + part)
        return slots * self.slot_s + (work - within) / self.capacity_gcycles_s[queue]
