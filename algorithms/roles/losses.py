# SPDX-License-Identifier: Apache-2.0
"""Losses of values, as pure functions. Leading axes are ``[G, rows]``: groups of weights, samples.

Losses are averaged over rows and summed over groups, so that every group's gradient is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import smooth_l1_loss


def td_target(reward: Tensor, next_value: Tensor, done: Tensor, discount: float) -> Tensor:
    """Target y = R + ω · V' · (1 − done).

    Args:
        reward: R ``[G, rows, ...]``.
        next_value: V' of the same shape: Q̂(s', argmax_a Q(s', a)) for the DDQN (van Hasselt et al. 2016), the target
            critic at the target actor's action for D3PG.
        done: 1 after the last step of an episode ``[G, rows]``.
        discount: ω.
    """
    going_on = 1 - done
    return reward + discount * next_value * going_on.reshape(*done.shape, *[1] * (reward.dim() - done.dim()))


def value_loss(value: Tensor, target: Tensor) -> Tensor:
    """Mean (Q − y)² over rows, and over users where there are values for each.

    Args:
        value: Q ``[G, rows, ...]``.
        target: y, a constant of the same shape.
    """
    return (value - target).square().flatten(1).mean(-1).sum()


def huber_loss(value: Tensor, target: Tensor) -> Tensor:
    """Like :func:`value_loss`, but linear beyond an error of 1 (Huber 1964): (Q − y)²/2 or |Q − y| − 1/2."""
    return smooth_l1_loss(value, target, reduction="none").flatten(1).mean(-1).sum()


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"squared": value_loss, "huber": huber_loss}
"""Losses of values and targets by the name that the setting ``critic_loss`` uses."""
