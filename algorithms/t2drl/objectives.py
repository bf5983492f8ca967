"""What the agents of T2DRL minimise, for whatever runs the updates: losses of networks, batch and settings.

Columns of batches are ``[G, rows, ...]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from edgegen.algorithms.t2drl.allocator import AllocationActor, AllocationCritic, serving_options
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.losses import (
    cross_entropy,
    deterministic_policy_loss,
    huber_loss,
    search_loss,
    td_target,
    value_loss,
)
from edgegen.algorithms.t2drl.settings import T2DRLSettings

DONE = Columns.TERMINATEDS
SIZES = "relative_size"

Noise = Callable[[AllocationActor, int], Tensor | None]
"""Draws the noise of an actor's chain for a number of rows."""

Columnar = dict[str, Tensor]


class D3PG(Protocol):
    """The four networks of the allocator."""

    actor: AllocationActor
    critic: AllocationCritic
    target_actor: AllocationActor
    target_critic: AllocationCritic


def critic_objective(settings: T2DRLSettings, networks: D3PG, batch: Columnar, noise: Noise) -> Tensor:
    """How far the critic's values are from the reward and, if gamma is not 0, the targets' value of the slot after."""
    target = batch[Columns.REWARDS]
    if settings.gamma > 0:
        with torch.no_grad():
            next_state = batch[Columns.NEXT_OBS]
            next_action = networks.target_actor(next_state, noise(networks.target_actor, next_state.shape[1]))
            next_value = networks.target_critic(next_state, next_action)
            target = td_target(target, next_value, batch[DONE], settings.gamma)
    value = networks.critic(batch[Columns.OBS], batch[Columns.ACTIONS])
    return _error(settings, value, target)


def actor_objective(settings: T2DRLSettings, networks: D3PG, batch: Columnar, noise: Noise) -> Tensor:
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
    spec = critic.spec
    groups, rows = state.shape[:2]
    with torch.no_grad():
        hit = spec.hits(state)
        options = serving_options(spec.allocation, action, hit)
        choices = options.shape[1]
        value = critic(state.repeat(1, choices, 1), options.flatten(1, 2)).mean(-1).view(groups, choices, rows)
        now = critic(state, action).mean(-1)
        best, which = value.max(1)
        target = options.gather(1, which[:, None, :, None].expand(-1, 1, -1, options.shape[-1]))[:, 0]
    users = spec.users
    return search_loss(action[..., users:], target[..., users:], hit, best - now)


def cacher_objective(
    settings: T2DRLSettings, network: CachingNetwork, target_network: CachingNetwork, batch: Columnar
) -> Tensor:
    """Double DQN: the network selects the next cache, its target values it."""
    with torch.no_grad():
        next_state = batch[Columns.NEXT_OBS]
        chosen = network.best(network(next_state), batch[SIZES])
        next_value = network.value_of(target_network(next_state), chosen)
        discount = settings.discount_per_frame(network.spec.slots_per_frame)
        target = td_target(batch[Columns.REWARDS], next_value, batch[DONE], discount)
    state = batch[Columns.OBS]
    if not network.per_request:
        return _error(settings, network.value_of(network(state), batch[Columns.ACTIONS]), target)
    asked = network.spec.frequency(batch[Columns.NEXT_OBS])
    worth = network.worth_of(state)
    value = (asked * (worth[..., 0] + worth[..., 1] * batch[Columns.ACTIONS])).sum(-1)
    return _error(settings, value, target) + cross_entropy(network.log_belief(state), asked)


def _error(settings: T2DRLSettings, value: Tensor, target: Tensor) -> Tensor:
    return (huber_loss if settings.critic_loss == "huber" else value_loss)(value, target)
