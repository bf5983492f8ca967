# SPDX-License-Identifier: Apache-2.0
"""A role's chain as an RLModule, with the average of its weights."""

from __future__ import annotations

import copy
from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from edgegen.algorithms.fleet.spec import FleetSpec, make_chain

CHAIN, AVERAGE = "chain", "average"
"""Names of the networks."""


class FleetModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """A chain that plays, and its average, which is kept. ``model_config`` holds the ``spec`` and ``role``."""

    def setup(self) -> None:
        """Build the chain."""
        self.spec = FleetSpec.model_validate(self.model_config["spec"])
        self.chain = make_chain(self.spec, self.model_config["role"])

    def make_target_networks(self) -> None:
        """Copy the chain."""
        self.average = copy.deepcopy(self.chain).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of (network, its average)."""
        return [(self.chain, self.average)]

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return [AVERAGE]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Latents by the average."""
        return {"latent": self.average(batch[Columns.OBS], batch["latent"])}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Denoised latents ``[..., n]`` from features ``[..., n, F]`` and latents."""
        return {"latent": self.chain(batch[Columns.OBS], batch["latent"])}
