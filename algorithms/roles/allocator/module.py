# SPDX-License-Identifier: Apache-2.0
"""The allocator of every slot as an RLModule."""

from __future__ import annotations

import copy
from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from edgegen.algorithms.roles.allocator.networks import NETWORKS, AllocationActor
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.allocator.state import SlotLayout


class AllocatorModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """D3PG: an actor, a critic, and targets of both. ``model_config`` holds settings, layout and groups."""

    def setup(self) -> None:
        """Build the networks; the critic only where training happens."""
        settings = AllocatorSettings.model_validate(self.model_config["settings"])
        layout = SlotLayout.model_validate(self.model_config["layout"])
        networks, groups = NETWORKS[settings.network], self.model_config["groups"]
        self.actor = networks.actor(settings, layout, groups)
        if not self.inference_only:
            self.critic = networks.critic(settings, layout, groups)

    def make_target_networks(self) -> None:
        """Copy actor and critic."""
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of (network, its target)."""
        return [(self.actor, self.target_actor), (self.critic, self.target_critic)]

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return ["critic", "target_actor", "target_critic"]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Value of the target actor's actions, from a chain without noise."""
        state = batch[Columns.OBS]
        action = self.target_actor(state, _no_noise(self.target_actor, state))
        return {"q": self.target_critic(state, action)}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Raw actions ``[G, rows, 2N]`` from states ``[G, rows, D]``, from a chain without noise."""
        state = batch[Columns.OBS]
        return {Columns.ACTIONS: self.actor(state, _no_noise(self.actor, state))}


def _no_noise(actor: AllocationActor, state: Tensor) -> Tensor | None:
    if not actor.steps:
        return None
    return state.new_zeros(actor.steps, *state.shape[:2], actor.layout.actions)
