# SPDX-License-Identifier: Apache-2.0
"""What routers learn: discrete soft actor-critic, and the values of DQN-TS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import Following, Notes, RoleLearner, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment
from edgegen.algorithms.roles.router.actor import Actor
from edgegen.algorithms.roles.router.losses import (
    OBJECTIVES,
    critic_loss,
    dqn_target,
    entropy,
    td_target,
    temperature_loss,
    values_loss,
)
from edgegen.algorithms.roles.router.module import LATENT, NEXT_LATENT, DQNModule, RouterModule
from edgegen.algorithms.roles.router.router import Router
from edgegen.algorithms.roles.router.set_replay import ReplayByServers
from edgegen.algorithms.roles.router.settings import RouterSettings

ACTOR, CRITIC, TEMPERATURE = "actor", "critic", "temperature"
"""Names of the optimizers."""

EVERYWHERE, PROBABILITY = "everywhere", "probability"
"""Names of the columns of what the reward would have been on every server, and the probabilities ``[G, rows, B]``."""


class RouterLearner(RoleLearner):
    """Soft actor-critic: critics, actor, temperature and soft target update, in this order, as in the authors' code.

    Args:
        router: How it sees servers, and its networks.
        settings: The settings.
    """

    role: ClassVar[str] = "router"
    deciding: ClassVar[str] = "actor"
    module_class: type[Any] = RouterModule

    def __init__(self, router: Router, settings: RouterSettings) -> None:
        self.router, self.spec, self.settings = router, router.spec, settings
        self.warmup, self.batch_size = settings.replay_warmup, settings.batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector and the chosen server."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.router.state_size,), np.float32)
        return Spaces(state, gym.spaces.Discrete(self.spec.servers))

    @property
    def model_config(self) -> dict[str, Any]:
        """The actor's spec, and what fresh critics and temperatures begin with."""
        return {
            "spec": self.spec.model_dump(),
            "initial_temperature": self.settings.initial_temperature,
            "reward_scale": self.settings.reward_scale,
            "critic_gain": self.settings.critic_gain,
        }

    def network(self) -> Actor:
        """An actor with fresh weights."""
        return self.router.actor()

    def replay(self, seed: int) -> TensorReplay:
        """A ring for every group of weights, or for every number of servers, whose states have different lengths."""
        if self.router.any_servers:
            return ReplayByServers(self.settings.replay_capacity, seed)
        return TensorReplay(self.spec.groups, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        """Updates are owed for slots."""
        return slots * self.settings.updates_per_slot

    def noted(self, view: Any, decision: Any, outcome: Any) -> Notes:
        """The whole decision and its outcome: a round is one slot."""
        return {"view": view, "decision": decision, "outcome": outcome}

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Put what became of a slot's decisions in the order of the groups of weights."""
        ((view, decision, outcome),) = (note.values() for note in notes)
        met = self.router.experience(self.settings, view, decision, outcome, following)
        columns = {
            Columns.OBS: met.state,
            LATENT: met.latent,
            Columns.ACTIONS: met.action[..., None],
            Columns.REWARDS: met.reward[..., None],
        }
        if met.next_state is not None and met.next_latent is not None:
            columns |= {Columns.NEXT_OBS: met.next_state, NEXT_LATENT: met.next_latent}
        if met.everywhere is not None:
            columns |= {EVERYWHERE: met.everywhere, PROBABILITY: decision.probability}
        grouped = {name: self.spec.grouped(value) for name, value in columns.items()}
        for name in (Columns.ACTIONS, Columns.REWARDS):
            grouped[name] = grouped[name][..., 0]
        return Fragment(grouped, self.spec.grouped(met.present[..., None])[..., 0])

    def optimizers(self, module: RouterModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One for the actor, one for both critics, one for the temperatures."""
        yield CRITIC, list(module.critics.parameters()), self.settings.critic_lr
        yield ACTOR, list(module.actor.parameters()), self.settings.actor_lr
        yield TEMPERATURE, [module.log_temperature], self.settings.temperature_lr

    def update(self, module: RouterModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update critics, actor and temperature, in this order."""
        settings = self.settings
        value_loss = self._critic_loss(module, batch, tools)
        tools.step(self.role, CRITIC, value_loss)
        policy_loss, policy_entropy, q = self._actor_loss(module, batch, tools)
        tools.step(self.role, ACTOR, policy_loss)
        temperature = module.log_temperature.detach().exp()
        if settings.learn_temperature:
            loss = temperature_loss(module.log_temperature, policy_entropy, settings.target_entropy)
            tools.step(self.role, TEMPERATURE, loss)
        groups = module.spec.groups
        return {
            "critic_loss": value_loss.detach() / groups,
            "actor_loss": policy_loss.detach() / groups,
            "entropy_nats": policy_entropy.mean(),
            "temperature": temperature.mean(),
            "q_mean": q.mean(),
        }

    def losses(self, module: RouterModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """Critic plus actor loss."""
        return self._critic_loss(module, batch, tools) + self._actor_loss(module, batch, tools)[0]

    def _critic_loss(self, module: RouterModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        if EVERYWHERE in batch:
            q = module.twin(module.critics, batch[Columns.OBS])
            return values_loss(q, batch[EVERYWHERE], batch[PROBABILITY])
        target = self._target(module, batch, tools)
        return critic_loss(module.twin(module.critics, batch[Columns.OBS]), batch[Columns.ACTIONS], target)

    @torch.no_grad()
    def _target(self, module: RouterModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """The value after a placement, or the reward alone where nothing is learned from what follows."""
        reward, next_state = batch[Columns.REWARDS], batch.get(Columns.NEXT_OBS)
        if next_state is None:
            return reward
        noise = tools.noise(module.actor.chain_noise, next_state.shape[1])
        next_probability = module.actor(next_state, batch[NEXT_LATENT], noise)
        next_q = module.least(module.target_critics, next_state)
        temperature = module.log_temperature.exp() * self.settings.soft_target
        return td_target(reward, next_probability, next_q, temperature, self.settings.gamma)

    def _actor_loss(
        self, module: RouterModule, batch: dict[str, Tensor], tools: Tools
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the entropy ``[G, rows]`` and the least critic values ``[G, rows, B]``, both constants."""
        state = batch[Columns.OBS]
        with torch.no_grad():
            q = module.least(module.critics, state)
            temperature = module.log_temperature.exp()
        noise = tools.noise(module.actor.chain_noise, state.shape[1])
        logits = module.actor.logits(state, batch[LATENT], noise)
        loss = OBJECTIVES[self.settings.actor_objective](logits, q, temperature, self.router.prior(state))
        return loss, entropy(logits.detach().softmax(-1)), q


class DQNRouterLearner(RouterLearner):
    """DQN-TS: one step on the squared TD error, and a copy into the target network every ``target_copy_every`` updates.

    World, view, replay and transitions are those of LAD-TS; one Q network takes the place of actor and critics.
    """

    module_class: type[Any] = DQNModule

    def optimizers(self, module: DQNModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One."""
        yield CRITIC, list(module.actor.parameters()), self.settings.critic_lr

    def update(self, module: DQNModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the Q network, and the target when it is due."""
        q = module.actor.logits(batch[Columns.OBS], batch[LATENT], None)
        loss = self._loss(module, batch, q)
        tools.step(self.role, CRITIC, loss)
        module.updates += 1
        if int(module.updates) % self.settings.target_copy_every == 0:
            module.copy_to_target()
        return {"critic_loss": loss.detach() / module.spec.groups, "q_mean": q.detach().mean()}

    def losses(self, module: DQNModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """The squared TD error."""
        return self._loss(module, batch, module.actor.logits(batch[Columns.OBS], batch[LATENT], None))

    def _loss(self, module: DQNModule, batch: dict[str, Tensor], q: Tensor) -> Tensor:
        with torch.no_grad():
            next_q = module.target_actor.logits(batch[Columns.NEXT_OBS], batch[NEXT_LATENT], None)
            target = dqn_target(batch[Columns.REWARDS], next_q, self.settings.gamma)
        return critic_loss(q[None], batch[Columns.ACTIONS], target)
