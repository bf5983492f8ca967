# SPDX-License-Identifier: Apache-2.0
"""How the toy's method learns: one role, one network, one loss."""

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from edgegen.algorithms.rllib.config import JointConfig
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import EpisodeLog, Following, Learning, Notes, RoleLearner, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment
from edgegen_toy.method import BanditPolicy, BanditSpec, make_network
from edgegen_toy.world import DISPATCHER, ToyOutcome, ToyView


class BanditConfig(JointConfig):
    """RLlib's config of the method."""

    method_name = "bandit"


class BanditModule(TorchRLModule, InferenceOnlyAPI):  # type: ignore[misc]  # Ray has no types
    """The network, as RLlib has it; it is small, and nothing in it is for training only."""

    def setup(self) -> None:
        self.costs = make_network()

    def get_non_inference_attributes(self) -> list[str]:
        return []

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"costs": self.costs(batch[Columns.OBS])}


class BanditLearner(RoleLearner):
    """Learns the wait that followed a choice: one network, one loss, one update a slot."""

    role: ClassVar[str] = DISPATCHER
    deciding: ClassVar[str] = "costs"
    module_class: type[Any] = BanditModule

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.warmup, self.batch_size = settings.batch_size, settings.batch_size

    @property
    def spaces(self) -> Spaces:
        return Spaces(gym.spaces.Box(-np.inf, np.inf, (3,), np.float32), gym.spaces.Discrete(2))

    @property
    def model_config(self) -> dict[str, Any]:
        return {}

    def network(self) -> nn.Module:
        return make_network()

    def replay(self, seed: int) -> TensorReplay:
        return TensorReplay(1, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        return float(slots / self.settings.copies)

    def noted(self, view: ToyView, decision: Any, outcome: ToyOutcome) -> Notes:
        return {**decision, "wait_s": outcome.wait_s}

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        ((state, chosen, wait_s),) = (note.values() for note in notes)
        columns = {Columns.OBS: state[None], Columns.ACTIONS: chosen[None], Columns.REWARDS: -wait_s[None]}
        return Fragment(columns, torch.ones(1, len(state), dtype=torch.bool))

    def optimizers(self, module: BanditModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        yield "costs", list(module.costs.parameters()), self.settings.lr

    def update(self, module: BanditModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        loss = self.losses(module, batch, tools)
        tools.step(self.role, "costs", loss)
        return {"cost_loss": loss.detach()}

    def losses(self, module: BanditModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        costs = module.costs(batch[Columns.OBS]).gather(-1, batch[Columns.ACTIONS])
        loss: Tensor = (costs + batch[Columns.REWARDS]).square().mean()
        return loss


class WaitLog(EpisodeLog):
    """Reports the mean wait of an episode, s."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("wait_s",)

    def add(self, role: str, outcome: ToyOutcome) -> tuple[int, int]:
        self.sums["wait_s"] += outcome.wait_s[:, 0]
        return self.world.copies, self.world.copies

    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        waits = (self.sums["wait_s"] / self.world.scenario.slots).tolist()
        return [{"wait_s": wait} for wait in waits], [-wait for wait in waits]


class BanditLearning(Learning):
    """One role learns."""

    log_class = WaitLog

    def __init__(self, scenario: Any, settings: Any) -> None:
        super().__init__(scenario, settings)
        self.roles = {DISPATCHER: BanditLearner(settings)}

    def policy(self, networks: dict[str, nn.Module], seed: int) -> BanditPolicy:
        return BanditPolicy(networks[DISPATCHER], BanditSpec(sharpness=self.settings.sharpness), seed)
