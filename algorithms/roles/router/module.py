# SPDX-License-Identifier: Apache-2.0
"""Networks of routers as RLModules: an actor, twin critics with targets and temperatures, and DQN-TS's values.

All servers' agents live in the stacked weights of one module.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from edgegen.algorithms.roles.router.routers import router_of
from edgegen.algorithms.roles.router.spec import RouterSpec

LATENT = "latent"
NEXT_LATENT = "next_latent"


class RouterModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """Networks of soft actor-critic (docs/spec/ladts.md §4).

    ``model_config`` holds the actor's ``spec``, the ``initial_temperature``, the ``reward_scale`` and the
    ``critic_gain``. The temperatures are parameters so that a checkpoint of the module holds them.
    """

    def setup(self) -> None:
        """Build the networks; critics only where training happens."""
        self.spec = RouterSpec.model_validate(self.model_config["spec"])
        self.actor = router_of(self.spec).actor()
        if self.inference_only:
            return
        self.critics = self._make_critics()
        initial = torch.full((self.spec.groups,), float(self.model_config["initial_temperature"]))
        self.log_temperature = nn.Parameter(initial.log())

    def make_target_networks(self) -> None:
        """Copy the critics; there is no target actor."""
        self.target_critics = self._make_critics()
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_critics.requires_grad_(False)

    def _make_critics(self) -> nn.Module:
        """The two critics of group g are networks g and G + g of one stack."""
        scale, gain = (float(self.model_config[name]) for name in ("reward_scale", "critic_gain"))
        return router_of(self.spec).critics(2 * self.spec.groups, scale, gain)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of (network, its target)."""
        return [(self.critics, self.target_critics)]

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return ["critics", "target_critics", "log_temperature"]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Least of the two target critics, ``[G, rows, B]``."""
        return {"q": self.least(self.target_critics, batch[Columns.OBS])}

    def twin(self, critics: nn.Module, state: Tensor) -> Tensor:
        """Both critics' values ``[2, G, rows, B]`` of states ``[G, rows, D]``."""
        groups, rows, _ = state.shape
        values: Tensor = critics(torch.cat([state, state]))
        return values.view(2, groups, rows, -1)

    def least(self, critics: nn.Module, state: Tensor) -> Tensor:
        """The smaller of the two critics' values ``[G, rows, B]``."""
        return self.twin(critics, state).amin(0)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Action probabilities from states ``[G, rows, D]`` and latents ``[G, rows, B]``, without chain noise."""
        return {"probability": self.actor(batch[Columns.OBS], batch[LATENT], None)}


class DQNModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """The Q network, under the name ``actor`` because it decides, and its target, for all agents in stacked weights."""

    def setup(self) -> None:
        """Build the network; the count of updates only where training happens."""
        self.spec = RouterSpec.model_validate(self.model_config["spec"])
        self.actor = router_of(self.spec).actor()
        if not self.inference_only:
            # A buffer, so that a resumed run copies into the target when the uninterrupted one does.
            self.register_buffer("updates", torch.zeros(1, dtype=torch.long))

    def make_target_networks(self) -> None:
        """Copy the Q network."""
        self.target_actor = router_of(self.spec).actor()
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
