"""DQN-TS: the world, view, replay and runner of LAD-TS, with one Q network instead of actor and critics."""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.learner import CRITIC
from edgegen.algorithms.ladts.losses import critic_loss, dqn_target
from edgegen.algorithms.ladts.module import LATENT, NEXT_LATENT
from edgegen.algorithms.ladts.settings import LADTSSettings
from edgegen.algorithms.rllib.learner import FusedLearner


class DQNModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """The Q network, under the name ``actor`` because it decides, and its target, for all agents in stacked weights."""

    def setup(self) -> None:
        """Build the network; the count of updates only where training happens."""
        self.spec = ActorSpec.model_validate(self.model_config["spec"])
        self.actor = make_actor(self.spec)
        if not self.inference_only:
            # A buffer, so that a resumed run copies into the target when the uninterrupted one does.
            self.register_buffer("updates", torch.zeros(1, dtype=torch.long))

    def make_target_networks(self) -> None:
        """Copy the Q network."""
        self.target_actor = make_actor(self.spec)
        self.target_actor.requires_grad_(False)
        self.copy_to_target()

    def copy_to_target(self) -> None:
        """Make the target what the Q network is."""
        self.target_actor.load_state_dict(self.actor.state_dict())

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """None that follow softly: the target is a copy from time to time."""
        return []

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return ["target_actor", "updates"]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Values of the target network, ``[G, rows, B]``."""
        return {"q": self.target_actor.logits(batch[Columns.OBS], batch[LATENT], None)}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """ε-greedy action probabilities from states ``[G, rows, D]``."""
        return {"probability": self.actor(batch[Columns.OBS], batch[LATENT], None)}


class DQNLearner(FusedLearner):
    """One step on the squared TD error, and a copy into the target network every ``target_copy_every`` updates."""

    _settings: LADTSSettings

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register one Adam."""
        module = cast(DQNModule, self._module[module_id])
        settings: LADTSSettings = (config or self.config).settings()
        self.register_adam(module_id, CRITIC, list(module.actor.parameters()), settings.critic_lr)

    def update_module(self, module_id: str, module: DQNModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the Q network, and the target when it is due."""
        q = module.actor.logits(batch[Columns.OBS], batch[LATENT], None)
        loss = self._loss(module, batch, q)
        self.step(module_id, CRITIC, loss)
        module.updates += 1
        if int(module.updates) % self._settings.target_copy_every == 0:
            module.copy_to_target()
        return {"critic_loss": loss.detach() / module.spec.groups, "q_mean": q.detach().mean()}

    def _loss(self, module: DQNModule, batch: dict[str, Tensor], q: Tensor) -> Tensor:
        with torch.no_grad():
            next_q = module.target_actor.logits(batch[Columns.NEXT_OBS], batch[NEXT_LATENT], None)
            target = dqn_target(batch[Columns.REWARDS], next_q, self._settings.gamma)
        return critic_loss(q[None], batch[Columns.ACTIONS], target)

    def losses(self, module_id: str, module: DQNModule, batch: dict[str, Tensor]) -> Tensor:
        """The squared TD error."""
        return self._loss(module, batch, module.actor.logits(batch[Columns.OBS], batch[LATENT], None))
