# SPDX-License-Identifier: Apache-2.0
"""Networks over sets with stacked weights: G independent networks that look at the members of a set one by one."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from edgegen.algorithms.nets.stacked import StackedLinear

_SHARPNESS = 4.0
"""Of comparisons, so that they can tell members apart before their weights have grown."""


class StackedSet(nn.Module):
    """G independent networks over sets: every member with itself, the mean over all, and what they have in common.

    Each hidden layer maps a member's values and, through weights of their own, the mean of all members' values; the
    same weights serve every member, so the order of the members changes nothing but the order of the outputs.

    Args:
        groups: Number of networks G.
        member: Inputs per member.
        common: Inputs that all members share; may be 0.
        hidden: Widths of the hidden layers.
        outputs: Outputs per member.
        comparisons: Comparisons between members per hidden layer after the first; 0 for none.
    """

    def __init__(
        self, groups: int, member: int, common: int, hidden: list[int], outputs: int, comparisons: int = 0
    ) -> None:
        super().__init__()
        later = pairwise(hidden) if comparisons else ()
        self.compare = nn.ModuleList(StackedComparison(groups, i, comparisons, o) for i, o in later)
        self.common = StackedLinear(groups, common, hidden[0]) if common else None
        self.own = nn.ModuleList(StackedLinear(groups, i, o) for i, o in pairwise([member, *hidden, outputs]))
        self.mean = nn.ModuleList(StackedLinear(groups, i, o) for i, o in pairwise([member, *hidden]))

    def forward(self, members: Tensor, common: Tensor) -> Tensor:
        """``[G, rows, N, member], [G, rows, common] -> [G, rows, N, outputs]``."""
        groups, rows, count, _ = members.shape
        x = members
        for number, (own, mean) in enumerate(zip(self.own, self.mean, strict=False)):
            flat = own(x.reshape(groups, rows * count, -1)).view(groups, rows, count, -1)
            pooled = mean(x.mean(2))
            if number == 0 and self.common is not None:
                pooled = pooled + self.common(common)
            flat = flat + pooled[:, :, None]
            if number > 0 and self.compare:
                flat = flat + self.compare[number - 1](x)
            x = torch.relu(flat)
        output: Tensor = self.own[-1](x.reshape(groups, rows * count, -1))
        return output.view(groups, rows, count, -1)


class StackedComparison(nn.Module):
    """G independent layers that tell every member of a set how much of the set comes before it.

    In each of several orders a member has a score and a weight; it learns the sum of the weights of those whose score
    is above its own, softly, half of its own weight included. Means over a set can not say this, but what somebody gets
    of something scarce depends on it: serving the best while they fit is a comparison of this kind.

    Args:
        groups: Number of layers G.
        member: Inputs per member.
        orders: Number of orders.
        outputs: Outputs per member.
    """

    def __init__(self, groups: int, member: int, orders: int, outputs: int) -> None:
        super().__init__()
        self.score = StackedLinear(groups, member, 2 * orders)
        self.out = StackedLinear(groups, orders, outputs)

    def forward(self, members: Tensor) -> Tensor:
        """``[G, rows, N, member] -> [G, rows, N, outputs]``."""
        groups, rows, count, _ = members.shape
        scores = self.score(members.reshape(groups, rows * count, -1)).view(groups, rows, count, 2, -1)
        score, weight = _SHARPNESS * scores[..., 0, :], scores[..., 1, :]
        above = torch.sigmoid(score[:, :, None] - score[:, :, :, None])  # [G, rows, N, those above, orders]
        total = (above * weight[:, :, None]).sum(3)
        output: Tensor = self.out(total.view(groups, rows * count, -1))
        return output.view(groups, rows, count, -1)
