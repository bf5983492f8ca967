# SPDX-License-Identifier: Apache-2.0
"""How cachers decide, and how they explore."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.core.randomness import OwnRandomNumbers
from edgegen.algorithms.roles.cacher.networks import CachingNetwork
from edgegen.algorithms.roles.cacher.settings import CacherSettings
from edgegen.algorithms.roles.cacher.state import FrameState
from edgegen.algorithms.roles.cells import Cells
from edgegen.algorithms.rules.best_cache import relative_size
from edgegen.envs.provisioning.amenders import fill_storage
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import CacherView

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class CachingDecision:
    """What is to be cached in a frame, with all that a transition needs.

    Attributes:
        state: ``[E, C, D]``.
        cache: Models wanted in the cache ``[E, C, M]``, bool.
    """

    state: Tensor
    cache: Tensor


class Cacher:
    """Caching by the values of a network.

    Args:
        network: The network.
        settings: The settings.
        scenario: The world whose scales the states have.
        chance: Whose random numbers it takes.

    Attributes:
        state: Makes the states.
        epsilon: Share of random caches while exploring; 0 outside training.
    """

    def __init__(
        self,
        network: CachingNetwork,
        settings: CacherSettings,
        scenario: ProvisioningScenario,
        chance: OwnRandomNumbers,
    ) -> None:
        self.network, self.settings, self.chance = network, settings, chance
        self.cells = Cells.of(scenario.cells, settings)
        self.state = FrameState(scenario, settings)
        self.epsilon = 0.0

    def explore(self, episodes: int, explore: bool) -> None:
        """Let ε fall with the episodes begun, or be 0 without exploration."""
        chosen = self.settings
        played = min(1.0, max(0, episodes - chosen.epsilon_hold_episodes) / chosen.epsilon_episodes)
        epsilon = chosen.epsilon_start + (chosen.epsilon_end - chosen.epsilon_start) * played
        self.epsilon = epsilon if explore else 0.0

    @torch.no_grad()
    def decide(self, view: CacherView, explore: bool = True) -> CachingDecision:
        """Choose what to cache: the best by value, or with probability ε a random one."""
        cells, chance = self.cells, self.chance
        state, size = self.state(view), relative_size(view)
        values = self.network(cells.grouped(state))
        cache = cells.ungrouped(self.network.best(values, cells.grouped(size)))
        if explore and self.epsilon > 0:
            if self.network.everything:
                # Every cache is as likely as any other, those that do not fit too.
                other = chance.random(tuple(cache.shape), state) < 0.5
            else:
                priority = self._random_priority(view, state)
                other = fill_storage(priority, view.size_gb, view.storage_gb[..., None])
            at_random = chance.random(tuple(cache.shape[:-1]), state) < self.epsilon
            cache = torch.where(at_random[..., None], other, cache)
        return CachingDecision(state, cache)

    def _random_priority(self, view: CacherView, state: Tensor) -> Tensor:
        """An order in which models are cached at random ``[E, C, M]``."""
        uniform = self.chance.random(tuple(view.popularity.shape), state)
        if self.settings.random_caches == "uniform":
            return uniform
        # Noise of Gumbel's kind on log-popularity: in full, models are drawn one after the other by their popularity.
        strength = self.chance.random((*uniform.shape[:-1], 1), state)
        return view.static_popularity.log() - strength * (-uniform.clamp_min(_TINY).log()).log()
