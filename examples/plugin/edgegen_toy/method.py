# SPDX-License-Identifier: Apache-2.0
"""A method for the toy world: learns what each server would cost the next job, and mostly takes the cheaper one."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, sample_shares
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.methods.registry import Method
from edgegen.envs.core.fields import Batch, Count, Frozen, Positive, StepSize
from edgegen_toy.world import DISPATCHER, ToyScenario, ToyView

PRESETS: dict[str, dict[str, Any]] = {"plain": {}}


class BanditSettings(Frozen):
    """What the user of the method can set."""

    copies: Count = 2
    lr: StepSize = 1e-2
    batch_size: Batch = 8
    replay_capacity: Count = 500
    sharpness: Positive = 2.0


class BanditSpec(Frozen):
    """What is needed to rebuild the network, and how sharply it prefers what is cheap."""

    sharpness: Positive


def make_network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


class BanditPolicy(TrainedPolicy):
    """Takes the server whose wait is expected to be shorter; explores by how much shorter it is."""

    method: ClassVar[str] = "bandit"
    name, information, roles = "bandit", "backlogs, the job", frozenset({DISPATCHER})

    def __init__(self, network: nn.Module, spec: BanditSpec, seed: int = 0) -> None:
        self.network, self.spec = network, spec
        super().__init__(seed)

    @classmethod
    def restore(cls, stored: StoredPolicy, scenario: ToyScenario, seed: int = 0) -> "BanditPolicy":
        policy = cls(make_network(), stored.spec(BanditSpec), seed)
        stored.fill(policy.networks)
        return policy

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"costs": self.network}

    @torch.no_grad()
    def decide(self, role: str, view: ToyView, memory: Memory, explore: bool = True) -> Decided:
        state = torch.cat([view.backlog_s, view.work_s], -1)
        costs: Tensor = self.network(state)
        chosen = costs.argmin(-1, keepdim=True)
        if explore:
            chosen = sample_shares((-self.spec.sharpness * costs).softmax(-1), self.random((len(state), 1), state))
        return Decided(chosen[:, None], {"state": state, "chosen": chosen}, memory)


def _config() -> Any:
    from edgegen_toy.learning import BanditConfig

    return BanditConfig()


def _learning(scenario: ToyScenario, settings: BanditSettings) -> Any:
    from edgegen_toy.learning import BanditLearning

    return BanditLearning(scenario, settings)


METHOD = Method(
    name="bandit", kind_name="toy", presets=PRESETS, settings=BanditSettings,
    default_preset="plain", headline="wait_s", headline_label="mean wait, s", rivals=("coin", "shortest"),
    config=_config, learning=_learning, restore=cast(Any, BanditPolicy.restore), in_flight=("lr",),
)  # fmt: skip
