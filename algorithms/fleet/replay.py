# SPDX-License-Identifier: Apache-2.0
"""Replay of the fleet: labels, or the last generation of perturbations, which is used once."""

from __future__ import annotations

from torch import Tensor

from edgegen.algorithms.rllib.replay import Columns, TensorReplay

PERTURBATION = "perturbation"
"""Column that tells a generation: what was gained with each perturbation against its opposite."""


class LabelReplay(TensorReplay):
    """A ring of labels; a generation takes the place of all that there is."""

    def add(self, columns: Columns, valid: Tensor) -> None:
        """See :meth:`TensorReplay.add`."""
        if PERTURBATION in columns:
            self.columns = dict(columns)
            self.added[:] = columns[PERTURBATION].shape[1]
            return
        super().add(columns, valid)

    def sample(self, batch_size: int) -> Columns:
        """Draw labels; a generation is returned as a whole."""
        if PERTURBATION in self.columns:
            return {name: value.transpose(0, 1) for name, value in self.columns.items()}
        return super().sample(batch_size)
