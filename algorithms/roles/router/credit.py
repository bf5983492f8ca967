# SPDX-License-Identifier: Apache-2.0
"""What a placement costs everybody: the difference rewards of the improved scheduler.

A task delays itself, and it delays every task that is placed on the same server after it. The second part is not in
the reward of its own server, so servers that learn from their own delays alone crowd more than is good for all of
them. The difference of the total delay with and without the task (Wolpert and Tumer's difference reward) holds both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.view import RouterView


def delay_to_others(outcome: SlotOutcome, left_gcycles: Tensor, capacity_gcycles_s: Tensor) -> Tensor:
    """Delay that each placed task adds to others, s ``[M]``.

    Every later task of the slot on the same server waits for it as long as it computes. If work is left at the end of
    the slot, so do the tasks of the next slot, of which as many are expected as came in this one. What it does beyond
    is not counted.

    Args:
        outcome: The slot.
        left_gcycles: Backlogs after the slot ``[E, B]``.
        capacity_gcycles_s: Capacities ``[E, B]``.
    """
    copies, servers, _ = outcome.shape
    queue = outcome.copy * servers + outcome.server
    order = torch.argsort(queue, stable=True)  # within a queue the order of service is kept
    count = torch.bincount(queue, minlength=copies * servers)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    last = count.cumsum(0)[queue] - 1
    behind = (last - place).to(outcome.delays.compute_s.dtype)
    compute_s = outcome.delays.compute_s
    left_s = (left_gcycles / capacity_gcycles_s).flatten()[queue]
    return compute_s * behind + torch.minimum(compute_s, left_s) * count[queue]


def own_delay(outcome: SlotOutcome, after: RouterView) -> Tensor:
    """Cost of each placed task itself ``[M]``: its delay, s, as published, or what the objective says."""
    del after
    return outcome.worse


def all_delay(outcome: SlotOutcome, after: RouterView) -> Tensor:
    """Cost of each placed task, and of the delay that it adds to others ``[M]``; s where delay is the objective."""
    truth = after.truth
    others_s = delay_to_others(outcome, truth.backlog_gcycles, truth.capacity_gcycles_s)
    weight = 1.0 if after.objective is None else after.objective.weight("delay")
    return outcome.worse + (others_s if weight == 1.0 else weight * others_s)


CREDITS: dict[str, Callable[[SlotOutcome, RouterView], Tensor]] = {
    "own": own_delay,
    "all": all_delay,
    "everywhere": all_delay,
}
"""What a placement costs, from a slot and what is seen after it, by the name that the setting ``credit`` uses."""
