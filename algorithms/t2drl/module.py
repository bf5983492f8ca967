"""The two agents of T2DRL as RLModules: the allocator of every slot, the cacher of every frame."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from edgegen.algorithms.t2drl.allocator import AllocationActor, AllocationCritic
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.spec import T2DRLSpec


class AllocatorModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """D3PG: an actor, a critic, and targets of both. ``model_config`` holds the ``spec``."""

    def setup(self) -> None:
        """Build the networks; the critic only where training happens."""
        self.spec = T2DRLSpec.model_validate(self.model_config["spec"])
        self.actor = AllocationActor(self.spec)
        if not self.inference_only:
            self.critic = AllocationCritic(self.spec)

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


class CacherModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """DDQN: a network of values and its target. ``model_config`` holds the ``spec``."""

    def setup(self) -> None:
        """Build the network."""
        self.spec = T2DRLSpec.model_validate(self.model_config["spec"])
        self.values = CachingNetwork(self.spec)

    def make_target_networks(self) -> None:
        """Copy the network."""
        self.target_values = copy.deepcopy(self.values).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of (network, its target)."""
        return [(self.values, self.target_values)]

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return ["target_values"]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Values by the target network."""
        return {"q": self.target_values(batch[Columns.OBS])}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Values of caches from states ``[G, rows, D]``."""
        return {"q": self.values(batch[Columns.OBS])}


def _no_noise(actor: AllocationActor, state: torch.Tensor) -> torch.Tensor | None:
    if not actor.steps:
        return None
    return state.new_zeros(actor.steps, *state.shape[:2], actor.actions)
