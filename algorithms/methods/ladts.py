# SPDX-License-Identifier: Apache-2.0
"""LAD-TS (after arXiv 2412.18212): servers route tasks with a soft actor-critic whose actor is a diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from edgegen.algorithms.methods.registry import Method
from edgegen.algorithms.rllib.role import EpisodeLog, Learning
from edgegen.algorithms.roles.router.actor import Actor
from edgegen.algorithms.roles.router.policy import RouterPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.algorithms.roles.router.settings import RouterSettings
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Traits
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import JointConfig

DELAY = "delay_mean_s"
"""What is reported of an episode: mean service delay over its tasks, s."""
OBJECTIVE = "objective_mean"
"""What is reported besides where the scenario's objective names terms: its mean over the tasks."""

_OURS: dict[str, Any] = {
    "sharing": "full",
    "hidden": 64,
    "normalise": True,
    "in_slot_load": "own",
    "actor_objective": "forward_kl",
    "actor_lr": 1e-3,
    "learn_temperature": False,
    "gamma": 0.0,
    "replay_capacity": 50_000,
    "replay_warmup": 1_000,
    "batch_size": 256,
    "copies": 16,
    "updates_per_slot": 0.25,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "improved": {
        **_OURS,
        "memory": "task",
        "beta_max": 2.0,
        "epsilon_output": "linear",
        "initial_temperature": 0.02,
        "reward_unit": "slot",
    },
    "set": {
        **_OURS,
        "actor": "mlp",
        "memory": "none",
        "network": "set",
        "credit": "all",
        "critic_gain": 10.0,
        "initial_temperature": 0.2,
    },
    "d2sac-ts": {"memory": "gaussian"},
    "sac-ts": {"actor": "mlp", "memory": "none"},
    "dqn-ts": {"actor": "q", "memory": "none", "critic_lr": 1e-4},
    "agod": {
        "memory": "gaussian",
        "hidden": 256,
        "epsilon_output": "tanh",
        "learn_temperature": False,
        "soft_target": False,
        "batch_size": 512,
        "replay_capacity": 20_000,
    },
}
"""What each preset changes from the defaults. ``improved`` is ours; docs/ladts.md says what each change is for.

The baselines' values are of docs/spec/ladts.md §5: ``sac-ts`` and ``dqn-ts`` as in the authors' code [C]; ``d2sac-ts``,
of which they published none, is LAD-TS with x_I ~ N(0, 1) and all else equal [O]. ``agod`` has the sizes and losses of
the public code Lizonghang/AGOD, but neither its Mish and time network, target actor, weight decay and returns over 3
steps, nor its replay of 10^6, which would take 7 GB for 20 servers [O].
"""


class LADTSPolicy(RouterPolicy):
    """Latent-action diffusion scheduling, or what one of its learned baselines does instead."""

    method: ClassVar[str] = "ladts"


class DelayLog(EpisodeLog):
    """Mean service delays, and mean costs where the objective names terms."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sums of the delays and the costs, and numbers of the tasks."""
        return "delay_s", "cost", "tasks"

    def add(self, role: str, outcome: SlotOutcome) -> tuple[int, int]:
        """See :meth:`EpisodeLog.add`."""
        delay = outcome.delays.total_s
        self.sums["delay_s"] += outcome.sum_per_copy(delay)
        self.sums["cost"] += outcome.sum_per_copy(outcome.worse)
        self.sums["tasks"] += outcome.sum_per_copy(torch.ones_like(delay))
        return self.world.copies, delay.numel()

    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        """See :meth:`EpisodeLog.report`."""
        delays, costs = (self.sums[name] / self.sums["tasks"].clamp_min(1) for name in ("delay_s", "cost"))
        returns = (-self.sums["cost"] * self.settings.reward_scale).tolist()
        if self.world.scenario.objective:
            pairs = zip(delays.tolist(), costs.tolist(), strict=True)
            return [{DELAY: delay, OBJECTIVE: cost} for delay, cost in pairs], returns
        return [{DELAY: delay} for delay in delays.tolist()], returns


class LADTSLearning(Learning):
    """LAD-TS in training: routers alone."""

    log_class = DelayLog
    scenario: OffloadingScenario
    settings: RouterSettings

    def __init__(self, scenario: OffloadingScenario, settings: RouterSettings) -> None:
        super().__init__(scenario, settings)
        self.router = router_for(scenario, settings)
        self.roles = {ROUTER: self.router.learner(settings)}

    @property
    def worlds(self) -> list[WorldScenario]:
        """The scenario, or one with each of the numbers of servers to train with.

        Raises:
            InputError: If the scenario names its servers instead of drawing them.
        """
        if not self.settings.train_servers:
            return [self.scenario]
        if self.scenario.server_sets is None:
            raise InputError(
                f"train_servers is {list(self.settings.train_servers)}, but scenario '{self.scenario.name}' names its "
                "servers; choose one with server_sets."
            )
        data = self.scenario.model_dump()
        return [
            build_scenario({**data, "server_sets": {**data["server_sets"], "servers": count}}, OffloadingScenario)
            for count in self.settings.train_servers
        ]

    def policy(self, networks: dict[str, nn.Module], seed: int) -> LADTSPolicy:
        """The policy that decides with an actor."""
        return LADTSPolicy(cast(Actor, networks[ROUTER]), seed=seed)

    def enter(self, policy: LADTSPolicy, scenario: OffloadingScenario) -> None:
        """Let the policy decide for the servers of one of the worlds."""
        policy.route_by(self.router.for_servers(scenario))


def _config() -> JointConfig:
    from edgegen.algorithms.methods.configs import LADTSConfig

    return LADTSConfig()


def _met(settings: Mapping[str, Any]) -> Traits:
    servers = settings.get("train_servers") or ()
    return {"servers": (min(servers), max(servers))} if servers else {}


METHOD = Method(
    name="ladts",
    title="LAD-TS",
    kind_name="offloading",
    presets=PRESETS,
    settings=RouterSettings,
    headline=DELAY,
    headline_label="mean delay, s",
    judged=(OBJECTIVE, "mean objective"),
    rivals=("capacity-weighted", "least-delay"),
    config=_config,
    learning=LADTSLearning,
    restore=LADTSPolicy.restore,
    met=_met,
    in_flight=("actor_lr", "critic_lr", "temperature_lr", "gamma", "tau", "batch_size", "updates_per_slot"),
)
"""The entry of the registry."""
