"""The losses of T2DRL as pure functions. Leading axes are ``[G, rows]``: groups of weights, samples.

Losses are averaged over rows and summed over groups, so that every group's gradient is what it would be alone.
"""

from __future__ import annotations

from torch import Tensor


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


def deterministic_policy_loss(value: Tensor) -> Tensor:
    """−mean Q(s, π(s)) (arXiv 2507.20524), to be differentiated through the whole chain.

    Args:
        value: Critic values of the actor's actions ``[G, rows, ...]``; the mean over users is the value of a slot.
    """
    return -value.flatten(1).mean(-1).sum()
