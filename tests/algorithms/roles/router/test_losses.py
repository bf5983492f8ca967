# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from edgegen.algorithms.roles.router.losses import (
    actor_loss,
    critic_loss,
    dqn_target,
    entropy,
    projection_loss,
    td_target,
    temperature_loss,
)

HALF = torch.tensor([[[0.5, 0.5]]])


def test_entropy_of_a_fair_coin():
    assert entropy(HALF).item() == pytest.approx(math.log(2), abs=1e-6)


def test_td_target_by_hand():
    # y = −2 + 0.9·(0.25·(−4) + 0.75·(−8) + 0.1·H), H = −0.25 ln 0.25 − 0.75 ln 0.75 = 0.562335
    y = td_target(
        torch.tensor([[-2.0]]),
        torch.tensor([[[0.25, 0.75]]]),
        torch.tensor([[[-4.0, -8.0]]]),
        torch.tensor([0.1]),
        0.9,
    )
    assert y.item() == pytest.approx(-2 + 0.9 * (-1 - 6 + 0.0562335), abs=1e-5)


def test_critic_loss_uses_the_chosen_actions_of_both_critics():
    twin = torch.tensor([[[[1.0, 5.0], [2.0, 0.0]]], [[[0.0, 4.0], [3.0, 0.0]]]])  # [2, G=1, rows=2, B=2]
    loss = critic_loss(twin, torch.tensor([[1, 0]]), torch.tensor([[3.0, 3.0]]))
    # critic 1: (5−3)², (2−3)² → mean 2.5; critic 2: (4−3)², (3−3)² → mean 0.5
    assert loss.item() == pytest.approx(3.0)


def test_dqn_target_and_loss_by_hand():
    # y = −2 + 0.9·max(−4, −8) = −5.6 and −1 + 0.9·max(−7, −3) = −3.7
    y = dqn_target(torch.tensor([[-2.0, -1.0]]), torch.tensor([[[-4.0, -8.0], [-7.0, -3.0]]]), 0.9)
    assert y[0].tolist() == pytest.approx([-5.6, -3.7])
    q = torch.tensor([[[[-5.0, 9.0], [9.0, -3.5]]]])  # [1, G=1, rows=2, B=2]
    loss = critic_loss(q, torch.tensor([[0, 1]]), y)
    assert loss.item() == pytest.approx((0.6**2 + 0.2**2) / 2)


def test_actor_loss_by_hand_and_its_direction():
    logits = torch.zeros(1, 1, 2, requires_grad=True)
    loss = actor_loss(logits.softmax(-1), torch.tensor([[[-1.0, -3.0]]]), torch.tensor([0.5]))
    assert loss.item() == pytest.approx(-0.5 * math.log(2) + 2.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 0, 0] < 0 < gradient[0, 0, 1]  # descent raises the better action


def test_projection_loss_by_hand_and_its_minimum():
    # Q = (0, ln 3)·ξ makes the Boltzmann policy (1/4, 3/4); the loss is its cross-entropy with the actor.
    temperature = torch.tensor([0.5])
    q = temperature * torch.tensor([[[0.0, math.log(3)]]])
    fair = projection_loss(torch.zeros(1, 1, 2), q, temperature)
    assert fair.item() == pytest.approx(math.log(2))
    best = projection_loss(torch.tensor([[[0.0, math.log(3)]]]), q, temperature)
    assert best.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


def test_only_the_projection_revives_an_action_that_was_ruled_out():
    logits = torch.tensor([[[30.0, 0.0]]], requires_grad=True)  # the second action is better, but as good as forgotten
    q, temperature = torch.tensor([[[-1.0, 0.0]]]), torch.tensor([0.1])
    (published,) = torch.autograd.grad(actor_loss(logits.softmax(-1), q, temperature), logits)
    (projected,) = torch.autograd.grad(projection_loss(logits, q, temperature), logits)
    assert published.abs().max() < 1e-10
    assert projected[0, 0].tolist() == pytest.approx([1, -1], abs=1e-3)


def test_published_entropy_target_only_ever_lowers_the_temperature():
    log_temperature = torch.tensor([math.log(0.05)], requires_grad=True)
    for probability in (HALF, torch.tensor([[[1.0, 0.0]]])):
        loss = temperature_loss(log_temperature, entropy(probability), -1.0)
        (gradient,) = torch.autograd.grad(loss, log_temperature)
        assert gradient.item() > 0


def test_groups_have_the_gradient_they_would_have_alone():
    twin = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    action, target = torch.zeros(3, 4, dtype=torch.long), torch.ones(3, 4)
    together = critic_loss(twin, action, target)
    alone = sum(critic_loss(twin[:, g : g + 1], action[g : g + 1], target[g : g + 1]) for g in range(3))
    assert together.item() == pytest.approx(float(alone), rel=1e-6)
