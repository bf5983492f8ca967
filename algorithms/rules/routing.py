# SPDX-License-Identifier: Apache-2.0
"""Simple rules: the schedulers that every learned policy is compared with.

Rules are grouped by what they know. All know the servers' capacities and rates. "Own tasks" are the tasks of the
server that decides; the others' tasks and placements in the same slot are unknown to it, except to Opt-TS.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy, sample_shares
from edgegen.envs.offloading.physics import in_order_of_service, service_delay
from edgegen.envs.offloading.terms import Facts
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks

COMPILED = 100_000
"""From how many pairs of a place for a task and a server on a slot is placed by compiled code."""


class RoutingRule(Policy):
    """A rule that chooses where tasks run."""

    roles = frozenset({ROUTER})


class Uniform(RoutingRule):
    """Any server with equal probability."""

    name = "uniform"
    information = "nothing"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        present = view.tasks.present
        random = self.random(tuple(present.shape), view.backlog_gcycles)
        return (random * present.shape[1]).long().clamp_max_(present.shape[1] - 1), memory


class Local(RoutingRule):
    """Every task stays on the server it arrived at."""

    name = "local"
    information = "nothing"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        present = view.tasks.present
        return torch.arange(present.shape[1], device=present.device)[:, None].expand(present.shape), memory


class RoundRobin(RoutingRule):
    """Each server deals its own tasks to the servers in turn, starting with itself, across slots."""

    name = "round-robin"
    information = "nothing"

    def begin(self, role: str, view: RouterView) -> Memory:
        """Start every server's turn at itself, ``turn [E, B]``."""
        copies, servers, _ = view.tasks.present.shape
        return {"turn": torch.arange(servers, device=view.backlog_gcycles.device).expand(copies, servers)}

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        present = view.tasks.present.long()
        placed_before = present.cumsum(-1) - present
        servers = present.shape[1]
        turn = memory["turn"]
        return (turn[..., None] + placed_before) % servers, {"turn": (turn + present.sum(-1)) % servers}


class CapacityWeighted(RoutingRule):
    """Random with probability proportional to capacity; the static rule to beat."""

    name = "capacity-weighted"
    information = "capacities"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        present = view.tasks.present
        random = self.random(tuple(present.shape), view.backlog_gcycles)
        share = view.capacity_gcycles_s
        return sample_shares(share, random.flatten(1)).view(present.shape), memory


class WaterFilling(RoutingRule):
    """Fill the slot-start queues up to a common waiting time, then place at random by each server's share of the fill.

    A server estimates the slot's total work as its own work times the number of servers.
    """

    name = "water-filling"
    information = "slot-start backlogs"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        tasks = view.tasks
        servers = tasks.present.shape[1]
        own = (tasks.workload_gcycles * tasks.present).sum(-1)  # [E, B]
        share = water_fill(
            view.backlog_gcycles[:, None].expand(-1, servers, -1),
            view.capacity_gcycles_s[:, None].expand(-1, servers, -1),
            servers * own,
        )
        return sample_shares(share, self.random(tuple(tasks.present.shape), own)), memory


def water_fill(backlog_gcycles: Tensor, capacity_gcycles_s: Tensor, work_gcycles: Tensor) -> Tensor:
    """Divide work over queues so that all that receive some end at the same waiting time.

    Args:
        backlog_gcycles: Backlogs q ``[..., K]``.
        capacity_gcycles_s: Capacities f ``[..., K]``.
        work_gcycles: Work to divide ``[...]``; taken as tiny but positive where zero.

    Returns:
        Work for each queue ``[..., K]``, non-negative, summing to ``work_gcycles``: x = max(f·level − q, 0). Where the
        work is too small to change a backlog in this precision, all of it goes to the queue with the shortest wait.
    """
    wait, order = (backlog_gcycles / capacity_gcycles_s).sort(-1)
    backlog = backlog_gcycles.gather(-1, order)
    capacity = capacity_gcycles_s.gather(-1, order)
    # With the k shortest queues in use the level is (work + Σ q) / Σ f; it holds if it does not reach queue k+1.
    level = (work_gcycles.clamp_min(1e-6)[..., None] + backlog.cumsum(-1)) / capacity.cumsum(-1)
    used = (level > wait).sum(-1, keepdim=True).clamp_min(1)  # level > wait is true for a prefix
    fill = (capacity_gcycles_s * level.gather(-1, used - 1) - backlog_gcycles).clamp_min(0)
    shortest = torch.zeros_like(fill).scatter(-1, order[..., :1], work_gcycles.clamp_min(1e-6)[..., None])
    return torch.where(fill.sum(-1, keepdim=True) > 0, fill, shortest)


class PowerOfTwo(RoutingRule):
    """Draw two servers with probability proportional to capacity, take the one with the shorter slot-start wait."""

    name = "power-of-two"
    information = "slot-start backlogs of two servers"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        shape = tuple(view.tasks.present.shape)
        capacity = view.capacity_gcycles_s
        wait = view.backlog_gcycles / capacity
        first, second = (sample_shares(capacity, self.random(shape, capacity).flatten(1)) for _ in range(2))
        shorter = torch.where(wait.gather(1, second) < wait.gather(1, first), second, first)
        return shorter.view(shape), memory


class LeastDelay(RoutingRule):
    """The least delay a server can expect from what it knows itself; the least cost, where the objective names terms.

    That is the observed backlog plus the work it has placed itself in this slot, scaled by the number of servers on
    the assumption that the others do as it does.
    """

    name = "least-delay"
    information = "slot-start backlogs, own placements in the slot"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        if worth_compiling(view):
            return self._compiled(view), memory
        return self._in_torch(view), memory

    def _compiled(self, view: RouterView) -> Tensor:
        from edgegen.algorithms.rules import routing_kernel as kernel

        chosen = torch.empty_like(view.tasks.present, dtype=torch.long, memory_format=torch.contiguous_format)
        room = kernel.scratch(view.backlog_gcycles)
        kernel.place_least_delay(kernel.slot_of(view), room.dtype.type(room.shape[1]), chosen.numpy(), room)
        return chosen

    def _in_torch(self, view: RouterView) -> Tensor:
        tasks = view.tasks
        copies, servers, _ = tasks.present.shape
        own = view.backlog_gcycles.new_zeros(copies, servers, servers)
        chosen = torch.zeros_like(tasks.present, dtype=torch.long)
        for n in occupied(tasks):  # a server's own tasks in turn; copies and servers side by side
            task = tasks.at_index(n)
            ahead = view.backlog_gcycles[:, None] + servers * own
            best = expected_cost(view, task, ahead).argmin(-1)
            chosen[..., n] = best
            own.scatter_add_(-1, best[..., None], (task.workload_gcycles * task.present)[..., None])
        return chosen


class OptTS(RoutingRule):
    """Greedy with full knowledge: each task, in order of service, where it costs least given all placed before.

    The published upper bound. It is myopic, not a true optimum, and no server could know what it uses.
    """

    name = "opt-ts"
    information = "everything placed before, by all servers"

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        if worth_compiling(view):
            return self._compiled(view.truth), memory
        return self._in_torch(view.truth), memory

    def _compiled(self, view: RouterView) -> Tensor:
        from edgegen.algorithms.rules import routing_kernel as kernel

        chosen = torch.empty_like(view.tasks.present, dtype=torch.long, memory_format=torch.contiguous_format)
        room = kernel.scratch(view.backlog_gcycles)
        kernel.place_knowing_all(kernel.slot_of(view), view.by_server, chosen.numpy(), room)
        return chosen

    def _in_torch(self, view: RouterView) -> Tensor:
        tasks = view.tasks
        chosen = torch.zeros_like(tasks.present, dtype=torch.long)
        ahead = view.backlog_gcycles.clone()
        work = tasks.workload_gcycles * tasks.present
        # Places that are empty in all copies are skipped.
        _, servers, indices = in_order_of_service(tasks.present.any(0, keepdim=True), view.by_server)
        alone = None  # a delay is that without any work ahead, and the wait; another objective may be anything
        if view.objective is None:
            alone = expected_delay(view, tasks, torch.zeros_like(ahead)[:, None, None])  # [E, B, N, B]
        for n, b in zip(
            indices.tolist(), servers.tolist(), strict=True
        ):  # inherently sequential: each choice depends on all before it
            if alone is None:
                cost = expected_cost(view, tasks.at_index(n), ahead[:, None], origin=b)[:, 0]
            else:
                cost = alone[:, b, n] + ahead / view.capacity_gcycles_s
            best = cost.argmin(-1, keepdim=True)
            chosen[:, b, n] = best[:, 0]
            ahead.scatter_add_(1, best, work[:, b, n, None])
        return chosen


def worth_compiling(view: RouterView) -> bool:
    """Whether a slot is so large that compiled code pays for its own import.

    On a GPU and with an objective, whose terms may be anything, it stays in torch. Both give the same decisions.
    """
    if view.backlog_gcycles.is_cuda or view.objective is not None:
        return False
    return view.tasks.present.numel() * view.backlog_gcycles.shape[1] >= COMPILED


def occupied(tasks: Tasks) -> list[int]:
    """Return the columns in which any copy has a task; a live service shows one request at a time."""
    columns: list[int] = tasks.present.flatten(0, 1).any(0).nonzero().flatten().tolist()
    return columns


def expected_delay(view: RouterView, tasks: Tasks, ahead_gcycles: Tensor) -> Tensor:
    """Service delay each task would have on each server.

    Args:
        view: The servers.
        tasks: Tasks ``[E, B]`` or ``[E, B, N]``.
        ahead_gcycles: Work ahead on each server, broadcasting with ``[E, B, (N,) B]``.

    Returns:
        Delays ``[E, B, (N,) B]``, s; the last axis is the server.
    """
    return expected_facts(view, tasks, ahead_gcycles, slice(None)).delays.total_s


def expected_cost(view: RouterView, tasks: Tasks, ahead_gcycles: Tensor, origin: int | None = None) -> Tensor:
    """What each task would cost on each server by the objective of its world; the delay, s, if that names no term.

    Args:
        view: The servers.
        tasks: Tasks ``[E, B]`` or ``[E, B, N]``.
        ahead_gcycles: Work ahead on each server, broadcasting with ``[E, B, (N,) B]``.
        origin: Where tasks arrived that are asked about; everywhere if None. The axis B of origins then has length 1.

    Returns:
        Costs ``[E, B, (N,) B]``; the last axis is the server.
    """
    facts = expected_facts(view, tasks, ahead_gcycles, slice(None) if origin is None else slice(origin, origin + 1))
    if view.objective is None:
        return facts.delays.total_s
    cost: Tensor = view.objective.cost(facts)
    return cost


def expected_facts(view: RouterView, tasks: Tasks, ahead_gcycles: Tensor, origins: slice) -> Facts:
    """What would happen to tasks of some origins on each server; tensors broadcast with ``[E, B, (N,) B]``.

    Args:
        view: The servers.
        tasks: Tasks ``[E, B]`` or ``[E, B, N]``.
        ahead_gcycles: Work ahead on each server, broadcasting with ``[E, B, (N,) B]``.
        origins: Where tasks arrived that are asked about.
    """
    copies, servers = tasks.present.shape[:2]
    extra = (1,) * (tasks.present.dim() - 2)
    local = torch.eye(servers, dtype=torch.bool, device=ahead_gcycles.device).view(1, servers, *extra, servers)
    per_server = (copies, 1, *extra, servers)
    per_link = (copies, servers if view.rate_mbit_s.dim() == 3 else 1, *extra, servers)
    rate = view.rate_mbit_s.view(per_link)
    size, work, result = (
        values[:, origins, ..., None] for values in (tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit)
    )
    own = local[:, origins]
    delays = service_delay(
        size,
        work,
        result,
        own,
        ahead_gcycles,
        view.capacity_gcycles_s.view(per_server),
        rate[:, origins] if rate.shape[1] > 1 else rate,
    )
    slot_s = 0.0 if view.objective is None else view.objective.scenario.slot_s
    server = torch.arange(servers, device=ahead_gcycles.device)
    return Facts(server, own, size, work, result, delays, view.slot * slot_s)
