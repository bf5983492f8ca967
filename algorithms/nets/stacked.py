# SPDX-License-Identifier: Apache-2.0
"""Networks with stacked weights: G independent networks of one shape evaluated as one batched matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """G independent linear layers: ``[G, rows, inputs] -> [G, rows, outputs]``.

    Every layer is initialised like ``torch.nn.Linear``: uniform in ±1/√inputs.
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer g to ``x[g]``."""
        return torch.baddbmm(self.bias, x, self.weight)


class StackedMLP(nn.Module):
    """G independent multi-layer perceptrons with ReLU between the layers and a linear output.

    Args:
        groups: Number of networks G.
        sizes: Width of input, hidden layers and output.
    """

    def __init__(self, groups: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StackedLinear(groups, i, o) for i, o in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """``[G, rows, sizes[0]] -> [G, rows, sizes[-1]]``."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        output: Tensor = self.layers[-1](x)
        return output
