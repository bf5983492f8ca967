# SPDX-License-Identifier: Apache-2.0
"""Env runner of the fleet: whole episodes inside the kernels, with forks or with perturbed weights."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from edgegen.algorithms.fleet.decisions import Brain
from edgegen.algorithms.fleet.episodes import label_caches, label_requests, play_brain
from edgegen.algorithms.fleet.evolution import play_pairs
from edgegen.algorithms.fleet.learning import LOST, ChainLearner, evolves
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.start import mean_utility
from edgegen.algorithms.rllib.rollout import Fragment, JointFragment
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.fleet.draws import Requests
from edgegen.envs.fleet.scenario import FleetScenario, Floats
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER
from edgegen.envs.fleet.world import FleetWorld


class FleetEnvRunner(JointEnvRunner):
    """Plays E episodes at a time and returns what its roles learn from.

    Every episode brings labels of all roles; the forks of requests and those of frames play it once each. Once the
    evolution strategy has taken over, they are played with perturbed weights instead.
    """

    @property
    def _learners(self) -> dict[str, ChainLearner]:
        return cast(dict[str, ChainLearner], self.learning.roles)

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[JointFragment]:
        """Play whole episodes; see :meth:`JointEnvRunner.sample`. Episodes are whole, so there is nothing to reset."""
        if random_actions:
            raise ValueError("random_actions is not supported: an untrained policy is the rule it starts from")
        explore = bool(self.config.explore if explore is None else explore)
        world = cast(FleetWorld, self.simulator)
        if num_episodes is None:
            slots = self._kind.slots_per_round(world.scenario) * world.scenario.frames
            num_episodes = 1 if num_timesteps is None else -(-int(num_timesteps) // slots)
        return [self._play(world, explore) for _ in range(max(1, -(-num_episodes // world.copies)))]

    def _play(self, world: FleetWorld, explore: bool) -> JointFragment:
        policy, scenario, requests = cast(FleetPolicy, self.policy), world.scenario, world.future
        policy.refresh()
        if not explore or self.config.in_evaluation:
            utility = mean_utility(requests, play_brain(scenario, policy.brain, requests)[2])
            roles: dict[str, Fragment] = {}
        elif evolves(self.settings, self.episodes_begun):
            utility, roles = self._generation(scenario, policy.brain, requests)
        else:
            utility, roles = self._labelled(scenario, policy.brain, requests)
        bound = world.bounds.sum(1) / np.maximum(requests.number, 1)  # nothing where there is no request
        self.finish_episodes([{LOST: float(lost)} for lost in bound - utility], utility.tolist())
        slots = world.copies * scenario.frames * self._kind.slots_per_round(scenario)
        self.count_steps(slots, int(requests.number.sum()))
        self._episodes_begun += world.copies
        self.begin_anew()
        return JointFragment(roles, slots, world.copies * scenario.frames)

    def _labelled(
        self, scenario: FleetScenario, brain: Brain, requests: Requests
    ) -> tuple[Floats, dict[str, Fragment]]:
        """Mean utilities of the episodes ``[E]``, and labels of their decisions."""
        settings, learners = self.settings, self._learners
        draw = self._uniform(requests.arrival_s.shape)
        routes = settings.labels if ROUTER in learners else 0.0
        shares = settings.share_labels if ALLOCATOR in learners else 0.0
        marked = np.where(draw < routes, 1, np.where(draw < routes + shares, 2, 0)).astype(np.uint8)
        roles, results = {}, play_brain(scenario, brain, requests)[2]
        if routes or shares:
            route, share = label_requests(scenario, brain, requests, marked, settings.horizon_s * scenario.unit_s)
            roles = {ROUTER: route, ALLOCATOR: share}
        if CACHER in learners:
            shape = (len(requests.number), scenario.frames, scenario.sites)
            chosen = (self._uniform(shape) < settings.cache_labels).astype(np.uint8)
            horizon_s = settings.cache_horizon_s * scenario.unit_s
            roles[CACHER] = label_caches(scenario, brain, requests, chosen, horizon_s)
        fragments = {role: learner.fragment(roles[role]) for role, learner in learners.items()}
        return mean_utility(requests, results), fragments

    def _generation(
        self, scenario: FleetScenario, brain: Brain, requests: Requests
    ) -> tuple[Floats, dict[str, Fragment]]:
        """Mean utilities of the episodes ``[E]`` before any change, and what the perturbations have gained."""
        learners, settings, generator = self._learners, self.settings, self.policy.generator
        pairs = settings.evolve_pairs
        noise = {role: torch.randn(pairs, learner.size, generator=generator) for role, learner in learners.items()}
        each = min(settings.evolve_episodes, len(requests.number))
        changes = {role: settings.evolve_sigma * drawn for role, drawn in noise.items()}
        gained = torch.from_numpy(play_pairs(scenario, brain, requests, changes, each))
        fragments = {role: learner.generation(noise[role], gained) for role, learner in learners.items()}
        return mean_utility(requests, play_brain(scenario, brain, requests)[2]), fragments

    def _uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        drawn: np.ndarray = torch.rand(shape, generator=self.policy.generator).numpy()
        return drawn
