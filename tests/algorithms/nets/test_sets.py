# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from edgegen.algorithms.nets.sets import StackedComparison


def test_a_comparison_sums_what_comes_before_every_member():
    layer = StackedComparison(groups=1, member=2, orders=1, outputs=1)
    with torch.no_grad():
        for part in (layer.score, layer.out):
            part.weight.zero_()
            part.bias.zero_()
        layer.score.weight[0, 0, 0] = 25  # sharp: the score is the first value, times 4 times 25
        layer.score.weight[0, 1, 1] = 1  # the weight is the second
        layer.out.weight.fill_(1)
    members = torch.tensor([[[[3.0, 10], [1, 20], [2, 40]]]])
    # Everybody has half of the own weight before it.
    assert layer(members).flatten().tolist() == pytest.approx([5, 20 / 2 + 10 + 40, 40 / 2 + 10], abs=1e-4)
