# SPDX-License-Identifier: Apache-2.0
"""The cacher of every frame as an RLModule."""

from __future__ import annotations

import copy
from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from edgegen.algorithms.roles.cacher.networks import HEADS
from edgegen.algorithms.roles.cacher.settings import CacherSettings
from edgegen.algorithms.roles.cacher.state import FrameLayout


class CacherModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """DDQN: a network of values and its target. ``model_config`` holds settings, layout and groups."""

    def setup(self) -> None:
        """Build the network."""
        settings = CacherSettings.model_validate(self.model_config["settings"])
        layout = FrameLayout.model_validate(self.model_config["layout"])
        self.values = HEADS[settings.caching_head](settings, layout, self.model_config["groups"])

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
