# SPDX-License-Identifier: Apache-2.0
"""What a set policy remembers from slot to slot: where each server has sent work lately, and how much comes in.

All of it is a server's own: work of its own users and its own decisions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.roles.router.set_arrivals import SUMS, add_arrivals, close_slots
from edgegen.algorithms.roles.router.set_view import LOOK_BACK, RECENT_RATE
from edgegen.envs.offloading.view import RouterView, Tasks

PLACED = "placed_gcycles"
"""Work each server has probably placed on each, by slot modulo K ``[E, B, K, B]``."""

SLOT = "placed_slot"
"""Slot that each of the K entries is of ``[E, K]``; -1 for none."""

ARRIVED = "arrived_gcycles"
"""Running sum of each server's own arrivals in the slots before, of its weights, and arrivals so far in the present
slot ``[E, B, 3]``."""

SEEN = "arrivals_seen"
"""Running sums of each server's own arrivals ``[E, B, SUMS]``, see :mod:`.set_arrivals`."""


def empty_memory(observation: RouterView) -> Memory:
    """Return a memory of nothing."""
    copies, servers, _ = observation.tasks.present.shape
    like = observation.backlog_gcycles
    return {
        PLACED: like.new_zeros(copies, servers, LOOK_BACK, servers),
        SLOT: torch.full((copies, LOOK_BACK), -1, dtype=torch.long, device=like.device),
        ARRIVED: like.new_zeros(copies, servers, 3),
        SEEN: like.new_zeros(copies, servers, SUMS),
    }


def begin_slot(memory: Memory, slot: int) -> None:
    """Close the slots before and forget what the place of this one held, in place.

    A service comes once for every request: many times in a slot, and not at all in a slot without requests.
    """
    place = slot % LOOK_BACK
    if bool((memory[SLOT] > slot).any()):  # a new episode
        for values in (memory[PLACED], memory[ARRIVED], memory[SEEN]):
            values.zero_()
        memory[SLOT].fill_(-1)
    if not bool((memory[SLOT][:, place] == slot).all()):
        memory[PLACED][:, :, place] = 0
        begun = int(memory[SLOT].max())
        memory[SLOT][:, place] = slot
        if begun >= 0:
            _close(memory[ARRIVED], slot - begun)
            close_slots(memory[SEEN], slot - begun)


def _close(arrived: Tensor, slots: int) -> None:
    """Take the arrivals of a slot into the running mean, and then slots - 1 without any, in place."""
    kept = (1 - RECENT_RATE) ** slots
    for part, added in ((arrived[..., 0], arrived[..., 2]), (arrived[..., 1], 1.0)):
        part += RECENT_RATE * added
        part *= kept
    arrived[..., 1] += 1 - RECENT_RATE - kept
    arrived[..., 2] = 0


def before(memory: Memory, slot: int, arriving_gcycles: Tensor) -> Tensor:
    """Work that all servers together have probably placed in the slots before, newest first ``[E, B, K, B]``.

    A server takes it that the others have spread their work as it has, and that as much came in as does on average.

    Args:
        memory: The memory.
        slot: The present slot.
        arriving_gcycles: Work that reaches all servers in a slot on average, by observer ``[E, B]``.
    """
    ago = torch.arange(1, LOOK_BACK + 1, device=memory[SLOT].device)
    place = (slot - ago) % LOOK_BACK
    known = (memory[SLOT][:, place] == slot - ago) & (ago <= slot)  # [E, K]
    placed = memory[PLACED][:, :, place] * known[:, None, :, None]
    return placed / placed.sum(-1, keepdim=True).clamp_min(1e-9) * arriving_gcycles[..., None, None]


def recent_arrivals(memory: Memory) -> Tensor:
    """Running mean of each server's own arrivals in the slots before ``[E, B]``, Gcycle; 0 at first."""
    return memory[ARRIVED][..., 0] / memory[ARRIVED][..., 1].clamp_min(1e-6)


def remember(memory: Memory, slot: int, expected_gcycles: Tensor, tasks: Tasks) -> None:
    """Add the placements and tasks of a slot, or of a part of it, in place."""
    memory[PLACED][:, :, slot % LOOK_BACK] += expected_gcycles
    memory[ARRIVED][..., 2] += (tasks.workload_gcycles * tasks.present).sum(-1)
    add_arrivals(memory[SEEN], tasks.present, tasks.workload_gcycles)
