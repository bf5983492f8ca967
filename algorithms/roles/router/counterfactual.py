# SPDX-License-Identifier: Apache-2.0
"""What every placement of a slot would have cost on every server, all else as it was: the same arrivals replayed.

A reward tells a learner about one server out of B, the one that was chosen. The physics of a slot is known once it is
over: queues are served in order, so what a task would have cost elsewhere follows from sums of the work served before
it and the number of tasks behind it. Critics that learn from all B of them need fewer slots, and no exploration.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgegen.algorithms.rules.routing import expected_facts
from edgegen.envs.offloading.physics import Progress, SlotOutcome, until_done
from edgegen.envs.offloading.terms import Facts
from edgegen.envs.offloading.view import RouterView


def cost_everywhere(view: RouterView, chosen: Tensor, outcome: SlotOutcome, slot_s: float, slots: int = 1) -> Tensor:
    """Cost of each task on each server, and of the delay that it adds to others ``[E, B, N, B]``.

    On the chosen server the first part is what it has cost. Of the others, tasks behind it in the slot wait for it as
    long as it computes, and those of the next slots, of which as many are expected as came in this one, as long as it
    makes the backlog longer. Later tasks of its own server would have gone elsewhere if it had; what they wait is taken
    to be what those of an average other server do, on whatever server the task is put.

    Args:
        view: The slot as it really was.
        chosen: Server of each task ``[E, B, N]``.
        outcome: What came of it.
        slot_s: Slot length, s.
        slots: Slots after the present one that count.

    Returns:
        Costs, s where delay is the objective; of no meaning where there is no task.
    """
    tasks = view.tasks
    servers = tasks.present.shape[1]
    number = torch.nn.functional.one_hot(chosen, servers).double() * tasks.present[..., None]  # [E, origin, N, B]
    work = tasks.workload_gcycles.double()[..., None]
    gcycles = number * work
    backlog, capacity = (values.double()[:, None, None] for values in (view.backlog_gcycles, view.capacity_gcycles_s))
    ahead = backlog + served_before(gcycles, view.by_server)
    facts = expected_facts(view, tasks, ahead.to(tasks.workload_gcycles.dtype), slice(None))
    if outcome.progress is not None:
        facts = _really(facts, ahead, outcome.progress)
    own = facts.delays.total_s if view.objective is None else view.objective.cost(facts)

    of_others = servers / max(servers - 1, 1)
    placed, by_origin = number.sum((1, 2), keepdim=True), number.sum(2, keepdim=True)
    behind = placed - served_before(number, view.by_server) - number  # all that are served after it
    behind = (behind - (by_origin - number.cumsum(2))) * of_others
    drained = capacity * slot_s
    without = backlog + gcycles.sum((1, 2), keepdim=True) - gcycles - drained
    backlog_without, backlog_with = without.clamp_min(0), (without + work).clamp_min(0)
    longer = backlog_with - backlog_without
    load = gcycles.sum((1, 2, 3), keepdim=True) / drained.sum(-1, keepdim=True)
    for later in range(1, slots):  # backlogs grow or fall as this slot's load lets expect, on all servers alike
        change = later * (load - 1) * drained
        longer = longer + (backlog_with + change).clamp_min(0) - (backlog_without + change).clamp_min(0)
    part = longer / work.clamp_min(1e-9)  # of the task that is still to be computed then, summed over those slots
    others_s = facts.delays.compute_s * (behind + part * (placed - by_origin) * of_others)
    weight = 1.0 if view.objective is None else view.objective.weight("delay")
    return own + (weight * others_s).to(own.dtype)


def served_before(values: Tensor, by_server: bool) -> Tensor:
    """Sums of values ``[E, B, N, ...]`` over all tasks that are served before each."""
    if not by_server:
        values = values.transpose(1, 2)
    flat = values.flatten(1, 2)
    before = (flat.cumsum(1) - flat).view_as(values)
    return before if by_server else before.transpose(1, 2)


def _really(facts: Facts, ahead: Tensor, progress: Progress) -> Facts:
    """Let waiting and computing last until that work is really done, where capacities change.

    Args:
        facts: What would happen if they did not.
        ahead: Work that is done before, Gcycle.
        progress: What the queues can do.
    """
    copies, servers = ahead.shape[0], ahead.shape[-1]
    queue = torch.arange(copies * servers, device=ahead.device).view(copies, 1, 1, servers)
    queue, work = queue.expand_as(ahead).flatten(), facts.workload_gcycles.expand_as(ahead).flatten()
    timed = until_done(facts.delays, queue, ahead.flatten(), work, progress)
    wait_s, compute_s = (part.view(ahead.shape) for part in (timed.wait_s, timed.compute_s))
    return replace(facts, delays=replace(facts.delays, wait_s=wait_s, compute_s=compute_s))
