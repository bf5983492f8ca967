# SPDX-License-Identifier: Apache-2.0
"""Rules that place task after task, compiled: the numbers of the torch code in the rules, in the same order.

Each task is placed where it costs least given what was placed before it. That is sequential by nature, and in torch
every task costs a dozen small operations. Here the costs of a task on all servers are one loop that becomes vectors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgegen.envs.core.compiled import compiled
from edgegen.envs.offloading.view import RouterView

Array = NDArray[Any]
Slot = tuple[Array, Array, Array, Array, Array, Array, Array]
"""Tasks present, sizes, work and results ``[E, B, N]``, backlogs and capacities ``[E, B]``, rates ``[E, 1|B, B]``."""


def slot_of(view: RouterView) -> Slot:
    """A view as arrays, without copies where it lies in one piece."""
    tasks = view.tasks
    rate = view.rate_mbit_s if view.rate_mbit_s.dim() == 3 else view.rate_mbit_s[:, None]
    parts = (
        tasks.present,
        tasks.size_mbit,
        tasks.workload_gcycles,
        tasks.result_mbit,
        view.backlog_gcycles,
        view.capacity_gcycles_s,
        rate,
    )
    present, size, work, result, backlog, capacity, rates = (part.contiguous().numpy() for part in parts)
    return present, size, work, result, backlog, capacity, rates


def scratch(like: Tensor, rows: int = 2) -> Array:
    """Rows of memory for the kernels, one number for each server, of the type of a tensor ``[E, B]``."""
    return np.zeros((rows, like.shape[1]), like.numpy().dtype)


@compiled
def _cheapest(cost: Array) -> int:
    best = 0
    for i in range(1, len(cost)):
        if cost[i] < cost[best]:
            best = i
    return best


@compiled
def place_least_delay(slot: Slot, counted: Any, chosen: Array, memory: Array) -> None:
    """Place each server's own tasks in turn where their expected delay is least.

    Args:
        slot: The slot.
        counted: How many times own placements of the slot count, of the type of the arrays.
        chosen: Takes the servers ``[E, B, N]``, 0 where there is no task.
        memory: Two rows of scratch.
    """
    present, size, work, result, backlog, capacity, rates = slot
    copies, servers, width = present.shape
    own, cost = memory[0], memory[1]
    for e in range(copies):
        for b in range(servers):
            rate = rates[e, b] if rates.shape[1] > 1 else rates[e, 0]
            for i in range(servers):
                own[i] = 0
            for n in range(width):
                if not present[e, b, n]:
                    chosen[e, b, n] = 0
                    continue
                d, w, r = size[e, b, n], work[e, b, n], result[e, b, n]
                for i in range(servers):
                    wait = (backlog[e, i] + counted * own[i]) / capacity[e, i]
                    cost[i] = d / rate[i] + wait + w / capacity[e, i] + r / rate[i]
                cost[b] = (backlog[e, b] + counted * own[b]) / capacity[e, b] + w / capacity[e, b] + r / rate[b]
                best = _cheapest(cost)
                own[best] += w
                chosen[e, b, n] = best


@compiled
def place_knowing_all(slot: Slot, by_server: bool, chosen: Array, memory: Array) -> None:
    """Place all tasks in order of service, each where its delay is least given all that were placed before.

    Args:
        slot: The slot, as it really is.
        by_server: Whether tasks are served server by server.
        chosen: Takes the servers ``[E, B, N]``, 0 where there is no task.
        memory: Two rows of scratch.
    """
    present, size, work, result, backlog, capacity, rates = slot
    copies, servers, width = present.shape
    ahead, cost = memory[0], memory[1]
    for e in range(copies):
        for i in range(servers):
            ahead[i] = backlog[e, i]
        for place in range(servers * width):
            if by_server:
                b, n = place // width, place % width
            else:
                n, b = place // servers, place % servers
            if not present[e, b, n]:
                chosen[e, b, n] = 0
                continue
            rate = rates[e, b] if rates.shape[1] > 1 else rates[e, 0]
            d, w, r = size[e, b, n], work[e, b, n], result[e, b, n]
            for i in range(servers):
                cost[i] = d / rate[i] + w / capacity[e, i] + r / rate[i] + ahead[i] / capacity[e, i]
            cost[b] = w / capacity[e, b] + r / rate[b] + ahead[b] / capacity[e, b]
            best = _cheapest(cost)
            ahead[best] += w
            chosen[e, b, n] = best


@compiled
def place_at_prices(
    slot: Slot, patience: Array, pushed: Array, constants: tuple[Any, Any, Any, Any], chosen: Array, memory: Array
) -> None:
    """Place each server's own tasks in turn where they cost least, as :class:`PricedGreedy` prices them.

    Args:
        slot: The slot.
        patience: What a wait weighs beyond 1 for each task ``[E, B, N]``.
        pushed: Work that each task stands for where it pushes others back ``[E, B, N]``, Gcycle.
        constants: How many times own placements count, ``work_price``, ``push_price`` and ``push_decay_s``, of the type
            of the arrays.
        chosen: Takes the servers ``[E, B, N]``, 0 where there is no task.
        memory: Three rows of scratch.
    """
    present, size, work, result, backlog, capacity, rates = slot
    counted, work_price, push_price, decay = constants
    copies, servers, width = present.shape
    own, cost, wait = memory[0], memory[1], memory[2]
    for e in range(copies):
        for b in range(servers):
            rate = rates[e, b] if rates.shape[1] > 1 else rates[e, 0]
            for i in range(servers):
                own[i] = 0
            for n in range(width):
                if not present[e, b, n]:
                    chosen[e, b, n] = 0
                    continue
                d, w, r = size[e, b, n], work[e, b, n], result[e, b, n]
                heavy, back = patience[e, b, n], push_price * pushed[e, b, n]
                for i in range(servers):
                    wait[i] = (backlog[e, i] + counted * own[i]) / capacity[e, i]
                    cost[i] = d / rate[i] + wait[i] + w / capacity[e, i] + r / rate[i]
                cost[b] = wait[b] + w / capacity[e, b] + r / rate[b]
                shortest = wait[_cheapest(wait)]
                for i in range(servers):
                    cost[i] = cost[i] + heavy * wait[i] + work_price * (w / capacity[e, i])
                if push_price > 0:
                    for i in range(servers):
                        cost[i] = cost[i] + back / capacity[e, i] * math.exp((shortest - wait[i]) / decay)
                best = _cheapest(cost)
                own[best] += w
                chosen[e, b, n] = best
