# SPDX-License-Identifier: Apache-2.0
"""What allocators minimise, for whatever runs the updates: losses of networks, batch and settings.

Columns of batches are ``[G, rows, ...]``: groups of weights, samples. Losses are averaged over rows and summed over
groups, so that every group's gradient is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from edgegen.algorithms.roles.allocator.networks import AllocationActor, AllocationCritic
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.losses import ERRORS, td_target

Noise = Callable[[AllocationActor, int], Tensor | None]
"""Draws the noise of an actor's chain for a number of rows."""

Columnar = dict[str, Tensor]


class D3PG(Protocol):
    """The four networks of the allocator."""

    actor: AllocationActor
    critic: AllocationCritic
    target_actor: AllocationActor
    target_critic: AllocationCritic


def critic_objective(settings: AllocatorSettings, networks: D3PG, batch: Columnar, noise: Noise) -> Tensor:
    """How far the critic's values are from the reward and, if gamma is not 0, the targets' value of the slot after."""
    target = batch[Columns.REWARDS]
    if settings.gamma > 0:
        with torch.no_grad():
            next_state = batch[Columns.NEXT_OBS]
            next_action = networks.target_actor(next_state, noise(networks.target_actor, next_state.shape[1]))
            next_value = networks.target_critic(next_state, next_action)
            target = td_target(target, next_value, batch[Columns.TERMINATEDS], settings.gamma)
    value = networks.critic(batch[Columns.OBS], batch[Columns.ACTIONS])
    return ERRORS[settings.critic_loss](value, target)


def actor_objective(settings: AllocatorSettings, networks: D3PG, batch: Columnar, noise: Noise) -> Tensor:
    """Minus the critic's value of the actor's actions, through the whole chain, and what else the settings ask for."""
    state, actor = batch[Columns.OBS], networks.actor
    x = actor.unbounded(state, noise(actor, state.shape[1]))
    action = actor.squash(x)
    loss = deterministic_policy_loss(networks.critic(state, action))
    if settings.search_weight > 0:
        rows = slice(0, settings.search_rows)
        loss = loss + settings.search_weight * search_objective(networks.critic, state[:, rows], action[:, rows])
    if settings.action_penalty > 0:
        loss = loss + settings.action_penalty * x.square().mean((1, 2)).sum()
    return loss


def search_objective(critic: AllocationCritic, state: Tensor, action: Tensor) -> Tensor:
    """How far the computing shares are from those of the best option, by what it is better than the action.

    Args:
        critic: The judge.
        state: ``[G, rows, D]``.
        action: The actor's raw action ``[G, rows, 2N]``.
    """
    layout = critic.layout
    groups, rows = state.shape[:2]
    with torch.no_grad():
        hit = layout.hits(state)
        options = layout.options(action, hit)
        choices = options.shape[1]
        value = critic(state.repeat(1, choices, 1), options.flatten(1, 2)).mean(-1).view(groups, choices, rows)
        now = critic(state, action).mean(-1)
        best, which = value.max(1)
        target = options.gather(1, which[:, None, :, None].expand(-1, 1, -1, options.shape[-1]))[:, 0]
    users = layout.users
    return search_loss(action[..., users:], target[..., users:], hit, best - now)


def deterministic_policy_loss(value: Tensor) -> Tensor:
    """−mean Q(s, π(s)) (arXiv 2507.20524), to be differentiated through the whole chain.

    Args:
        value: Critic values of the actor's actions ``[G, rows, ...]``; the mean over users is the value of a slot.
    """
    return -value.flatten(1).mean(-1).sum()


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
