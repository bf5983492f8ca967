# SPDX-License-Identifier: Apache-2.0
"""Greedy placement by a price: what a task costs itself, and what it costs those who come after it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.tunable import Constants, Tunable, constant
from edgegen.algorithms.rules.routing import RoutingRule, expected_cost, occupied, worth_compiling
from edgegen.envs.offloading.view import RouterView


class Prices(Constants):
    """Constants of :class:`PricedGreedy`; with the defaults it is ``least-delay``.

    Attributes:
        crowding: How far the others are taken to place as the server itself does, a in 1 + a(B − 1); 1 is fully.
        patience: How much less waits count for large tasks, κ in (w/w̄)^−κ.
        work_price: Weight of the time that the task takes on the server, k₀, besides being part of the delay.
        push_price: Price of making those behind wait, k, in tasks.
        push_power: How it grows with the work of the task, p in (w/w̄)^p.
        push_decay_s: How fast it falls where the wait is longer than the shortest, τ: fewer will come there, s.
    """

    crowding: float = constant(1.0, 0.0, 4.0)
    patience: float = constant(0.0, 0.0, 4.0)
    work_price: float = constant(0.0, 0.0, 12.0)
    push_price: float = constant(0.0, 0.0, 40.0)
    push_power: float = constant(1.0, 0.0, 2.0)
    push_decay_s: float = constant(1.0, 0.03, 30.0, log=True)


class PricedGreedy(RoutingRule):
    """Every task where it costs least, with prices.

    Cost of server i for a task of work w, with the wait W_i that is expected there:

        delay with W_i weighed by (w/w̄)^−κ  +  k₀·w/f_i  +  w̄·(w/w̄)^p/f_i·k·exp(−(W_i − min W)/τ)

    The wait counts the reported backlog and own placements of the slot, times 1 + a(B − 1). w̄ is the mean work of own
    tasks, of the slot and of those before. The form is ours.

    Args:
        prices: The constants.
        seed: Not used: the rule is deterministic.
    """

    name = "priced-greedy"
    information = "slot-start backlogs, own placements in the slot, mean work of own tasks with the slot's"
    constants: ClassVar[type[Constants]] = Prices

    def __init__(self, prices: Prices | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.prices = prices or Prices()

    def begin(self, role: str, view: RouterView) -> Memory:
        """Begin without any task: work and number of own tasks ``[E, B]``."""
        nothing = torch.zeros_like(view.backlog_gcycles)
        return {"work_gcycles": nothing, "tasks": nothing}

    def act(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        tasks = view.tasks
        done = memory["work_gcycles"] + (tasks.workload_gcycles * tasks.present).sum(-1)
        count = memory["tasks"] + tasks.present.sum(-1)
        mean = torch.where(count > 0, done / count.clamp_min(1), torch.ones_like(done)).clamp_min(1e-9)
        chosen = (self._compiled if worth_compiling(view) else self._in_torch)(view, mean)
        return chosen, {"work_gcycles": done, "tasks": count}

    def _compiled(self, view: RouterView, mean: Tensor) -> Tensor:
        from edgegen.algorithms.rules import routing_kernel as kernel

        prices, room = self.prices, kernel.scratch(view.backlog_gcycles, 3)
        relative = (view.tasks.workload_gcycles / mean[..., None]).clamp_min(1e-6)
        patience, pushed = relative**-prices.patience - 1, mean[..., None] * relative**prices.push_power
        number = room.dtype.type
        constants = (
            number(1 + prices.crowding * (room.shape[1] - 1)),
            number(prices.work_price),
            number(prices.push_price),
            number(prices.push_decay_s),
        )
        chosen = torch.empty_like(view.tasks.present, dtype=torch.long, memory_format=torch.contiguous_format)
        kernel.place_at_prices(kernel.slot_of(view), patience.numpy(), pushed.numpy(), constants, chosen.numpy(), room)
        return chosen

    def _in_torch(self, view: RouterView, mean: Tensor) -> Tensor:
        tasks, prices = view.tasks, self.prices
        copies, servers, _ = tasks.present.shape
        capacity = view.capacity_gcycles_s[:, None]
        counted = 1 + prices.crowding * (servers - 1)
        own = view.backlog_gcycles.new_zeros(copies, servers, servers)
        chosen = torch.zeros_like(tasks.present, dtype=torch.long)
        for n in occupied(tasks):  # a server's own tasks in turn; copies and servers side by side
            task = tasks.at_index(n)
            ahead = view.backlog_gcycles[:, None] + counted * own
            wait_s = ahead / capacity
            relative = (task.workload_gcycles / mean).clamp_min(1e-6)[..., None]
            taken_s = task.workload_gcycles[..., None] / capacity
            cost = expected_cost(view, task, ahead) + (relative**-prices.patience - 1) * wait_s
            cost = cost + prices.work_price * taken_s
            behind = torch.exp((wait_s.amin(-1, keepdim=True) - wait_s) / prices.push_decay_s)
            pushed_s = mean[..., None] * relative**prices.push_power / capacity
            best = (cost + prices.push_price * pushed_s * behind).argmin(-1)
            chosen[..., n] = best
            own.scatter_add_(-1, best[..., None], (task.workload_gcycles * task.present)[..., None])
        return chosen


PRICED_GREEDY = Tunable(Prices, lambda scenario, prices, seed: PricedGreedy(prices, seed))
"""The entry for the rule book."""
