# SPDX-License-Identifier: Apache-2.0
"""The rules of the toy world."""

from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen_toy.world import DISPATCHER, ToyView


class Coin(Policy):
    """Either server."""

    name, kind, roles, information = "coin", "toy", frozenset({DISPATCHER}), "nothing"

    def act(self, role: str, view: ToyView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        return (self.random((len(view.work_s), 1, 1), view.work_s) < 0.5).long(), memory


class Shortest(Policy):
    """The server with less to do."""

    name, kind, roles, information = "shortest", "toy", frozenset({DISPATCHER}), "backlogs"

    def act(self, role: str, view: ToyView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        return view.backlog_s.argmin(-1)[:, None, None], memory
