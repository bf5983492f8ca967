"""One LAD-TS update for all groups of weights at once."""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from edgegen.algorithms.ladts.losses import (
    actor_loss,
    critic_loss,
    entropy,
    projection_loss,
    td_target,
    temperature_loss,
)
from edgegen.algorithms.ladts.module import LATENT, NEXT_LATENT, LADTSModule
from edgegen.algorithms.ladts.set_view import log_capacity, split
from edgegen.algorithms.ladts.settings import LADTSSettings
from edgegen.algorithms.rllib.learner import FusedLearner

ACTOR, CRITIC, TEMPERATURE = "actor", "critic", "temperature"
"""Names of the optimizers."""


class LADTSLearner(FusedLearner):
    """Critics, actor, temperature and soft target update, in this order, as in the authors' code."""

    _settings: LADTSSettings

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register one Adam for the actor, one for both critics, one for the temperatures."""
        module = cast(LADTSModule, self._module[module_id])
        settings: LADTSSettings = (config or self.config).settings()
        self.register_adam(module_id, CRITIC, list(module.critics.parameters()), settings.critic_lr)
        self.register_adam(module_id, ACTOR, list(module.actor.parameters()), settings.actor_lr)
        self.register_adam(module_id, TEMPERATURE, [module.log_temperature], settings.temperature_lr)

    def update_module(self, module_id: str, module: LADTSModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update critics, actor and temperature, in this order."""
        settings = self._settings
        value_loss = self._critic_loss(module, batch)
        self.step(module_id, CRITIC, value_loss)
        policy_loss, policy_entropy, q = self._actor_loss(module, batch)
        self.step(module_id, ACTOR, policy_loss)
        temperature = module.log_temperature.detach().exp()
        if settings.learn_temperature:
            loss = temperature_loss(module.log_temperature, policy_entropy, settings.target_entropy)
            self.step(module_id, TEMPERATURE, loss)
        groups = module.spec.groups
        return {
            "critic_loss": value_loss.detach() / groups,
            "actor_loss": policy_loss.detach() / groups,
            "entropy_nats": policy_entropy.mean(),
            "temperature": temperature.mean(),
            "q_mean": q.mean(),
        }

    def _critic_loss(self, module: LADTSModule, batch: dict[str, Tensor]) -> Tensor:
        state = batch[Columns.OBS]
        if Columns.NEXT_OBS not in batch:  # network 'set' looks at one decision at a time
            return critic_loss(module.twin(module.critics, state), batch[Columns.ACTIONS], batch[Columns.REWARDS])
        next_state = batch[Columns.NEXT_OBS]
        with torch.no_grad():
            noise = self.noise(module.actor.chain_noise, state.shape[1])
            next_probability = module.actor(next_state, batch[NEXT_LATENT], noise)
            next_q = module.least(module.target_critics, next_state)
            temperature = module.log_temperature.exp() * self._settings.soft_target
            target = td_target(batch[Columns.REWARDS], next_probability, next_q, temperature, self._settings.gamma)
        return critic_loss(module.twin(module.critics, state), batch[Columns.ACTIONS], target)

    def _actor_loss(self, module: LADTSModule, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the entropy ``[G, rows]`` and the least critic values ``[G, rows, B]``, both constants."""
        state = batch[Columns.OBS]
        with torch.no_grad():
            q = module.least(module.critics, state)
            temperature = module.log_temperature.exp()
        noise = self.noise(module.actor.chain_noise, state.shape[1])
        logits = module.actor.logits(state, batch[LATENT], noise)
        probability = logits.softmax(-1)
        if self._settings.actor_objective == "forward_kl":
            prior = log_capacity(split(state)[1]) if module.spec.network == "set" else None
            loss = projection_loss(logits, q, temperature, prior)
        else:
            loss = actor_loss(probability, q, temperature)
        return loss, entropy(probability.detach()), q

    def losses(self, module_id: str, module: LADTSModule, batch: dict[str, Tensor]) -> Tensor:
        """Critic plus actor loss."""
        return self._critic_loss(module, batch) + self._actor_loss(module, batch)[0]
