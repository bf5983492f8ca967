"""What every array env runner shares: fragments of transitions in tensors instead of Python episodes.

RLlib's own multi-agent runner keeps one Python object per agent and step and is about a hundred times slower than the
batched simulators. The runners here play E copies of a simulator with all agents in one forward pass and return
tensors. They keep RLlib's contract (weights, state, metrics, evaluation, restarts).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fragment:
    """Transitions of some consecutive slots, grouped like the weights they train.

    Attributes:
        columns: Tensors ``[G, rows, ...]`` by name, rows in order of time.
        valid: Which rows are transitions ``[G, rows]``.
        slots: Slots played, summed over copies.
    """

    columns: dict[str, Tensor]
    valid: Tensor
    slots: int

    def env_steps(self) -> int:
        """Slots played (RLlib's evaluation asks for it)."""
        return self.slots

    def agent_steps(self) -> int:
        """Decisions made."""
        return int(self.valid.sum())


def concatenate(fragments: list[Fragment]) -> Fragment:
    """Join fragments in order of time."""
    if len(fragments) == 1:
        return fragments[0]
    names = fragments[0].columns
    return Fragment(
        {name: torch.cat([fragment.columns[name] for fragment in fragments], 1) for name in names},
        torch.cat([fragment.valid for fragment in fragments], 1),
        sum(fragment.slots for fragment in fragments),
    )
