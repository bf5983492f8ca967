# SPDX-License-Identifier: Apache-2.0
"""What allocators learn: D3PG, from slots."""

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
from edgegen.algorithms.rllib.rollout import Fragment, concatenate
from edgegen.algorithms.roles.allocator.module import AllocatorModule
from edgegen.algorithms.roles.allocator.networks import NETWORKS, AllocationActor
from edgegen.algorithms.roles.allocator.objectives import Noise, actor_objective, critic_objective
from edgegen.algorithms.roles.allocator.policy import AllocationDecision
from edgegen.algorithms.roles.allocator.reward import SlotReward
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.allocator.state import SlotLayout
from edgegen.algorithms.roles.cells import Cells

ACTOR, CRITIC = "actor", "critic"
"""Names of the optimizers."""


class AllocatorLearner(RoleLearner):
    """D3PG: critic, then actor through the whole chain.

    Args:
        settings: The settings.
        layout: What lies where in a state, and what actions mean.
        cells: The order of cells in the networks.
        reward: What a slot is rewarded with.
        slots: Slots of an episode.
    """

    role: ClassVar[str] = "allocator"
    deciding: ClassVar[str] = "actor"
    module_class: type[Any] = AllocatorModule

    def __init__(
        self, settings: AllocatorSettings, layout: SlotLayout, cells: Cells, reward: SlotReward, slots: int
    ) -> None:
        self.settings, self.layout, self.cells, self.reward, self.slots = settings, layout, cells, reward, slots
        self.warmup, self.batch_size = self.settings.replay_warmup, self.settings.batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector, and a raw entry per user for the uplink and one for the steps."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.layout.size,), np.float32)
        return Spaces(state, gym.spaces.Box(-1, 1, (self.layout.actions,), np.float32))

    @property
    def model_config(self) -> dict[str, Any]:
        """Settings, layout and groups."""
        settings = self.settings.model_dump(include=set(AllocatorSettings.model_fields))
        return {"settings": settings, "layout": self.layout.model_dump(), "groups": self.cells.groups}

    def network(self) -> AllocationActor:
        """An actor with fresh weights."""
        return NETWORKS[self.settings.network].actor(self.settings, self.layout, self.cells.groups)

    @property
    def learned(self) -> str:
        """The actor, or the average of its weights."""
        return "target_actor" if self.settings.average_weights else "actor"

    def replay(self, seed: int) -> TensorReplay:
        """A replay of slots."""
        return TensorReplay(self.cells.groups, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        """Updates are owed for slots."""
        return slots * self.settings.updates_per_slot

    def noted(self, view: Any, decision: AllocationDecision, outcome: Any) -> Notes:
        """State, raw action and reward."""
        return {
            Columns.OBS: decision.state,
            Columns.ACTIONS: decision.action,
            Columns.REWARDS: self.reward(view, outcome, decision.order),
        }

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Pair every slot with the next; at the end there is no next state, and none is looked at."""
        last = notes[-1][Columns.OBS]
        if not following.done:
            make_state = following.policy.allocator.state
            last = make_state(following.view, make_state.order(following.view))
        after = [note[Columns.OBS] for note in notes[1:]] + [last]
        fragments = []
        for number, note in enumerate(notes):
            columns = dict(note)
            if self.settings.gamma > 0:
                ended = following.done and number == len(notes) - 1
                columns[Columns.NEXT_OBS] = after[number]
                columns[Columns.TERMINATEDS] = torch.full_like(note[Columns.REWARDS][..., 0], float(ended))
            fragments.append(Fragment.whole({name: self.cells.grouped(value) for name, value in columns.items()}))
        return concatenate(fragments)

    def optimizers(self, module: AllocatorModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One per network."""
        yield CRITIC, list(module.critic.parameters()), self.settings.critic_lr
        yield ACTOR, list(module.actor.parameters()), self.settings.actor_lr

    def update(self, module: AllocatorModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the critic, then the actor against it."""
        groups, noise = self.cells.groups, _noise(tools)
        critic_loss = critic_objective(self.settings, module, batch, noise)
        tools.step(self.role, CRITIC, critic_loss)
        actor_loss = actor_objective(self.settings, module, batch, noise)
        tools.step(self.role, ACTOR, actor_loss)
        return {"critic_loss": critic_loss.detach() / groups, "actor_loss": actor_loss.detach() / groups}

    def losses(self, module: AllocatorModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """Critic plus actor loss."""
        noise = _noise(tools)
        critic_loss = critic_objective(self.settings, module, batch, noise)
        return critic_loss + actor_objective(self.settings, module, batch, noise)

    def after_update(self, tools: Tools, slots: int) -> None:
        """Let the step sizes fall."""
        if self.settings.lr_fall_episodes is None:
            return
        left = self.settings.learning_rate_left(slots / self.slots)
        for name, rate in ((ACTOR, self.settings.actor_lr), (CRITIC, self.settings.critic_lr)):
            tools.set_step_size(self.role, name, rate * left)


def _noise(tools: Tools) -> Noise:
    return lambda actor, rows: tools.noise(actor.draw_noise, rows)
