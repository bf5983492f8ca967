"""What the learners share: fused updates of stacked networks, soft targets, and a generator of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

GENERATOR = "chain_noise_generator"


class FusedLearner(TorchLearner):
    """A TorchLearner whose update is a sequence of steps, each against networks that the one before has changed.

    RLlib computes all losses of a module before it applies any gradient; an actor is to be updated against critics
    that have just been updated. Also, chain noise has its own generator here, which is part of the learner's state.
    """

    def build(self) -> None:
        """Build modules and optimizers, make the target networks, seed the chain noise."""
        super().build()
        for module in self.networks().values():
            module.make_target_networks()
            module.to(self._device)
        self._settings = self.config.settings()
        self._generator = torch.Generator().manual_seed(int(self.config.seed or 0) + 7919)

    def networks(self) -> dict[str, Any]:
        """The modules by name, out of RLlib's data-parallel wrapper where there is one."""
        return {name: self.module[name].unwrapped() for name in self.module.keys()}  # noqa: SIM118

    def register_adam(self, module_id: str, name: str, parameters: list[nn.Parameter], lr: float) -> None:
        """Register an Adam optimizer under a name."""
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
            module = self.networks()[module_id]
            results = self.update_module(module_id, module, {k: v.transpose(0, 1) for k, v in columns.items()})
            with torch.no_grad():
                for network, target in module.get_target_network_pairs():
                    torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), self._settings.tau)
            self.metrics.log_dict(results, key=module_id, window=1)
            losses[module_id] = sum(value for name, value in results.items() if name.endswith("_loss"))
        return {}, losses, {}

    @abstractmethod
    def update_module(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update a module from columns ``[G, rows, ...]``; returns what to log, losses named ``..._loss``."""

    @abstractmethod
    def losses(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> Tensor:
        """Sum of a module's losses at the present weights, from columns ``[G, rows, ...]``."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any) -> Tensor:
        """Sum of a module's losses at the present weights, for diagnosis; training goes through ``_update``."""
        del config, fwd_out
        grouped = {name: value.transpose(0, 1) for name, value in batch.items()}
        return self.losses(module_id, self.networks()[module_id], grouped)

    def step(self, module_id: str, name: str, loss: Tensor) -> None:
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
