# SPDX-License-Identifier: Apache-2.0
"""A rule for the package's own offloading worlds, with a constant that ``edgegen tune`` finds."""

from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.core.tunable import Constants, constant
from edgegen.envs.offloading.view import RouterView


class NearestConstants(Constants):
    """What a task must save to be sent away."""

    away_s: float = constant(0.2, 0.001, 5.0, log=True)


class Nearest(Policy):
    """Every task goes to the shortest queue, if that is shorter than the one at home by more than ``away_s`` seconds.

    Args:
        constants: What is tuned.
        seed: Of its random numbers; it draws none.
    """

    name = "nearest"
    kind = "offloading"
    roles = frozenset({"router"})
    information = "slot-start backlogs"
    constants = NearestConstants

    def __init__(self, constants: NearestConstants, seed: int = 0) -> None:
        super().__init__(seed)
        self.away_s = constants.away_s

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """Choose a server for every task; see :meth:`Policy.act`."""
        seen: RouterView = view
        wait_s = seen.backlog_gcycles / seen.capacity_gcycles_s  # [E, servers]
        away_s = self.away_s * (1 - torch.eye(wait_s.shape[-1], device=wait_s.device))
        chosen = (wait_s[:, None] + away_s).argmin(-1)  # [E, home]
        return chosen[..., None].expand(seen.tasks.present.shape), memory
