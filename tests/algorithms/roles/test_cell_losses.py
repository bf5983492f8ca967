# SPDX-License-Identifier: Apache-2.0
"""The losses of T2DRL by hand."""

import math

import pytest
import torch

from edgegen.algorithms.methods.t2drl import METHOD
from edgegen.algorithms.roles.allocator.objectives import deterministic_policy_loss, search_loss
from edgegen.algorithms.roles.cacher.networks import cross_entropy
from edgegen.algorithms.roles.losses import huber_loss, td_target, value_loss
from edgegen.envs.core.errors import InputError


def test_td_target_by_hand():
    reward, next_value = torch.tensor([[-2.0, -3]]), torch.tensor([[-10.0, -20]])
    assert td_target(reward, next_value, torch.tensor([[0.0, 1]]), 0.9).tolist() == [[-11, -3]]


def test_td_target_per_user_ends_for_all_users_of_a_slot():
    reward, next_value = torch.tensor([[[-1.0, -2], [-3, -4]]]), torch.full((1, 2, 2), -10.0)
    target = td_target(reward, next_value, torch.tensor([[1.0, 0]]), 0.5)
    assert target.tolist() == [[[-1, -2], [-8, -9]]]


def test_value_loss_is_the_mean_square_over_rows_and_the_sum_over_groups():
    value, target = torch.tensor([[1.0, 2], [0, 0]]), torch.tensor([[0.0, 4], [1, 1]])
    assert value_loss(value, target).item() == (1 + 4) / 2 + (1 + 1) / 2


def test_policy_loss_is_minus_the_mean_value():
    assert deterministic_policy_loss(torch.tensor([[[-1.0, -3]], [[-5, -5]]])).item() == 2 + 5


def test_the_cachers_discount_covers_a_frame():
    assert METHOD.make_settings("paper").discount_per_frame(10) == pytest.approx(0.99**10)
    assert METHOD.make_settings("paper", {"frame_gamma": 0.5}).discount_per_frame(10) == 0.5
    assert METHOD.make_settings("paper", {"gamma": 0}).discount_per_frame(10) == 0


def test_huber_loss_is_linear_for_large_errors():
    value, target = torch.tensor([[0.5, 0], [0, 0]]), torch.tensor([[0.0, 11], [0, 2]])
    assert huber_loss(value, target).item() == (0.125 + 10.5) / 2 + (0 + 1.5) / 2


def test_beliefs_are_drawn_to_the_shares_of_requests():
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    loss = cross_entropy(logits.log_softmax(-1), torch.tensor([[[0.5, 0.5, 0]]]))
    assert loss.item() == pytest.approx(math.log(3))
    (gradient,) = torch.autograd.grad(loss, logits)  # belief minus share
    assert gradient.flatten().tolist() == pytest.approx([1 / 3 - 0.5, 1 / 3 - 0.5, 1 / 3])


def test_search_loss_by_hand():
    action = torch.tensor([[[0.0, 1, 1], [0, 0, 0]]], requires_grad=True)
    target = torch.tensor([[[-1.0, 1, -1], [-1, -1, -1]]])
    hit = torch.tensor([[[True, True, False], [True, True, True]]])
    # In the first slot the miss does not count; what was found in the second is no better.
    loss = search_loss(action, target, hit, torch.tensor([[2.0, -1]]))
    assert loss.item() == pytest.approx(2 * (1 / 3) / 2)
    (gradient,) = torch.autograd.grad(loss, action)
    assert gradient[0, 0].tolist() == pytest.approx([2 / 3, 0, 0])
    assert (gradient[0, 1] == 0).all()


def test_step_sizes_fall_between_two_episodes():
    falling = METHOD.make_settings("paper", {"lr_hold_episodes": 100, "lr_fall_episodes": 50, "lr_end": 0.2})
    left = [falling.learning_rate_left(episodes) for episodes in (0, 100, 125, 150, 1000)]
    assert left == pytest.approx([1, 1, 0.6, 0.2, 0.2])
    assert METHOD.make_settings("paper").learning_rate_left(1000) == 1


def test_expected_requests_need_the_requests():
    with pytest.raises(InputError, match="needs see_frequency"):
        METHOD.make_settings("improved", {"see_frequency": False})


def test_two_timescale_learns_from_rewards_alone():
    settings = METHOD.make_settings("two-timescale")
    assert settings.actor == "diffusion"
    assert settings.search_weight == 0  # nothing is searched in place of the actor
    assert settings.caching_head == "per_model"  # no supervised expectation of requests
    assert settings.gamma > 0  # targets of the slot after
    assert settings.discount_per_frame(10) > 0  # and of the frame after
