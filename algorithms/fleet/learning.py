# SPDX-License-Identifier: Apache-2.0
"""What the roles of the fleet learn: from forks, where every way was tried, and from perturbed weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from edgegen.algorithms.fleet.decisions import SCORE_UNIT
from edgegen.algorithms.fleet.forks import GRID, Labels
from edgegen.algorithms.fleet.module import AVERAGE, CHAIN, FleetModule
from edgegen.algorithms.fleet.nets import flat_size
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.replay import PERTURBATION, LabelReplay
from edgegen.algorithms.fleet.settings import FleetSettings
from edgegen.algorithms.fleet.spec import FleetSpec, features_of, make_chain
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import BatchLearner, EpisodeLog, Learning, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER

LATENT, LIMIT = "latent", "limit"
"""Columns of labels: what the chain begins with, and the upper bound of the choice."""
FORKS, EVOLUTION = "forks", "evolution"
"""Names of the optimizers."""
LOST = "lost_utility"
"""What is reported of an episode: mean utility that its requests lose."""


class ChainLearner(BatchLearner):
    """Learns one role's chain.

    Args:
        spec: The chains.
        settings: The settings.
        scenario: The world.
    """

    deciding: ClassVar[str] = CHAIN
    module_class: type[Any] = FleetModule
    learned = AVERAGE
    warmup = 0

    def __init__(self, spec: FleetSpec, settings: FleetSettings, scenario: FleetScenario) -> None:
        self.spec, self.settings, self.scenario = spec, settings, scenario
        self.batch_size = settings.batch_size

    @property
    def spaces(self) -> Spaces:
        """Features of one candidate, and whether it is taken."""
        features = gym.spaces.Box(-np.inf, np.inf, (features_of(self.spec, self.role),), np.float32)
        return Spaces(features, gym.spaces.Discrete(2))

    @property
    def model_config(self) -> dict[str, Any]:
        """The spec and the role."""
        return {"spec": self.spec.model_dump(), "role": self.role}

    @property
    def size(self) -> int:
        """Number of parameters of the chain."""
        return flat_size(features_of(self.spec, self.role), self.spec.hidden)

    def network(self) -> nn.Module:
        """A chain with fresh weights."""
        return make_chain(self.spec, self.role)

    def replay(self, seed: int) -> TensorReplay:
        """Labels, or the last generation of perturbations."""
        return LabelReplay(1, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        """Updates are owed for episodes of all copies; one for a generation."""
        played = rounds / (self.scenario.frames * self.settings.copies)
        return played * (1.0 if evolves(self.settings, episodes) else self.settings.updates_per_episode)

    def fragment(self, labels: Labels) -> Fragment:
        """Make transitions of labels."""
        rows = (labels.features, labels.scores, labels.value, labels.limit)
        features, scores, values, limit = (torch.from_numpy(part).float()[None] for part in rows)
        columns = {Columns.OBS: features, LATENT: scores, Columns.REWARDS: values, LIMIT: limit}
        return Fragment(columns, torch.ones(1, len(labels.limit), dtype=torch.bool))

    def generation(self, perturbations: Tensor, gained: Tensor) -> Fragment:
        """Make transitions of perturbations ``[P, D]`` and of what they gained against their opposites ``[P]``."""
        columns = {Columns.OBS: perturbations.float()[None], PERTURBATION: gained.float()[None]}
        return Fragment(columns, torch.ones(1, len(gained), dtype=torch.bool))

    def optimizers(self, module: FleetModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One for labels, one for perturbations."""
        yield FORKS, list(module.chain.parameters()), self.settings.learning_rate
        yield EVOLUTION, list(module.chain.parameters()), self.settings.evolve_rate

    def update(self, module: FleetModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Step on labels, or on a generation."""
        if PERTURBATION in batch:
            loss = evolution_loss(module.chain, batch[Columns.OBS][0], batch[PERTURBATION][0])
            tools.step(self.role, EVOLUTION, loss)
            return {"spread": batch[PERTURBATION].std()}
        loss = self.losses(module, batch, tools)
        tools.step(self.role, FORKS, loss)
        return {"gain_loss": loss.detach()}

    def after_update(self, tools: Tools, slots: int) -> None:
        """Let the step size of the evolution fade."""
        per_episode = self.scenario.frames * kind_of(self.scenario).slots_per_round(self.scenario)
        tools.set_step_size(self.role, EVOLUTION, evolution_rate(self.settings, slots // per_episode))

    def losses(self, module: FleetModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """Less what the present choices gain by the labels."""
        del tools
        columns = {name: value[0] for name, value in batch.items()}
        latent = module.chain(columns[Columns.OBS], columns[LATENT])
        return -self.gain(latent, columns[Columns.REWARDS], columns).mean()

    @abstractmethod
    def gain(self, latent: Tensor, value: Tensor, columns: dict[str, Tensor]) -> Tensor:
        """What denoised latents ``[rows, n]`` gain by the labelled values ``[rows, ...]``."""


class FleetRouterLearner(ChainLearner):
    """Discrete actor on candidates: the expected value under the softmax of the denoised scores, as in LAD-TS.

    Values are those of forks; no critic stands between them and the actor.
    """

    role: ClassVar[str] = ROUTER

    def gain(self, latent: Tensor, value: Tensor, columns: dict[str, Tensor]) -> Tensor:
        """Expected advantage over the present choice."""
        probability = (latent / (self.settings.temperature / SCORE_UNIT)).softmax(-1)
        baseline = (probability.detach() * value).sum(-1, keepdim=True)
        return (probability * (value - baseline)).sum(-1)


class FleetAllocatorLearner(ChainLearner):
    """Deterministic actor, as in D3PG: the gradient of the value in the share goes through the whole chain.

    The value is a parabola through five shares that forks have tried.
    """

    role: ClassVar[str] = ALLOCATOR

    def gain(self, latent: Tensor, value: Tensor, columns: dict[str, Tensor]) -> Tensor:
        """Value of the share, less the mean of the five."""
        limit = columns[LIMIT].clamp_min(1e-6)
        share = torch.minimum(latent[..., 0].clamp(0.0, 1.0), limit) / limit
        grid = torch.linspace(0.0, 1.0, GRID, device=value.device)
        powers = torch.stack([torch.ones_like(grid), grid, grid**2])
        parabola: Tensor = (value - value.mean(-1, keepdim=True)) @ torch.linalg.pinv(powers)
        return parabola[..., 0] + parabola[..., 1] * share + parabola[..., 2] * share**2


class FleetCacherLearner(ChainLearner):
    """A value for each (site, model): what is gained by keeping it moves its score across the line of what is kept."""

    role: ClassVar[str] = CACHER

    def gain(self, latent: Tensor, value: Tensor, columns: dict[str, Tensor]) -> Tensor:
        """Expected gain of keeping models with the probability that their score says."""
        line = latent.detach().median(-1, keepdim=True).values
        kept = ((latent - line) / self.settings.cache_temperature).sigmoid()
        return (kept * value).sum(-1)


def evolution_loss(chain: nn.Module, perturbations: Tensor, gained: Tensor) -> Tensor:
    """A loss whose gradient is the estimate of an evolution strategy with opposite pairs.

    What a pair gained counts by its rank, so that no lucky episode outweighs all others.

    Args:
        chain: Its parameters are perturbed, in their order.
        perturbations: Standard normal ``[P, D]``.
        gained: Return with each perturbation less that with its opposite ``[P]``.
    """
    flat = torch.cat([parameter.flatten() for parameter in chain.parameters()])
    rank = gained.abs().argsort().argsort().to(flat.dtype) + 1.0
    weight = gained.sign().to(flat.dtype) * rank / len(gained)
    return -(weight @ (perturbations @ flat)) / len(gained)


def evolution_rate(settings: FleetSettings, episodes: int) -> float:
    """Step size of the evolution strategy when some episodes have been played."""
    if settings.evolve_after is None or settings.evolve_fade is None:
        return settings.evolve_rate
    passed = (episodes - settings.evolve_after) / settings.evolve_fade
    return settings.evolve_rate * 0.5 * (1.0 + math.cos(math.pi * min(max(passed, 0.0), 1.0)))


def evolves(settings: FleetSettings, episodes: int) -> bool:
    """Whether the evolution strategy has taken over when some episodes have been played."""
    return settings.evolve_after is not None and episodes >= settings.evolve_after


class UtilityLog(EpisodeLog):
    """Nothing turn by turn: episodes are played whole."""

    @property
    def names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def add(self, role: str, outcome: Any) -> tuple[int, int]:
        """See :meth:`EpisodeLog.add`."""
        del role, outcome
        return 0, 0

    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        """See :meth:`EpisodeLog.report`."""
        return [], []


class FleetLearning(Learning):
    """The fleet in training."""

    log_class = UtilityLog
    whole_episodes = True
    scenario: FleetScenario
    settings: FleetSettings

    def __init__(self, scenario: FleetScenario, settings: FleetSettings) -> None:
        super().__init__(scenario, settings)
        self.spec = FleetSpec.of(scenario, settings)
        learners = (FleetRouterLearner, FleetAllocatorLearner, FleetCacherLearner)
        self.roles = {
            learner.role: learner(self.spec, settings, scenario)
            for learner in learners
            if learner.role in settings.learn
        }

    def policy(self, networks: dict[str, nn.Module], seed: int) -> FleetPolicy:
        """The policy that decides with the chains."""
        return FleetPolicy(networks, self.spec, self.scenario, seed)
