"""The losses of T2DRL by hand."""

import pytest
import torch

from edgegen.algorithms.t2drl.losses import deterministic_policy_loss, td_target, value_loss
from edgegen.algorithms.t2drl.settings import make_settings


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
    assert make_settings("paper").discount_per_frame(10) == pytest.approx(0.99**10)
    assert make_settings("paper", {"frame_gamma": 0.5}).discount_per_frame(10) == 0.5
    assert make_settings("paper", {"gamma": 0}).discount_per_frame(10) == 0
