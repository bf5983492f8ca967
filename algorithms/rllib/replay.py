# SPDX-License-Identifier: Apache-2.0
"""Replay as a ring of tensors, checkpointed with its random numbers."""

from __future__ import annotations

import math
from typing import Any

import psutil
import torch
from torch import Tensor

from edgegen.envs.core.errors import InputError

Columns = dict[str, Tensor]


class TensorReplay:
    """G rings of transitions side by side, one per group of weights, filled and sampled without a loop.

    Args:
        groups: Number of rings G.
        capacity: Transitions per ring; the oldest are overwritten.
        seed: Seed of the sampling.
    """

    def __init__(self, groups: int, capacity: int, seed: int = 0) -> None:
        self.groups = groups
        self.capacity = capacity
        self.generator = torch.Generator().manual_seed(seed)
        self.columns: Columns = {}
        self.added = torch.zeros(groups, dtype=torch.long)
        self._first_rows = torch.arange(groups) * capacity

    def hold(self, capacity: int) -> None:
        """Change the capacity of an empty replay."""
        assert not self.columns, "rows have their places already"
        self.capacity = capacity
        self._first_rows = torch.arange(self.groups) * capacity

    @property
    def sizes(self) -> Tensor:
        """Transitions held by each ring ``[G]``."""
        return self.added.clamp_max(self.capacity)

    def add(self, columns: Columns, valid: Tensor) -> None:
        """Append transitions in order of their rows.

        Args:
            columns: Tensors ``[G, rows, ...]`` by name, the same names at every call.
            valid: Which rows are transitions ``[G, rows]``.

        Raises:
            InputError: If rings of that capacity take more memory than there is.
        """
        if not self.columns:
            self._check_memory(columns)
            self.columns = {
                name: value.new_zeros((self.groups, self.capacity, *value.shape[2:])) for name, value in columns.items()
            }
        rank = valid.long().cumsum(1)
        count = valid.long().sum(1, keepdim=True)
        # More rows than the ring holds: only the last survive, as if they had been written one by one.
        group, row = (valid & (rank > count - self.capacity)).nonzero(as_tuple=True)
        place = (self.added[group] + rank[group, row] - 1) % self.capacity
        for name, value in columns.items():
            self.columns[name][group, place] = value[group, row]
        self.added += count[:, 0]

    def _check_memory(self, columns: Columns) -> None:
        per_row = sum(math.prod(value.shape[2:]) * value.element_size() for value in columns.values())
        needed, there = self.groups * self.capacity * per_row, psutil.virtual_memory().total
        if needed > there:
            raise InputError(
                f"A replay of {self.capacity} transitions for each of {self.groups} learners takes "
                f"{needed / 1e9:.3g} GB, but this machine has {there / 1e9:.3g} GB; choose a smaller replay_capacity."
            )

    def sample(self, batch_size: int) -> Columns:
        """Draw transitions uniformly, with replacement, from every ring: ``[batch_size, G, ...]`` by name."""
        random = torch.rand((batch_size, self.groups), generator=self.generator)
        place = (random * self.sizes).long()
        row = (place + self._first_rows).t().reshape(-1)
        drawn = {name: value.flatten(0, 1).index_select(0, row) for name, value in self.columns.items()}
        # Rows of a group lie side by side in memory, because that is how networks take them.
        shape = (self.groups, batch_size)
        return {name: value.view(*shape, *value.shape[1:]).transpose(0, 1) for name, value in drawn.items()}

    def get_state(self) -> dict[str, Any]:
        """Return copies of the contents that were filled, the counters and the generator's state."""
        filled = int(self.sizes.max())
        return {
            "columns": {name: value[:, :filled].clone() for name, value in self.columns.items()},
            "added": self.added.clone(),
            "generator": self.generator.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called.

        Raises:
            ValueError: If the state is of another number of rings or does not fit the capacity.
        """
        if state["added"].shape != self.added.shape:
            raise ValueError(f"the replay has {self.groups} rings, the saved one {state['added'].numel()}")
        self.columns = {}
        for name, value in state["columns"].items():
            if value.shape[1] > self.capacity:
                raise ValueError(f"the saved replay holds {value.shape[1]} rows, more than {self.capacity}")
            ring = value.new_zeros((self.groups, self.capacity, *value.shape[2:]))
            ring[:, : value.shape[1]] = value
            self.columns[name] = ring
        self.added = state["added"].clone()
        self.generator.set_state(state["generator"])

    def take_rows(self, state: dict[str, Any], part: int = 0, parts: int = 1) -> None:
        """Append rows of a saved replay, which may be of another capacity, oldest first.

        Args:
            state: What ``get_state`` returned.
            part: Number of the part to take.
            parts: Into how many the rows are dealt, in turn.
        """
        if not state["columns"]:
            return
        filled = next(iter(state["columns"].values())).shape[1]
        added = state["added"][:, None]
        row = torch.arange(part, filled, parts)
        # A ring that was overwritten begins behind its newest row.
        place = (torch.where(added > filled, added % filled, 0) + row) % filled
        group = torch.arange(len(added))[:, None]
        columns = {name: value[group, place] for name, value in state["columns"].items()}
        self.add(columns, row < added)
