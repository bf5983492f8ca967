"""Updates of T2DRL: DDQN for the cacher, D3PG for the allocator, each when its batch is there."""

from __future__ import annotations

from typing import Any

from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from edgegen.algorithms.rllib.learner import FusedLearner
from edgegen.algorithms.t2drl.allocator import AllocationActor
from edgegen.algorithms.t2drl.module import ALLOCATOR, CACHER, AllocatorModule, CacherModule
from edgegen.algorithms.t2drl.objectives import actor_objective, cacher_objective, critic_objective
from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.envs.provisioning.scenario import build_provisioning

ACTOR, CRITIC, VALUES = "actor", "critic", "values"
"""Names of the optimizers."""


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
        return cacher_objective(self._settings, module.values, module.target_values, batch)

    def _critic_loss(self, module: AllocatorModule, batch: dict[str, Tensor]) -> Tensor:
        return critic_objective(self._settings, module, batch, self._noise)

    def _actor_loss(self, module: AllocatorModule, batch: dict[str, Tensor]) -> Tensor:
        return actor_objective(self._settings, module, batch, self._noise)

    def _noise(self, actor: AllocationActor, rows: int) -> Tensor | None:
        return self.noise(actor.draw_noise, rows)
