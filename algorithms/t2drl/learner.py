"""Updates of T2DRL: DDQN for the cacher, D3PG for the allocator, each when its batch is there."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from edgegen.algorithms.rllib.learner import FusedLearner
from edgegen.algorithms.t2drl.allocator import serving_options
from edgegen.algorithms.t2drl.losses import (
    cross_entropy,
    deterministic_policy_loss,
    huber_loss,
    search_loss,
    td_target,
    value_loss,
)
from edgegen.algorithms.t2drl.module import ALLOCATOR, CACHER, AllocatorModule, CacherModule
from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.envs.provisioning_scenario import build_provisioning

ACTOR, CRITIC, VALUES = "actor", "critic", "values"
"""Names of the optimizers."""

DONE = Columns.TERMINATEDS
SIZES = "relative_size"


class T2DRLLearner(FusedLearner):
    """One update of every module that has a batch: critic and then actor through the whole chain, or DDQN."""

    _settings: T2DRLSettings

    def build(self) -> None:
        """Build everything; an episode's length turns slots into episodes."""
        super().build()
        self._slots_per_episode = build_provisioning(dict(self.config.env_config["scenario"])).slots

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register one Adam per network."""
        module = self._module[module_id]
        settings: T2DRLSettings = (config or self.config).settings()
        if module_id == CACHER:
            self.register_adam(module_id, VALUES, list(module.values.parameters()), settings.cacher_lr)
        else:
            self.register_adam(module_id, CRITIC, list(module.critic.parameters()), settings.critic_lr)
            self.register_adam(module_id, ACTOR, list(module.actor.parameters()), settings.actor_lr)

    def update_module(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update one of the modules."""
        groups = module.spec.groups
        if module_id == CACHER:
            td_loss = self._cacher_loss(module, batch)
            self.step(module_id, VALUES, td_loss)
            return {"td_loss": td_loss.detach() / groups}
        critic_loss = self._critic_loss(module, batch)
        self.step(module_id, CRITIC, critic_loss)
        actor_loss = self._actor_loss(module, batch)
        self.step(module_id, ACTOR, actor_loss)
        return {"critic_loss": critic_loss.detach() / groups, "actor_loss": actor_loss.detach() / groups}

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Let the allocator's step sizes fall; the optimizers' state keeps them."""
        super().after_gradient_based_update(timesteps=timesteps)
        settings = self._settings
        if settings.lr_fall_episodes is None:
            return
        episodes = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0) / self._slots_per_episode
        left = settings.learning_rate_left(episodes)
        for name, rate in ((ACTOR, settings.actor_lr), (CRITIC, settings.critic_lr)):
            for group in self.get_optimizer(ALLOCATOR, name).param_groups:
                group["lr"] = rate * left

    def losses(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> Tensor:
        """Loss of the cacher, or critic plus actor loss of the allocator."""
        if module_id == CACHER:
            return self._cacher_loss(module, batch)
        return self._critic_loss(module, batch) + self._actor_loss(module, batch)

    def _cacher_loss(self, module: CacherModule, batch: dict[str, Tensor]) -> Tensor:
        """Double DQN: the network selects the next cache, its target values it."""
        network = module.values
        with torch.no_grad():
            next_state = batch[Columns.NEXT_OBS]
            chosen = network.best(network(next_state), batch[SIZES])
            next_value = network.value_of(module.target_values(next_state), chosen)
            discount = self._settings.discount_per_frame(module.spec.slots_per_frame)
            target = td_target(batch[Columns.REWARDS], next_value, batch[DONE], discount)
        if network.per_request:
            state = batch[Columns.OBS]
            asked = module.spec.frequency(batch[Columns.NEXT_OBS])
            worth = network.worth_of(state)
            value = (asked * (worth[..., 0] + worth[..., 1] * batch[Columns.ACTIONS])).sum(-1)
            return value_loss(value, target) + cross_entropy(network.log_belief(state), asked)
        return value_loss(network.value_of(network(batch[Columns.OBS]), batch[Columns.ACTIONS]), target)

    def _critic_loss(self, module: AllocatorModule, batch: dict[str, Tensor]) -> Tensor:
        target = batch[Columns.REWARDS]
        if self._settings.gamma > 0:
            with torch.no_grad():
                next_state = batch[Columns.NEXT_OBS]
                noise = module.target_actor.draw_noise(next_state.shape[1], self._generator)
                next_value = module.target_critic(next_state, module.target_actor(next_state, noise))
                target = td_target(target, next_value, batch[DONE], self._settings.gamma)
        value = module.critic(batch[Columns.OBS], batch[Columns.ACTIONS])
        loss = huber_loss if self._settings.critic_loss == "huber" else value_loss
        return loss(value, target)

    def _actor_loss(self, module: AllocatorModule, batch: dict[str, Tensor]) -> Tensor:
        state = batch[Columns.OBS]
        noise = module.actor.draw_noise(state.shape[1], self._generator)
        x = module.actor.unbounded(state, noise)
        action = module.actor.squash(x)
        loss = deterministic_policy_loss(module.critic(state, action))
        if self._settings.search_weight > 0:
            rows = slice(0, self._settings.search_rows)
            loss = loss + self._settings.search_weight * _search_loss(module, state[:, rows], action[:, rows])
        return loss + self._settings.action_penalty * x.square().mean((1, 2)).sum()


def _search_loss(module: AllocatorModule, state: Tensor, action: Tensor) -> Tensor:
    """How far the computing shares are from those of the best option, by what it is better than the action."""
    spec, critic = module.spec, module.critic
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
