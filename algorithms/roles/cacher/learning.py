# SPDX-License-Identifier: Apache-2.0
"""What cachers learn: DDQN, from frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import Following, Notes, RoleLearner, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment
from edgegen.algorithms.roles.cacher.module import CacherModule
from edgegen.algorithms.roles.cacher.networks import HEADS, CachingNetwork
from edgegen.algorithms.roles.cacher.policy import CachingDecision
from edgegen.algorithms.roles.cacher.reward import FrameReward
from edgegen.algorithms.roles.cacher.settings import CacherSettings
from edgegen.algorithms.roles.cacher.state import FrameLayout
from edgegen.algorithms.roles.cells import Cells
from edgegen.algorithms.roles.losses import ERRORS, td_target
from edgegen.algorithms.rules.best_cache import relative_size

VALUES = "values"
"""Name of the optimizer."""

SIZES, SPARED = "relative_size", "spared"
"""Names of the models' sizes, and of what a remembered cache is spared of the penalty for what did not fit."""


class CacherLearner(RoleLearner):
    """DDQN, whose steps are whole frames.

    Args:
        settings: The settings.
        layout: What lies where in a state.
        cells: The order of cells in the networks.
        reward: What a frame is rewarded with.
        slots_per_frame: Slots of a frame.
    """

    role: ClassVar[str] = "cacher"
    deciding: ClassVar[str] = "values"
    module_class: type[Any] = CacherModule

    def __init__(
        self, settings: CacherSettings, layout: FrameLayout, cells: Cells, reward: FrameReward, slots_per_frame: int
    ) -> None:
        self.settings, self.layout, self.cells, self.reward = settings, layout, cells, reward
        self.discount = settings.discount_per_frame(slots_per_frame)
        self.warmup, self.batch_size = self.settings.frame_warmup, self.settings.frame_batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector, and whether each model is wanted."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.layout.size,), np.float32)
        return Spaces(state, gym.spaces.MultiBinary(self.layout.models))

    @property
    def model_config(self) -> dict[str, Any]:
        """Settings, layout and groups."""
        settings = self.settings.model_dump(include=set(CacherSettings.model_fields))
        return {"settings": settings, "layout": self.layout.model_dump(), "groups": self.cells.groups}

    def network(self) -> CachingNetwork:
        """A network of values with fresh weights."""
        return HEADS[self.settings.caching_head](self.settings, self.layout, self.cells.groups)

    @property
    def learned(self) -> str:
        """The values, or the average of their weights."""
        return "target_values" if self.settings.average_weights else "values"

    def replay(self, seed: int) -> TensorReplay:
        """A replay of frames."""
        return TensorReplay(self.cells.groups, self.settings.frame_replay_capacity, seed)

    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        """Updates are owed for frames."""
        return rounds * self.settings.updates_per_frame

    def stores(self, episodes: int) -> bool:
        """Nothing is learned from the first episodes: what a cached model is worth depends on the allocator."""
        return episodes >= self.settings.epsilon_hold_episodes

    def noted(self, view: Any, decision: CachingDecision, outcome: Any) -> Notes:
        """State, cache and sizes, and what the frame is spared of its penalty."""
        return {
            Columns.OBS: decision.state,
            Columns.ACTIONS: outcome.cache if self.settings.amends else decision.cache,
            SIZES: relative_size(view),
            SPARED: self.reward.spared(outcome),
        }

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """One transition per frame, with the frame's reward."""
        (note,) = notes
        reward = self.reward(following.outcome.frame_reward + note[SPARED])
        columns = {
            Columns.OBS: note[Columns.OBS],
            Columns.ACTIONS: note[Columns.ACTIONS],
            Columns.REWARDS: reward,
            Columns.NEXT_OBS: following.policy.cacher.state(following.view),
            SIZES: note[SIZES],
            Columns.TERMINATEDS: torch.full_like(reward, float(following.done)),
        }
        return Fragment.whole({name: self.cells.grouped(value) for name, value in columns.items()})

    def optimizers(self, module: CacherModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One."""
        yield VALUES, list(module.values.parameters()), self.settings.cacher_lr

    def update(self, module: CacherModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the values."""
        td_loss = self.losses(module, batch, tools)
        tools.step(self.role, VALUES, td_loss)
        return {"td_loss": td_loss.detach() / self.cells.groups}

    def losses(self, module: CacherModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """The TD error."""
        return cacher_objective(self.settings, module.values, module.target_values, batch, self.discount)


def cacher_objective(
    settings: CacherSettings,
    network: CachingNetwork,
    target_network: CachingNetwork,
    batch: dict[str, Tensor],
    discount: float,
) -> Tensor:
    """Double DQN: the network selects the next cache, its target values it.

    Args:
        settings: The settings.
        network: The values.
        target_network: Their target.
        batch: Columns ``[G, rows, ...]``.
        discount: Discount per frame.
    """
    next_state = batch[Columns.NEXT_OBS]
    with torch.no_grad():
        chosen = network.best(network(next_state), batch[SIZES])
        next_value = network.value_of(target_network(next_state), chosen)
        target = td_target(batch[Columns.REWARDS], next_value, batch[Columns.TERMINATEDS], discount)
    value, beside = network.fitted(batch[Columns.OBS], batch[Columns.ACTIONS], next_state)
    loss = ERRORS[settings.critic_loss](value, target)
    return loss if beside is None else loss + beside
