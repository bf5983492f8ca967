# SPDX-License-Identifier: Apache-2.0
"""The learner of every method: fused updates of stacked networks, role by role, and a generator of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor, nn

from edgegen.algorithms.rllib.adam import Adam
from edgegen.algorithms.rllib.private import OpenLearner
from edgegen.algorithms.rllib.role import Learning

GENERATOR = "chain_noise_generator"
PEER_TIMEOUT_S = 120.0
"""How long a learner waits for the gradients of the others before it takes them for lost, s."""


def _total(results: dict[str, Tensor]) -> Any:
    """Sum of the losses among the results of an update."""
    return sum(value for name, value in results.items() if name.endswith("_loss"))


class JointLearner(OpenLearner):
    """A TorchLearner for all roles. Its update is a sequence of steps, each against what the one before has changed.

    RLlib computes all losses of a module before it applies any gradient; an actor is to be updated against critics
    that have just been updated. Also, chain noise has its own generator here, which is part of the learner's state.

    Several learners take equal parts of every batch and step with the mean of their gradients. They draw the same noise
    and each uses the part for its own rows. So L learners with b rows each do what one does with L · b rows, and
    all of them have the same state.

    Attributes:
        student: What fetches batches in asynchronous training; None in synchronous training.
    """

    student: Any = None

    def build(self) -> None:
        """Build modules and optimizers, make the target networks, seed the chain noise."""
        self._learning: Learning = self.config.learning()
        self._rows: dict[str, int] = {}
        self._sums: dict[str, tuple[dict[str, Any], int]] = {}
        super().build()
        for module in self.networks().values():
            if isinstance(module, TargetNetworkAPI):
                module.make_target_networks()
            module.to(self.device)
        self._settings = self._learning.settings
        self._generator = torch.Generator().manual_seed(int(self.config.seed or 0) + 7919)

    def begin_alike(self) -> None:
        """Begin with equal weights on all learners, without RLlib's wrapper, which ``update_module`` would bypass.

        Gradients travel over gloo on GPUs, too: the networks are small, learners may share a GPU, which NCCL refuses,
        and a learner whose peer is gone fails at once or after ``PEER_TIMEOUT_S`` instead of half an hour.
        """
        if self.config.num_learners <= 1:
            return
        self._peers = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=PEER_TIMEOUT_S))
        for module in self.networks().values():
            for value in (*module.parameters(), *module.buffers()):
                weights = value.detach().cpu()
                torch.distributed.broadcast(weights, src=0, group=self._peers)
                value.data.copy_(weights)

    def networks(self) -> dict[str, Any]:
        """The modules by name."""
        return {name: self.module[name].unwrapped() for name in self.module.keys()}  # noqa: SIM118

    def register_adam(self, module_id: str, name: str, parameters: list[nn.Parameter], lr: float) -> None:
        """Register an Adam optimizer under a name."""
        self.register_optimizer(
            module_id=module_id,
            optimizer_name=name,
            optimizer=Adam(parameters, lr),
            params=parameters,
            lr_or_lr_schedule=lr,
        )

    def make_update(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Update module by module; the soft targets follow at once."""
        losses = {}
        for module_id, columns in batch.items():
            results = self._update_from(module_id, columns)
            self.metrics.log_dict(results, key=module_id, window=1)
            losses[module_id] = _total(results)
        return losses

    def _update_from(self, module_id: str, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update a module and its soft targets from columns ``[rows, G, ...]``; returns what to log."""
        module = self.networks()[module_id]
        results = self.update_module(module_id, module, {k: v.transpose(0, 1) for k, v in columns.items()})
        with torch.no_grad():
            pairs = module.get_target_network_pairs() if isinstance(module, TargetNetworkAPI) else ()
            for network, target in pairs:
                torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), self._settings.tau)
        return results

    def update_here(self, module_id: str, batches: Iterable[dict[str, Tensor]], timesteps: dict[str, Any]) -> None:
        """Update a module from batches that are in this process, without what RLlib does around every single one.

        Args:
            module_id: The module.
            batches: Columns ``[rows, G, ...]`` of each update, drawn one after the other.
            timesteps: See :meth:`after_gradient_based_update`.
        """
        slots = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        for columns in batches:
            self.count_update()
            results = self._update_from(module_id, {name: value.to(self.device) for name, value in columns.items()})
            sums, number = self._sums.get(module_id, ({}, 0))
            self._sums[module_id] = ({name: sums.get(name, 0) + value for name, value in results.items()}, number + 1)
            for role in self._learning.roles.values():
                role.after_update(self, slots)
            self._rows[module_id] = self._rows.get(module_id, 0) + len(columns[Columns.OBS])

    def report(self) -> Any:
        """What the updates in this process since the last report were like, on average, as RLlib aggregates it."""
        for module_id, rows in self._rows.items():
            self.log_trained(module_id, rows)
        for module_id, (sums, number) in self._sums.items():
            means = {name: value / number for name, value in sums.items()}
            self.metrics.log_dict(means, key=module_id, window=1)
            self.metrics.log_value((module_id, self.TOTAL_LOSS_KEY), _total(means), window=1)
        self._rows, self._sums = {}, {}
        return self.metrics.reduce()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the optimizers of a role."""
        learning = self._learning if config is None else config.learning()
        for name, parameters, lr in learning.roles[module_id].optimizers(self.module[module_id]):
            self.register_adam(module_id, name, parameters, lr)

    def update_module(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update a module from columns ``[G, rows, ...]``; returns what to log, losses named ``..._loss``."""
        return self._learning.roles[module_id].update(module, batch, self)

    def losses(self, module_id: str, module: Any, batch: dict[str, Tensor]) -> Tensor:
        """Sum of a module's losses at the present weights, from columns ``[G, rows, ...]``."""
        return self._learning.roles[module_id].losses(module, batch, self)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Let every role do what is due."""
        super().after_gradient_based_update(timesteps=timesteps)
        for role in self._learning.roles.values():
            role.after_update(self, timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    def set_step_size(self, module_id: str, name: str, rate: float) -> None:
        """Change the step size of an optimizer; the optimizer's state keeps it."""
        for group in self.get_optimizer(module_id, name).param_groups:
            group["lr"] = rate

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any) -> Tensor:
        """Sum of a module's losses at the present weights, for diagnosis; training goes through ``make_update``."""
        del config, fwd_out
        grouped = {name: value.transpose(0, 1) for name, value in batch.items()}
        return self.losses(module_id, self.networks()[module_id], grouped)

    def step(self, module_id: str, name: str, loss: Tensor) -> None:
        """Back-propagate a loss into the parameters of one optimizer alone, and step it."""
        optimizer = self.get_optimizer(module_id, name)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.advance(self._mean_over_learners(torch.autograd.grad(loss, parameters)))

    def _mean_over_learners(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Every learner saw rows of its own; one message for all gradients, because each costs a round trip."""
        if self.config.num_learners <= 1:
            return gradients
        flat = torch.cat([gradient.flatten() for gradient in gradients]).cpu()
        torch.distributed.all_reduce(flat, group=self._peers)
        parts = (flat / self.config.num_learners).to(self.device).split([gradient.numel() for gradient in gradients])
        return tuple(part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True))

    def tell(self, values: list[int]) -> list[int]:
        """Hand some numbers of the first learner to all of them."""
        told = torch.tensor(values, dtype=torch.long)
        torch.distributed.broadcast(told, src=0, group=self._peers)
        return [int(value) for value in told]

    def least(self, value: int) -> int:
        """The least of a number over all learners."""
        least = torch.tensor(value, dtype=torch.long)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN, group=self._peers)
        return int(least)

    def deciding_weights(self) -> dict[str, dict[str, Any]]:
        """Weights of the networks that decide, by module, as arrays."""
        return {
            name: {
                parameter: value.detach().cpu().numpy()
                for parameter, value in getattr(module, self._learning.roles[name].deciding).state_dict().items()
            }
            for name, module in self.networks().items()
        }

    def noise(self, draw: Callable[[int, torch.Generator], Tensor | None], rows: int) -> Tensor | None:
        """Draw the noise for this learner's rows of the batch.

        Args:
            draw: From a number of rows and a generator to noise ``[..., rows, size]``, or None.
            rows: Rows of this learner.
        """
        learners = max(1, int(self.config.num_learners))
        drawn = draw(rows * learners, self._generator)
        return drawn if drawn is None or learners == 1 else drawn.narrow(-2, self.index * rows, rows)

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Add the generator of the chain noise to the state."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(GENERATOR, components, not_components):
            state[GENERATOR] = self._generator.get_state().numpy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the generator of the chain noise too, and the weights even if they are older than the present ones.

        RLlib keeps newer weights, by the count of updates, and takes the older state of the optimizers all the same.
        It also hands all learners of a machine the same memory of Ray's object store, and an optimizer steps in place:
        learners would overwrite each other's moments.
        """
        self.put_state(copy.deepcopy(state))
        if GENERATOR in state:
            self._generator.set_state(torch.from_numpy(state[GENERATOR].copy()))
