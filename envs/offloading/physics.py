# SPDX-License-Identifier: Apache-2.0
"""What becomes of tasks that are placed on servers: the equations of the offloading world as pure functions.

Equations are those of the LAD-TS system model (arXiv 2412.18212, reconstructed from the authors' code: "spec").

Within a slot, tasks are served in the order of their index n first and their server b second, all first tasks, then
all second tasks, and so on; or of their server first, as in the authors' code. No time passes inside a slot: a task
waits for the backlog at the start of the slot and for everything placed on its server earlier in the slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from edgegen.envs.offloading.view import ROUTER, RouterView


@dataclass(frozen=True)
class Delays:
    """Parts of the service delay of placed tasks, s; any common shape.

    Attributes:
        transfer_s: Input transfer T_in.
        wait_s: Waiting T_wait.
        compute_s: Computing T_comp.
        return_s: Result return T_out.
    """

    transfer_s: Tensor
    wait_s: Tensor
    compute_s: Tensor
    return_s: Tensor

    @property
    def total_s(self) -> Tensor:
        """Service delay T_serv, the sum of the parts."""
        return self.transfer_s + self.wait_s + self.compute_s + self.return_s


def service_delay(
    size_mbit: Tensor,
    workload_gcycles: Tensor,
    result_mbit: Tensor,
    local: Tensor,
    ahead_gcycles: Tensor,
    capacity_gcycles_s: Tensor,
    rate_mbit_s: Tensor,
) -> Delays:
    """Service delay of tasks on their servers; all arguments broadcast (docs/spec/ladts.md §2).

    T_in = 0 if local else d/v;  T_comp = w/f;  T_out = r/v, also when local;  T_wait = (q + q_bef)/f.

    Args:
        size_mbit: Input size d.
        workload_gcycles: Workload w.
        result_mbit: Result size r.
        local: True where the task runs on the server it arrived at.
        ahead_gcycles: Work in front of the task, q + q_bef.
        capacity_gcycles_s: Capacity f of the chosen server.
        rate_mbit_s: Rate v towards the chosen server.
    """
    transfer_s = torch.where(local, torch.zeros_like(size_mbit), size_mbit / rate_mbit_s)
    return Delays(
        transfer_s, ahead_gcycles / capacity_gcycles_s, workload_gcycles / capacity_gcycles_s, result_mbit / rate_mbit_s
    )


def drain_backlog(backlog_gcycles: Tensor, placed_gcycles: Tensor, capacity_gcycles_s: Tensor, slot_s: float) -> Tensor:
    """Backlog after a slot: q ← max(q + q_bef − f Δ, 0) (docs/spec/ladts.md §2)."""
    return (backlog_gcycles + placed_gcycles - capacity_gcycles_s * slot_s).clamp_min_(0)


def work_ahead(queue: Tensor, workload_gcycles: Tensor, queues: int) -> tuple[Tensor, Tensor]:
    """Work placed on the same queue by earlier entries, and the total per queue.

    A stable sort by queue and a cumulative sum per segment, so the cost is O(M log M) whatever the number of queues.
    Sums run in float64: a float32 running sum over a large batch would lose the small tasks.

    Args:
        queue: Queue of each entry, in order of service ``[M]``, values in ``[0, queues)``.
        workload_gcycles: Work of each entry ``[M]``.
        queues: Number of queues.

    Returns:
        Work ahead of each entry ``[M]`` and total work per queue ``[queues]``, both float64.
    """
    key = queue.to(torch.int16) if queues <= torch.iinfo(torch.int16).max else queue
    if key.device.type == "cpu":  # numpy's stable sort of 16-bit integers is a radix sort, several times faster
        order = torch.from_numpy(np.argsort(key.numpy(), kind="stable"))
    else:
        order = torch.argsort(key, stable=True)
    work = workload_gcycles.double()
    placed = torch.zeros(queues, dtype=torch.float64, device=queue.device).index_add_(0, queue, work)
    sorted_work = work[order]
    segment_start = (placed.cumsum(0) - placed)[queue[order]]
    ahead_sorted = (sorted_work.cumsum(0) - sorted_work - segment_start).clamp_min_(0)
    return torch.empty_like(work).index_copy_(0, order, ahead_sorted), placed


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


def until_done(delays: Delays, queue: Tensor, ahead_gcycles: Tensor, workload_gcycles: Tensor, by: Progress) -> Delays:
    """Replace waiting and computing by the time until the queues have really done the work; all ``[M]``."""
    start_s = by.time_to(queue, ahead_gcycles)
    end_s = by.time_to(queue, ahead_gcycles.double() + workload_gcycles)
    dtype = delays.wait_s.dtype
    return replace(delays, wait_s=start_s.to(dtype), compute_s=(end_s - start_s).to(dtype))


@dataclass(frozen=True)
class SlotOutcome:
    """What happened to the tasks placed in one slot, in order of service per copy.

    Attributes:
        copy: Copy of each task ``[M]``.
        edge: Server it arrived at ``[M]``.
        index: Its index n ``[M]``.
        server: Server it was placed on ``[M]``.
        delays: Parts of its service delay ``[M]``, s.
        shape: ``(E, B, N)``.
        amounts: What the terms of the scenario's objective measure, by name ``[M]`` each; none where it names no term.
        cost: What it costs by them ``[M]``; None where that is its delay.
        progress: What the queues could do from the slot on; None if their capacities do not change.
    """

    copy: Tensor
    edge: Tensor
    index: Tensor
    server: Tensor
    delays: Delays
    shape: tuple[int, int, int]
    amounts: Mapping[str, Tensor] = field(default_factory=dict)
    cost: Tensor | None = None
    progress: Progress | None = None

    @property
    def worse(self) -> Tensor:
        """What is to be made small of each task ``[M]``: its cost; where the objective names no term, its delay, s."""
        return self.delays.total_s if self.cost is None else self.cost

    def dense(self, values: Tensor) -> Tensor:
        """Lay values ``[M]`` of the placed tasks out as ``[E, B, N]``, zero where there is no task."""
        return values.new_zeros(self.shape).index_put_((self.copy, self.edge, self.index), values)

    @property
    def rewards(self) -> dict[str, Tensor]:
        """Minus the costs of each router's tasks, summed ``[E, B]``; delays, s, where the objective names no term."""
        return {ROUTER: -self.dense(self.worse).sum(-1)}

    def sum_per_copy(self, values: Tensor) -> Tensor:
        """Sum values ``[M]`` over the tasks of each copy, float64 ``[E]``."""
        return torch.zeros(self.shape[0], dtype=torch.float64, device=values.device).index_add_(
            0, self.copy, values.double()
        )


def in_order_of_service(present: Tensor, by_server: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Leading place, server and index of each of the tasks ``present [E, B, N]``, in order of service, ``[M]`` each."""
    if by_server:
        copy, edge, index = present.nonzero(as_tuple=True)
    else:
        copy, index, edge = present.transpose(1, 2).nonzero(as_tuple=True)
    return copy, edge, index


def place(
    observation: RouterView, server: Tensor, *, check: bool = True, progress: Progress | None = None
) -> tuple[SlotOutcome, Tensor]:
    """Serve the tasks of one slot on the chosen servers: the heart of the simulator, a pure function.

    Args:
        observation: The slot: tasks, backlogs and servers.
        server: Chosen server of each task ``[E, B, N]``, ignored where no task is present.
        check: Refuse servers out of range.
        progress: What the queues can do from this slot on, if their capacities change; waiting and computing then
            last until the work is really done.

    Returns:
        The outcome of the tasks, and the work placed on each server ``[E, B]``, Gcycle.

    Raises:
        ValueError: If a present task was given a server that does not exist, or the shape is wrong.
    """
    tasks = observation.tasks
    copies, servers, width = tasks.present.shape
    if server.shape != tasks.present.shape:
        raise ValueError(f"actions have shape {tuple(server.shape)}, expected {tuple(tasks.present.shape)}")
    copy, edge, index = in_order_of_service(tasks.present, observation.by_server)
    flat = (copy * servers + edge) * width + index
    chosen = server.reshape(-1)[flat].long()
    if check and chosen.numel() and (int(chosen.min()) < 0 or int(chosen.max()) >= servers):
        raise ValueError(f"a task was sent to a server outside 0..{servers - 1}")
    queue = copy * servers + chosen
    workload = tasks.workload_gcycles.reshape(-1)[flat]
    ahead, placed = work_ahead(queue, workload, copies * servers)
    ahead += observation.backlog_gcycles.reshape(-1)[queue]
    link = queue if observation.rate_mbit_s.dim() == 2 else (copy * servers + edge) * servers + chosen
    delays = service_delay(
        tasks.size_mbit.reshape(-1)[flat],
        workload,
        tasks.result_mbit.reshape(-1)[flat],
        chosen == edge,
        ahead.to(workload.dtype),
        observation.capacity_gcycles_s.reshape(-1)[queue],
        observation.rate_mbit_s.reshape(-1)[link],
    )
    if progress is not None:
        delays = until_done(delays, queue, ahead, workload, progress)
    outcome = SlotOutcome(copy, edge, index, chosen, delays, (copies, servers, width), progress=progress)
    return outcome, placed.view(copies, servers).to(workload.dtype)
