"""One LAD-TS update for all groups of weights at once."""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
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
from edgegen.algorithms.ladts.settings import LADTSSettings

ACTOR, CRITIC, TEMPERATURE = "actor", "critic", "temperature"
"""Names of the optimizers."""

GENERATOR = "chain_noise_generator"


class LADTSLearner(TorchLearner):
    """Critics, actor, temperature and soft target update, in this order (spec §4.4).

    The actor is updated against critics that have just been updated, so the losses can not be computed side by side
    and ``_update`` runs the whole sequence. The chain noise of the updates has its own generator, which is part of
    the learner's state.
    """

    def build(self) -> None:
        """Build module and optimizers, make the target networks, seed the chain noise."""
        super().build()
        for module in self._networks().values():
            module.make_target_networks()
            module.to(self._device)
        self._settings: LADTSSettings = self.config.settings()
        self._generator = torch.Generator().manual_seed(int(self.config.seed or 0) + 7919)

    def _networks(self) -> dict[str, LADTSModule]:
        """The modules by name, out of RLlib's data-parallel wrapper where there is one."""
        return {name: cast(LADTSModule, self.module[name].unwrapped()) for name in self.module.keys()}  # noqa: SIM118

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register one Adam for the actor, one for both critics, one for the temperatures."""
        module = cast(LADTSModule, self._module[module_id])
        settings: LADTSSettings = (config or self.config).settings()
        for name, parameters, lr in (
            (CRITIC, list(module.critics.parameters()), settings.critic_lr),
            (ACTOR, list(module.actor.parameters()), settings.actor_lr),
            (TEMPERATURE, [module.log_temperature], settings.temperature_lr),
        ):
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, lr=lr, foreach=True),
                params=parameters,
                lr_or_lr_schedule=lr,
            )

    def _update(self, batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        losses = {}
        for module_id, columns in batch.items():
            module = self._networks()[module_id]
            results = self._update_module(module_id, module, {k: v.transpose(0, 1) for k, v in columns.items()})
            self.metrics.log_dict(results, key=module_id, window=1)
            losses[module_id] = results["critic_loss"] + results["actor_loss"]
        return {}, losses, {}

    def _update_module(self, module_id: str, module: LADTSModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update from columns ``[G, rows, ...]``."""
        settings = self._settings
        value_loss = self._critic_loss(module, batch)
        self._step(module_id, CRITIC, value_loss)
        policy_loss, policy_entropy, q = self._actor_loss(module, batch)
        self._step(module_id, ACTOR, policy_loss)
        temperature = module.log_temperature.detach().exp()
        if settings.learn_temperature:
            loss = temperature_loss(module.log_temperature, policy_entropy, settings.target_entropy)
            self._step(module_id, TEMPERATURE, loss)
        with torch.no_grad():
            for network, target_network in module.get_target_network_pairs():
                torch._foreach_lerp_(list(target_network.parameters()), list(network.parameters()), settings.tau)
        groups = module.spec.groups
        return {
            "critic_loss": value_loss.detach() / groups,
            "actor_loss": policy_loss.detach() / groups,
            "entropy_nats": policy_entropy.mean(),
            "temperature": temperature.mean(),
            "q_mean": q.mean(),
        }

    def _critic_loss(self, module: LADTSModule, batch: dict[str, Tensor]) -> Tensor:
        state, next_state = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            noise = module.actor.chain_noise(state.shape[1], self._generator)
            next_probability = module.actor(next_state, batch[NEXT_LATENT], noise)
            next_q = module.least(module.target_critics, next_state)
            temperature = module.log_temperature.exp()
            target = td_target(batch[Columns.REWARDS], next_probability, next_q, temperature, self._settings.gamma)
        return critic_loss(module.twin(module.critics, state), batch[Columns.ACTIONS], target)

    def _actor_loss(self, module: LADTSModule, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the entropy ``[G, rows]`` and the least critic values ``[G, rows, B]``, both constants."""
        state = batch[Columns.OBS]
        with torch.no_grad():
            q = module.least(module.critics, state)
            temperature = module.log_temperature.exp()
        noise = module.actor.chain_noise(state.shape[1], self._generator)
        logits = module.actor.logits(state, batch[LATENT], noise)
        probability = logits.softmax(-1)
        if self._settings.actor_objective == "forward_kl":
            loss = projection_loss(logits, q, temperature)
        else:
            loss = actor_loss(probability, q, temperature)
        return loss, entropy(probability.detach()), q

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any) -> Tensor:
        """Critic plus actor loss at the present weights, for diagnosis; training goes through ``_update``."""
        del config, fwd_out
        module = self._networks()[module_id]
        grouped = {name: value.transpose(0, 1) for name, value in batch.items()}
        return self._critic_loss(module, grouped) + self._actor_loss(module, grouped)[0]

    def _step(self, module_id: str, name: str, loss: Tensor) -> None:
        """Back-propagate a loss into the parameters of one optimizer alone, and step it."""
        optimizer = self.get_optimizer(module_id, name)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters)
        if self.config.num_learners > 1:  # every learner saw its own rows
            for gradient in gradients:
                torch.distributed.all_reduce(gradient)
                gradient /= self.config.num_learners
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Add the generator of the chain noise to the state."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(GENERATOR, components, not_components):
            state[GENERATOR] = self._generator.get_state().numpy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the generator of the chain noise too."""
        super().set_state(state)
        if GENERATOR in state:
            self._generator.set_state(torch.from_numpy(state[GENERATOR].copy()))
