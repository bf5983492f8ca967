# SPDX-License-Identifier: Apache-2.0
"""A replay for training with several numbers of servers, whose states have different lengths."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns as Names
from torch import Tensor

from edgegen.algorithms.rllib.replay import Columns, TensorReplay


class ReplayByServers(TensorReplay):
    """One ring for every length of state; a batch comes from one of them, all equally often.

    Args:
        capacity: Transitions per ring.
        seed: Seed of the sampling.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        super().__init__(1, capacity, seed)
        self.seed = seed
        self.rings: dict[int, TensorReplay] = {}

    @property
    def sizes(self) -> Tensor:
        """Transitions held by the emptiest ring ``[1]``."""
        return torch.stack([ring.sizes for ring in self.rings.values()]).amin(0) if self.rings else self.added

    def add(self, columns: Columns, valid: Tensor) -> None:
        """Append transitions to the ring of their length; see :meth:`TensorReplay.add`."""
        self._ring(columns[Names.OBS].shape[-1]).add(columns, valid)

    def sample(self, batch_size: int) -> Columns:
        """Draw transitions from one of the rings; see :meth:`TensorReplay.sample`."""
        lengths = sorted(self.rings)
        chosen = int(torch.randint(len(lengths), (), generator=self.generator))
        return self.rings[lengths[chosen]].sample(batch_size)

    def get_state(self) -> dict[str, Any]:
        """Return the states of all rings and of the generator."""
        rings = {length: ring.get_state() for length, ring in self.rings.items()}
        return {"rings": rings, "generator": self.generator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.rings = {}
        for length, saved in state["rings"].items():
            self._ring(length).set_state(saved)
        self.generator.set_state(state["generator"])

    def take_rows(self, state: dict[str, Any], part: int = 0, parts: int = 1) -> None:
        """Append rows of a saved replay to the rings of their lengths; see :meth:`TensorReplay.take_rows`."""
        for length, saved in state["rings"].items():
            self._ring(length).take_rows(saved, part, parts)

    def _ring(self, length: int) -> TensorReplay:
        if length not in self.rings:
            self.rings[length] = TensorReplay(1, self.capacity, self.seed + length)
        return self.rings[length]
