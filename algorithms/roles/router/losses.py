# SPDX-License-Identifier: Apache-2.0
"""The losses of LAD-TS and its learned baselines as pure functions (docs/spec/ladts.md §4.4, §5).

Leading axes are ``[G, rows]``: groups of weights, samples. Losses are averaged over rows and summed
over groups, so that every group's gradient is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def entropy(probability: Tensor) -> Tensor:
    """H = −Σ_a p ln(p + 1e-8), nats, over the last axis."""
    return -(probability * torch.log(probability + 1e-8)).sum(-1)


def td_target(reward: Tensor, next_probability: Tensor, next_q: Tensor, temperature: Tensor, gamma: float) -> Tensor:
    """Y = r + γ [Σ_a p'_a min_j Q̃_j(s', a) + ξ H']; no terminal mask, the process goes on.

    Args:
        reward: ``[G, rows]``.
        next_probability: p' ``[G, rows, B]``.
        next_q: Least target value ``[G, rows, B]``.
        temperature: ξ ``[G]``.
        gamma: Discount.
    """
    value = (next_probability * next_q).sum(-1) + temperature[:, None] * entropy(next_probability)
    return reward + gamma * value


def dqn_target(reward: Tensor, next_q: Tensor, gamma: float) -> Tensor:
    """Y = r + γ max_a Q̃(s', a): the target network both chooses and values (no double DQN); no terminal mask.

    Args:
        reward: ``[G, rows]``.
        next_q: Value by the target network ``[G, rows, B]``.
        gamma: Discount.
    """
    return reward + gamma * next_q.amax(-1)


def critic_loss(q: Tensor, action: Tensor, target: Tensor) -> Tensor:
    """L_Q = Σ_j mean (Q_j(s,a) − y)², over the C critics of an agent: two of an actor-critic, one of DQN.

    Args:
        q: ``[C, G, rows, B]``.
        action: ``[G, rows]`` int64.
        target: y ``[G, rows]``.
    """
    index = action[None, ..., None].expand(len(q), -1, -1, 1)
    chosen = q.gather(-1, index)[..., 0]
    return (chosen - target).square().mean(-1).sum()


def values_loss(q: Tensor, values: Tensor, probability: Tensor) -> Tensor:
    """L_Q = Σ_j mean Σ_a π_a (Q_j(s, a) − y_a)², where the values of all actions are known.

    It is what :func:`critic_loss` is on average over the actions of π.

    Args:
        q: ``[C, G, rows, B]``.
        values: y ``[G, rows, B]``.
        probability: π of the policy that played, ``[G, rows, B]``.
    """
    return ((q - values).square() * probability).sum(-1).mean(-1).sum()


def actor_loss(probability: Tensor, q: Tensor, temperature: Tensor) -> Tensor:
    """L_π = mean (−ξ H(π) − Σ_a π_a min_j Q_j(s, a)).

    Args:
        probability: π ``[G, rows, B]``.
        q: Least value ``[G, rows, B]``, a constant.
        temperature: ξ ``[G]``, a constant.
    """
    return (-temperature[:, None] * entropy(probability) - (probability * q).sum(-1)).mean(-1).sum()


def projection_loss(logits: Tensor, q: Tensor, temperature: Tensor, prior: Tensor | None = None) -> Tensor:
    """L_π = mean −Σ_a softmax(min_j Q_j(s, ·)/ξ)_a ln π_a: project the Boltzmann policy onto the actor.

    The minimum of ``actor_loss`` over unrestricted policies is the same Boltzmann distribution. That loss weighs each
    action by its own probability, so an actor that has ruled an action out gets no gradient to take it back; this one,
    the forward KL divergence (up to a constant), always pulls.

    Args:
        logits: ln π up to a constant ``[G, rows, B]``.
        q: Least value ``[G, rows, B]``, a constant.
        temperature: ξ ``[G]``, a constant.
        prior: ln of a policy that ξ pulls towards instead of the uniform one, up to a constant ``[G, rows, B]``.
    """
    preference = q / temperature[:, None, None]
    target = (preference if prior is None else preference + prior).softmax(-1)
    return -(target * logits.log_softmax(-1)).sum(-1).mean(-1).sum()


def temperature_loss(log_temperature: Tensor, policy_entropy: Tensor, target_entropy: float) -> Tensor:
    """L_ξ = mean (H − H̄) · exp(ln ξ).

    Args:
        log_temperature: ln ξ ``[G]``.
        policy_entropy: H ``[G, rows]``, a constant.
        target_entropy: H̄.
    """
    return ((policy_entropy - target_entropy).mean(-1) * log_temperature.exp()).sum()


def _reverse_kl(logits: Tensor, q: Tensor, temperature: Tensor, prior: Tensor | None) -> Tensor:
    del prior
    return actor_loss(logits.softmax(-1), q, temperature)


OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "reverse_kl": _reverse_kl,
    "forward_kl": projection_loss,
}
"""Losses of the actor, from logits, least value, temperature and prior, by the setting ``actor_objective``."""
