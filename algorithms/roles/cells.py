# SPDX-License-Identifier: Apache-2.0
"""Cells that learn each for itself, or all with the same weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edgegen.algorithms.roles.settings import CellSettings


@dataclass(frozen=True)
class Cells:
    """The order of cells in stacked networks.

    Attributes:
        count: Cells C.
        groups: Independent sets of weights G: one per cell, or one for all.
    """

    count: int
    groups: int

    @classmethod
    def of(cls, count: int, settings: CellSettings) -> Cells:
        """Return the order of some cells that settings ask for."""
        return cls(count, count if settings.sharing == "none" else 1)

    def grouped(self, x: Tensor) -> Tensor:
        """Bring ``[E, C, ...]`` into the order of the stacked networks, ``[G, rows, ...]``."""
        if self.groups == 1:
            return x.reshape(1, -1, *x.shape[2:])
        return x.transpose(0, 1)

    def ungrouped(self, x: Tensor) -> Tensor:
        """Undo ``grouped``: ``[E, C, ...]``."""
        if self.groups == 1:
            return x.reshape(-1, self.count, *x.shape[2:])
        return x.transpose(0, 1)
