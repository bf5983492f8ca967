# SPDX-License-Identifier: Apache-2.0
"""Adam as the learners use it: torch's own numbers."""

import copy

import torch

from edgegen.algorithms.rllib.adam import Adam

SHAPES = ((3, 5, 4), (3, 1, 4), (7,))


def _parameters(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def _gradients(number: int) -> list[torch.Tensor]:
    return [value.detach() * 10.0 ** (number % 5 - 3) for value in _parameters(100 + number)]


def _step_both(ours: Adam, torchs: torch.optim.Adam, number: int) -> None:
    gradients = _gradients(number)
    ours.advance(gradients)
    for parameter, gradient in zip(torchs.param_groups[0]["params"], gradients, strict=True):
        parameter.grad = gradient
    torchs.step()


def test_weights_are_those_of_torch_bit_for_bit_through_rates_and_restored_states() -> None:
    mine, theirs = _parameters(), _parameters()
    ours, torchs = Adam(mine, lr=3e-3), torch.optim.Adam(theirs, lr=3e-3, foreach=True)
    for number in range(20):
        if number == 7:
            ours.param_groups[0]["lr"] = torchs.param_groups[0]["lr"] = 1e-2
        if number == 13:  # as a resumed training begins
            ours, saved = Adam(mine, lr=3e-3), copy.deepcopy(ours.state_dict())
            ours.load_state_dict(saved)
        _step_both(ours, torchs, number)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    for own, other in zip(ours.state_dict()["state"].values(), torchs.state_dict()["state"].values(), strict=True):
        assert {name: value.tolist() for name, value in own.items()} == {
            name: value.tolist() for name, value in other.items()
        }


def test_a_state_of_torchs_adam_is_continued() -> None:
    mine, theirs = _parameters(), _parameters()
    ours, torchs = Adam(mine, lr=1e-3), torch.optim.Adam(theirs, lr=1e-3, foreach=True)
    for number in range(3):
        for parameter, gradient in zip(theirs, _gradients(number), strict=True):
            parameter.grad = gradient
        torchs.step()
    with torch.no_grad():
        for own, other in zip(mine, theirs, strict=True):
            own.copy_(other)
    ours.load_state_dict(copy.deepcopy(torchs.state_dict()))
    _step_both(ours, torchs, 3)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
