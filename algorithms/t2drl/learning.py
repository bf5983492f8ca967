"""What allocators and cachers learn: D3PG from slots, DDQN from frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import EpisodeLog, Following, Learning, Notes, RoleLearner, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment, concatenate
from edgegen.algorithms.rules.best_cache import relative_size
from edgegen.algorithms.rules.caching import equal_bandwidth, equal_compute
from edgegen.algorithms.t2drl.allocator import AllocationActor
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.module import AllocatorModule, CacherModule
from edgegen.algorithms.t2drl.objectives import (
    DONE,
    SIZES,
    Noise,
    actor_objective,
    cacher_objective,
    critic_objective,
)
from edgegen.algorithms.t2drl.policy import AllocationDecision, CachingDecision, T2DRLPolicy
from edgegen.algorithms.t2drl.reward_scale import RewardScale
from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.envs.provisioning.physics import SlotOutcome, serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER, AllocatorView, CacherView
from edgegen.envs.provisioning.world import CacheOutcome

COST = "cost"
REPORTED = (COST, "delay_s", "tv", "hit_ratio", "useless_hit_share")
"""What is reported of an episode: means over its requests, and the share of hits with fewer steps than A1."""

ACTOR, CRITIC, VALUES = "actor", "critic", "values"
"""Names of the optimizers."""

OVERFLOW = "overflow"
"""What a remembered cache is spared of the penalty for what did not fit."""


class _CellLearner(RoleLearner):
    """What both learners share.

    Args:
        learning: The method they belong to.
    """

    def __init__(self, learning: T2DRLLearning) -> None:
        self.learning = learning
        self.spec, self.settings, self.scenario = learning.spec, learning.settings, learning.scenario

    @property
    def model_config(self) -> dict[str, Any]:
        """The spec."""
        return {"spec": self.spec.model_dump()}

    def _fragment(self, columns: dict[str, Tensor]) -> Fragment:
        grouped = {name: self.spec.grouped(value) for name, value in columns.items()}
        return Fragment(grouped, torch.ones(grouped[Columns.OBS].shape[:2], dtype=torch.bool))


class AllocatorLearner(_CellLearner):
    """D3PG: critic, then actor through the whole chain."""

    role: ClassVar[str] = ALLOCATOR
    deciding: ClassVar[str] = "actor"
    module_class: type[Any] = AllocatorModule

    def __init__(self, learning: T2DRLLearning) -> None:
        super().__init__(learning)
        self.warmup, self.batch_size = self.settings.replay_warmup, self.settings.batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector, and a raw entry per user for the uplink and one for the steps."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.spec.slot_state_size,), np.float32)
        return Spaces(state, gym.spaces.Box(-1, 1, (2 * self.spec.users,), np.float32))

    def network(self) -> AllocationActor:
        """An actor with fresh weights."""
        return AllocationActor(self.spec)

    @property
    def learned(self) -> str:
        """The actor, or the average of its weights."""
        return "target_actor" if self.settings.average_weights else "actor"

    def replay(self, seed: int) -> TensorReplay:
        """A replay of slots."""
        return TensorReplay(self.spec.groups, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int) -> float:
        """Updates are owed for slots."""
        return slots * self.settings.updates_per_slot

    def noted(self, view: AllocatorView, decision: AllocationDecision, outcome: SlotOutcome) -> Notes:
        """State, raw action and reward."""
        return {
            Columns.OBS: decision.state,
            Columns.ACTIONS: decision.action,
            Columns.REWARDS: self._reward(view, outcome, decision),
        }

    def _reward(self, view: AllocatorView, outcome: SlotOutcome, decision: AllocationDecision) -> Tensor:
        """Rewards ``[E, C, N]``, users in the order of the state, or ``[E, C, 1]``."""
        reward = self._user_reward(outcome)
        if self.settings.reward_baseline == "equal_shares":
            equal = serve(self.scenario, view, equal_bandwidth(view), equal_compute(view))
            reward = reward - self._user_reward(equal)
        if decision.order is not None and self.settings.critic_target == "per_user":
            reward = reward.gather(-1, decision.order)
        return reward * self.learning.reward_scale.slot

    def _user_reward(self, outcome: SlotOutcome) -> Tensor:
        if self.settings.critic_target == "mean":
            return outcome.reward[..., None]
        return -(outcome.cost + self.scenario.late_penalty * outcome.late)

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Pair every slot with the next; at the end there is no next state, and none is looked at."""
        last = notes[-1][Columns.OBS]
        if not following.done:
            slot_state = following.policy.slot_state
            last = slot_state(following.view, slot_state.order(following.view))
        after = [note[Columns.OBS] for note in notes[1:]] + [last]
        fragments = []
        for number, note in enumerate(notes):
            columns = dict(note)
            if self.settings.gamma > 0:
                ended = following.done and number == len(notes) - 1
                columns[Columns.NEXT_OBS] = after[number]
                columns[DONE] = torch.full_like(note[Columns.REWARDS][..., 0], float(ended))
            fragments.append(self._fragment(columns))
        return concatenate(fragments)

    def optimizers(self, module: AllocatorModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One per network."""
        yield CRITIC, list(module.critic.parameters()), self.settings.critic_lr
        yield ACTOR, list(module.actor.parameters()), self.settings.actor_lr

    def update(self, module: AllocatorModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the critic, then the actor against it."""
        groups, noise = self.spec.groups, _noise(tools)
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
        left = self.settings.learning_rate_left(slots / self.scenario.slots)
        for name, rate in ((ACTOR, self.settings.actor_lr), (CRITIC, self.settings.critic_lr)):
            tools.set_step_size(self.role, name, rate * left)


class CacherLearner(_CellLearner):
    """DDQN, whose steps are whole frames."""

    role: ClassVar[str] = CACHER
    deciding: ClassVar[str] = "values"
    module_class: type[Any] = CacherModule

    def __init__(self, learning: T2DRLLearning) -> None:
        super().__init__(learning)
        self.warmup, self.batch_size = self.settings.frame_warmup, self.settings.frame_batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector, and whether each model is wanted."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.spec.frame_state_size,), np.float32)
        return Spaces(state, gym.spaces.MultiBinary(self.spec.models))

    def network(self) -> CachingNetwork:
        """A network of values with fresh weights."""
        return CachingNetwork(self.spec)

    @property
    def learned(self) -> str:
        """The values, or the average of their weights."""
        return "target_values" if self.settings.average_weights else "values"

    def replay(self, seed: int) -> TensorReplay:
        """A replay of frames."""
        return TensorReplay(self.spec.groups, self.settings.frame_replay_capacity, seed)

    def owed(self, slots: int, rounds: int) -> float:
        """Updates are owed for frames."""
        return rounds * self.settings.updates_per_frame

    def stores(self, episodes: int) -> bool:
        """Nothing is learned from the first episodes: what a cached model is worth depends on the allocator."""
        return episodes >= self.settings.epsilon_hold_episodes

    def noted(self, view: CacherView, decision: CachingDecision, outcome: CacheOutcome) -> Notes:
        """State, cache and sizes; a cache that is remembered as amended is innocent of what did not fit."""
        amended = self.settings.remember == "amended"
        overflow = self.scenario.overflow_penalty_per_gb * outcome.overflow_gb if amended else None
        return {
            Columns.OBS: decision.state,
            Columns.ACTIONS: outcome.cache if amended else decision.cache,
            SIZES: relative_size(view),
            OVERFLOW: torch.zeros_like(outcome.penalty) if overflow is None else overflow,
        }

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """One transition per frame, with the frame's reward."""
        (note,) = notes
        scale = self.learning.reward_scale
        reward = frame_reward(note, following)
        return self._fragment(
            {
                Columns.OBS: note[Columns.OBS],
                Columns.ACTIONS: note[Columns.ACTIONS],
                Columns.REWARDS: (reward - scale.frame_mean) * scale.frame,
                Columns.NEXT_OBS: following.policy.frame_state(following.view),
                SIZES: note[SIZES],
                DONE: torch.full_like(reward, float(following.done)),
            }
        )

    def optimizers(self, module: CacherModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One."""
        yield VALUES, list(module.values.parameters()), self.settings.cacher_lr

    def update(self, module: CacherModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the values."""
        td_loss = self.losses(module, batch, tools)
        tools.step(self.role, VALUES, td_loss)
        return {"td_loss": td_loss.detach() / self.spec.groups}

    def losses(self, module: CacherModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """The TD error."""
        return cacher_objective(self.settings, module.values, module.target_values, batch)


def _noise(tools: Tools) -> Noise:
    return lambda actor, rows: tools.noise(actor.draw_noise, rows)


def frame_reward(note: Notes, following: Following) -> Tensor:
    """Reward of the frame that is over ``[E, C]``, without the penalty that a remembered cache is spared."""
    reward: Tensor = following.outcome.frame_reward + note[OVERFLOW]
    return reward


class CostLog(EpisodeLog):
    """Costs and what they are made of."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sums over slots, and the return."""
        return *REPORTED, "reward"

    def add(self, role: str, outcome: Any) -> tuple[int, int]:
        """See :meth:`EpisodeLog.add`."""
        if role == CACHER:
            return 0, 0
        requests = outcome.cost[0].numel()
        useless = outcome.useless.double().sum((-2, -1)) / outcome.hit.double().sum((-2, -1)).clamp_min(1)
        means = [outcome.cost, outcome.delays.total_s, outcome.tv, outcome.hit]
        for name, values in zip(REPORTED, means, strict=False):
            self.sums[name] += values.double().sum((-2, -1)) / requests
        self.sums[REPORTED[-1]] += useless
        return self.world.copies, outcome.cost.shape[0] * outcome.cost.shape[1]

    def settle(self, role: str, notes: list[Notes], following: Following) -> None:
        """See :meth:`EpisodeLog.settle`."""
        if role == CACHER:
            self.sums["reward"] += frame_reward(notes[0], following).double().sum(-1)

    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        """See :meth:`EpisodeLog.report`."""
        reported = {name: (self.sums[name] / self.world.scenario.slots).tolist() for name in REPORTED}
        episodes = [{name: reported[name][copy] for name in REPORTED} for copy in range(self.world.copies)]
        return episodes, self.sums["reward"].tolist()


class T2DRLLearning(Learning):
    """T2DRL in training: cachers once a frame, allocators in every slot."""

    log_class = CostLog
    scenario: ProvisioningScenario
    settings: T2DRLSettings

    def __init__(self, scenario: ProvisioningScenario, settings: T2DRLSettings) -> None:
        super().__init__(scenario, settings)
        self.spec = T2DRLSpec.of(scenario, settings)
        self.roles = {ALLOCATOR: AllocatorLearner(self), CACHER: CacherLearner(self)}

    @cached_property
    def reward_scale(self) -> RewardScale:
        """What rewards are shifted and multiplied by; found by playing, so only where it is needed."""
        return RewardScale.of(self.scenario, self.settings)

    def policy(self, networks: dict[str, nn.Module], seed: int) -> T2DRLPolicy:
        """The policy that decides with an actor and a network of values."""
        actor, values = cast(AllocationActor, networks[ALLOCATOR]), cast(CachingNetwork, networks[CACHER])
        return T2DRLPolicy(actor, values, self.scenario, seed)

    def explore(self, policy: T2DRLPolicy, episodes: int, explore: bool) -> None:
        """ε falls with the episodes begun."""
        settings = self.settings
        played = min(1.0, max(0, episodes - settings.epsilon_hold_episodes) / settings.epsilon_episodes)
        epsilon = settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * played
        policy.epsilon = epsilon if explore else 0.0
        policy.noise = settings.exploration_noise if explore else 0.0
        policy.serve_some = settings.serve_some if explore else 0.0
