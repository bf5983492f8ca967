# SPDX-License-Identifier: Apache-2.0
"""The one loop that plays a world: rules, oracles, trained policies and evaluations of all of them go through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Meter, kind_of
from edgegen.envs.core.world import World


@dataclass(frozen=True)
class Turn:
    """A decision and what came of it.

    Attributes:
        role: Whose decision it was.
        view: What could be known.
        action: What was decided.
        outcome: What came of it, of the world's own type.
    """

    role: str
    view: Any
    action: Tensor
    outcome: Any


Watch = Callable[[Turn], None]
"""Is told of every turn."""


def measuring(meter: Meter) -> Watch:
    """Let a meter watch."""
    return lambda turn: meter.add(turn.role, turn.view, turn.outcome)


@torch.no_grad()
def play(world: World, policy: Policy, explore: bool = True, watch: Watch | None = None) -> None:
    """Play the copies of a freshly reset world to the end of their episodes.

    Args:
        world: The world, changed in place.
        policy: Who decides, for every role of the world.
        explore: As for :meth:`Policy.act`.
        watch: Is told of every turn.

    Raises:
        ValueError: If the policy has not all roles of the world.
        InputError: If a plugin decides something impossible.
    """
    missing = sorted(set(world.roles) - policy.roles)
    if missing:
        raise ValueError(f"the policy {policy.name} does not decide for the role {missing[0]}")
    memory = policy.prepare(world)
    begun: set[str] = set()
    while (role := world.turn) is not None:
        view = world.observe()
        if role not in begun:
            memory |= policy.begin(role, view)
            begun.add(role)
        action, memory = policy.act(role, view, memory, explore)
        try:
            outcome = world.decide(action)
        except ValueError as error:
            if not policy.origin:
                raise
            raise InputError(f"The decision of {policy.origin} for the role '{role}' is impossible: {error}.") from None
        if watch is not None:
            watch(Turn(role, view, action, outcome))


def metered(world: World, policy: Policy, explore: bool = True) -> Meter:
    """Measure what becomes of the copies of a freshly reset world; returns the meter of its kind.

    The world is played turn by turn, unless the policy knows a faster way to the same numbers.
    """
    meter = kind_of(world.scenario).meter(world)
    if not policy.play_through(world, meter):
        play(world, policy, explore, measuring(meter))
    return meter
