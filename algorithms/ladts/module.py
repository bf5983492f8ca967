"""LAD-TS as an RLModule: actor, twin critics with targets, and temperatures, for all agents in stacked weights."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.set_networks import SetCritic
from edgegen.algorithms.nets.stacked import StackedMLP

MODULE_ID = "ladts"
"""The one module: all servers' agents live in its stacked weights."""

LATENT = "latent"
NEXT_LATENT = "next_latent"


class LADTSModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """Networks of LAD-TS (spec §4).

    ``model_config`` holds the actor's ``spec``, the ``initial_temperature`` and the ``reward_scale``. The temperatures
    are parameters so that a checkpoint of the module holds them.
    """

    def setup(self) -> None:
        """Build the networks; critics only where training happens."""
        spec = ActorSpec.model_validate(self.model_config["spec"])
        self.spec = spec
        self.actor = make_actor(spec)
        if self.inference_only:
            return
        self.critics = self._make_critics()
        initial = torch.full((spec.groups,), float(self.model_config["initial_temperature"]))
        self.log_temperature = nn.Parameter(initial.log())

    def make_target_networks(self) -> None:
        """Copy the critics; LAD-TS has no target actor."""
        self.target_critics = self._make_critics()
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_critics.requires_grad_(False)

    def _make_critics(self) -> StackedMLP | SetCritic:
        """The two critics of group g are networks g and G + g of one stack. Critics do not see the latent."""
        spec = self.spec
        if spec.network == "set":
            return SetCritic(spec, 2 * spec.groups, float(self.model_config["reward_scale"]))
        return StackedMLP(2 * spec.groups, [spec.state_size, spec.hidden, spec.hidden, spec.servers])

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of (network, its target)."""
        return [(self.critics, self.target_critics)]

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need."""
        return ["critics", "target_critics", "log_temperature"]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Least of the two target critics, ``[G, rows, B]``."""
        return {"q": self.least(self.target_critics, batch[Columns.OBS])}

    def twin(self, critics: StackedMLP | SetCritic, state: Tensor) -> Tensor:
        """Both critics' values ``[2, G, rows, B]`` of states ``[G, rows, D]``."""
        groups, rows, _ = state.shape
        values: Tensor = critics(torch.cat([state, state]))
        return values.view(2, groups, rows, -1)

    def least(self, critics: StackedMLP | SetCritic, state: Tensor) -> Tensor:
        """The smaller of the two critics' values ``[G, rows, B]``."""
        return self.twin(critics, state).amin(0)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Action probabilities from states ``[G, rows, D]`` and latents ``[G, rows, B]``, without chain noise."""
        return {"probability": self.actor(batch[Columns.OBS], batch[LATENT], None)}
