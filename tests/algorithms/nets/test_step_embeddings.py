# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from edgegen.algorithms.nets.diffusion import reverse_chain, step_embedding, vp_schedule
from edgegen.algorithms.nets.step_embeddings import STEP_EMBEDDINGS, SinusoidalMLPSteps


def mish(x):
    return x * math.tanh(math.log(1 + math.exp(x)))


def test_sinusoids_are_handed_on_as_they_are():
    embedding = STEP_EMBEDDINGS["sinusoidal"](groups=3, steps=5, width=16)
    assert not list(embedding.parameters())
    assert torch.equal(embedding(), step_embedding(5, 16).expand(3, -1, -1))


def test_layers_by_hand():
    # Width 4: sin and cos of k, and of k / 10,000. With one weight each, output 2 is
    # 3 · mish(2 · sin k + 1) − 1, and output 0 its bias alone.
    embedding = SinusoidalMLPSteps(groups=1, steps=3, width=4)
    with torch.no_grad():
        for parameter in embedding.parameters():
            parameter.zero_()
        embedding.wide.weight[0, 0, 5] = 2
        embedding.wide.bias[0, 0, 5] = 1
        embedding.narrow.weight[0, 5, 2] = 3
        embedding.narrow.bias[0, 0, 2] = -1
        embedding.narrow.bias[0, 0, 0] = 0.25
    values = embedding()
    assert values.shape == (1, 3, 4)
    assert values[0, :, 2].tolist() == pytest.approx([3 * mish(2 * math.sin(k) + 1) - 1 for k in range(3)], rel=1e-5)
    assert values[0, 0, 2].item() == pytest.approx(3 * 0.8650984 - 1, rel=1e-5)  # mish(1)
    assert torch.equal(values[0, :, 0], torch.full((3,), 0.25))


def test_it_has_the_layers_of_the_public_code():
    shapes = {tuple(parameter.shape) for parameter in SinusoidalMLPSteps(groups=2, steps=5, width=16).parameters()}
    assert shapes == {(2, 16, 32), (2, 1, 32), (2, 32, 16), (2, 1, 16)}


def test_groups_are_independent():
    torch.manual_seed(0)
    embedding = SinusoidalMLPSteps(groups=2, steps=4, width=8)
    first, second = embedding()
    assert not torch.allclose(first, second)
    with torch.no_grad():
        embedding.wide.weight[1] += 1
    assert torch.equal(embedding()[0], first)
    assert not torch.equal(embedding()[1], second)


def test_gradients_come_from_every_step_of_a_chain():
    torch.manual_seed(0)
    embedding = SinusoidalMLPSteps(groups=1, steps=4, width=8)
    table = embedding()
    table.retain_grad()
    end = reverse_chain(lambda x, i: table[0, i - 1].expand_as(x), torch.zeros(3, 8), vp_schedule(4), None)
    end.sum().backward()
    assert (table.grad[0] != 0).all()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in embedding.parameters())


def test_the_same_seed_makes_the_same_embeddings():
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(SinusoidalMLPSteps(groups=1, steps=3, width=16)())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
