# SPDX-License-Identifier: Apache-2.0
"""What every array env runner shares: fragments of transitions in tensors instead of Python episodes.

RLlib's own multi-agent runner keeps one Python object per agent and step and is about a hundred times slower than the
batched simulators. The runners here play E copies of a simulator with all agents in one forward pass and return
tensors. They keep RLlib's contract (weights, state, metrics, evaluation, restarts).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor


@dataclass(frozen=True)
class Fragment:
    """Transitions of some consecutive decisions of a role, grouped like the weights they train.

    Attributes:
        columns: Tensors ``[G, rows, ...]`` by name, rows in order of time.
        valid: Which rows are transitions ``[G, rows]``.
    """

    columns: dict[str, Tensor]
    valid: Tensor

    @classmethod
    def whole(cls, columns: dict[str, Tensor]) -> Fragment:
        """Make one whose rows are all transitions."""
        return cls(columns, torch.ones(columns[Columns.OBS].shape[:2], dtype=torch.bool))


@dataclass(frozen=True)
class JointFragment:
    """Transitions of all roles from some consecutive rounds.

    Attributes:
        roles: What each role met, by name.
        slots: Slots played, summed over copies.
        rounds: Rounds played, summed over copies.
    """

    roles: dict[str, Fragment]
    slots: int
    rounds: int

    def env_steps(self) -> int:
        """Slots played (RLlib's evaluation asks for it)."""
        return self.slots

    def agent_steps(self) -> int:
        """Decisions made."""
        return sum(int(fragment.valid.sum()) for fragment in self.roles.values())


def concatenate(fragments: list[Fragment]) -> Fragment:
    """Join fragments in order of time."""
    if len(fragments) == 1:
        return fragments[0]
    names = fragments[0].columns
    return Fragment(
        {name: torch.cat([fragment.columns[name] for fragment in fragments], 1) for name in names},
        torch.cat([fragment.valid for fragment in fragments], 1),
    )


def joined(rounds: list[JointFragment]) -> list[JointFragment]:
    """Join rounds in order of time, one fragment for each stretch whose states have the same lengths."""

    def lengths(part: JointFragment) -> list[int]:
        return [fragment.columns[Columns.OBS].shape[-1] for fragment in part.roles.values()]

    return [_join(list(stretch)) for _, stretch in groupby(rounds, key=lengths)]


def _join(rounds: list[JointFragment]) -> JointFragment:
    return JointFragment(
        {role: concatenate([part.roles[role] for part in rounds]) for role in rounds[0].roles},
        sum(part.slots for part in rounds),
        sum(part.rounds for part in rounds),
    )
