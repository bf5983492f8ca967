"""The losses of T2DRL as pure functions. Leading axes are ``[G, rows]``: groups of weights, samples.

Losses are averaged over rows and summed over groups, so that every group's gradient is what it would be alone.
"""

from __future__ import annotations

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


def deterministic_policy_loss(value: Tensor) -> Tensor:
    """−mean Q(s, π(s)) (arXiv 2507.20524), to be differentiated through the whole chain.

    Args:
        value: Critic values of the actor's actions ``[G, rows, ...]``; the mean over users is the value of a slot.
    """
    return -value.flatten(1).mean(-1).sum()


def huber_loss(value: Tensor, target: Tensor) -> Tensor:
    """Like :func:`value_loss`, but linear beyond an error of 1 (Huber 1964): (Q − y)²/2 or |Q − y| − 1/2."""
    return smooth_l1_loss(value, target, reduction="none").flatten(1).mean(-1).sum()


def cross_entropy(log_belief: Tensor, share: Tensor) -> Tensor:
    """−mean Σ_m share · log belief: least where the belief is the expected share.

    Args:
        log_belief: Logarithms of expected shares ``[G, rows, M]``.
        share: Shares that came ``[G, rows, M]``.
    """
    return -(share * log_belief).sum(-1).mean(-1).sum()


def search_loss(action: Tensor, target: Tensor, hit: Tensor, advantage: Tensor) -> Tensor:
    """Mean squared distance of hits' actions to better ones, weighted by how much better they are.

    Args:
        action: Raw computing of the actor ``[G, rows, N]``.
        target: Raw computing of what was found, a constant.
        hit: Whether a user's model is cached ``[G, rows, N]``.
        advantage: Value of what was found minus that of the action ``[G, rows]``; below zero it counts as zero.
    """
    distance = ((action - target).square() * hit).mean(-1)
    return (advantage.clamp_min(0) * distance).mean(-1).sum()
