"""The env runner of T2DRL: plays frames of the batched simulator, returns transitions of both agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from edgegen.algorithms.rllib.rollout import Fragment, concatenate
from edgegen.algorithms.rllib.runner import ArrayEnvRunner, Spaces
from edgegen.algorithms.rules.provisioning import equal_bandwidth, equal_compute
from edgegen.algorithms.t2drl.cacher import relative_size
from edgegen.algorithms.t2drl.module import ALLOCATOR, CACHER
from edgegen.algorithms.t2drl.objectives import DONE, SIZES
from edgegen.algorithms.t2drl.policy import AllocationDecision, CachingDecision, T2DRLPolicy
from edgegen.algorithms.t2drl.reward_scale import RewardScale
from edgegen.algorithms.t2drl.settings import T2DRLSettings
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.scenario import ProvisioningScenario, build_provisioning
from edgegen.envs.provisioning.view import AllocatorView
from edgegen.envs.provisioning.world import ProvisioningWorld, SlotOutcome

COST = "cost"
REPORTED = (COST, "delay_s", "tv", "hit_ratio", "useless_hit_share")
"""What is reported of an episode: means over its requests, and the share of hits with fewer steps than A1."""


def _with_equal_shares(scenario: ProvisioningScenario, observation: AllocatorView) -> SlotOutcome:
    return serve(scenario, observation, equal_bandwidth(observation), equal_compute(observation))


@dataclass(frozen=True)
class FrameFragment:
    """Transitions of some consecutive frames.

    Attributes:
        slots: What the allocator met.
        frames: What the cacher met.
    """

    slots: Fragment
    frames: Fragment

    def env_steps(self) -> int:
        """Slots played (RLlib's evaluation asks for it)."""
        return self.slots.slots

    def agent_steps(self) -> int:
        """Decisions made."""
        return self.slots.agent_steps() + self.frames.agent_steps()


def spaces_of(spec: T2DRLSpec) -> dict[str, Spaces]:
    """Spaces of state and action of both agents."""
    bits = gym.spaces.MultiBinary(spec.models)
    raw = gym.spaces.Box(-1, 1, (2 * spec.users,), np.float32)
    return {
        ALLOCATOR: (gym.spaces.Box(-np.inf, np.inf, (spec.slot_state_size,), np.float32), raw),
        CACHER: (gym.spaces.Box(-np.inf, np.inf, (spec.frame_state_size,), np.float32), bits),
    }


class T2DRLRunner(ArrayEnvRunner):
    """Plays T2DRL on E copies of the scenario in ``config.env_config``, whole frames at a time.

    A frame ends with the caching decision of the next one, so that the allocator's last state of the frame already has
    the next cache in it, and before the cacher learns from the frame.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        self.scenario: ProvisioningScenario = build_provisioning(dict(config.env_config["scenario"]))
        self.settings: T2DRLSettings = config.settings()
        self.spec = T2DRLSpec.of(self.scenario, self.settings)
        self.rounds_per_episode, self.slots_per_round = self.scenario.frames, self.scenario.slots_per_frame
        self.reward_scale = RewardScale.of(self.scenario, self.settings)
        self._caching: CachingDecision | None = None
        self._overflow = torch.zeros(())
        self._sums: dict[str, Tensor] = {}
        self._episodes_begun = 0
        super().__init__(config=config, **kwargs)

    def make_env(self) -> None:
        """Create the batched simulator, and the policy that plays it."""
        self.simulator = ProvisioningWorld(self.scenario, self.settings.copies)
        module = cast(Any, self.module)
        self.policy = T2DRLPolicy(module[ALLOCATOR].actor, module[CACHER].values, self.scenario, self.policy_seed)
        self.simulator.reset(self.arrivals_seed)
        self._begin_episode()

    def module_spaces(self) -> dict[str, Spaces]:
        """Spaces of both agents."""
        return spaces_of(self.spec)

    def assert_healthy(self) -> None:
        """Raise if the runner can not sample."""
        if not all(torch.isfinite(total).all() for total in self._sums.values()):
            raise RuntimeError("the costs are not finite")

    def _begin_episode(self) -> None:
        self._sums = {name: torch.zeros(self.settings.copies, dtype=torch.float64) for name in REPORTED}
        self._sums["reward"] = torch.zeros(self.settings.copies, dtype=torch.float64)
        self._caching = None

    def _set_exploration(self, explore: bool) -> None:
        """ε falls with the episodes begun here, counted as if all runners had begun as many."""
        settings, training = self.settings, not self.config.in_evaluation
        begun = self._episodes_begun * max(1, int(self.config.num_env_runners))
        played = min(1.0, max(0, begun - settings.epsilon_hold_episodes) / settings.epsilon_episodes)
        epsilon = settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * played
        self.policy.epsilon = epsilon if explore and training else 0.0
        self.policy.noise = settings.exploration_noise if explore and training else 0.0
        self.policy.serve_some = settings.serve_some if explore and training else 0.0

    @property
    def rounds_played(self) -> int:
        """Frames of the present episode that are over."""
        return int(self.simulator.state.frame)

    def begin_anew(self) -> None:
        """Leave the present episodes and begin the next ones."""
        self.simulator.reset()
        self._begin_episode()

    def join(self, rounds: list[FrameFragment]) -> list[FrameFragment]:
        """Join the transitions of frames."""
        slots, frames = concatenate([part.slots for part in rounds]), concatenate([part.frames for part in rounds])
        return [FrameFragment(slots, frames)]

    def _decide_cache(self, explore: bool) -> CachingDecision:
        self._set_exploration(explore)
        decision: CachingDecision = self.policy.decide_cache(self.simulator.observe_frame(), explore)
        outcome = self.simulator.cache(decision.cache)
        self._overflow = torch.zeros_like(outcome.penalty)
        if self.settings.remember == "amended":
            # The cache that is remembered is innocent of what did not fit.
            decision = CachingDecision(decision.state, outcome.cache)
            self._overflow = self.scenario.overflow_penalty_per_gb * outcome.overflow_gb
        return decision

    def play_round(self, explore: bool) -> FrameFragment:
        """Play one frame in all copies."""
        simulator = self.simulator
        caching = self._caching or self._decide_cache(explore)
        size = relative_size(simulator.observe_frame())
        overflow = self._overflow
        slots, rewards = [], []
        for _ in range(self.scenario.slots_per_frame):
            observation = simulator.observe_slot()
            decision = self.policy.decide_allocation(observation, explore)
            outcome = simulator.allocate(decision.bandwidth, decision.compute)
            self._count(outcome)
            slots.append(decision)
            rewards.append(self._slot_reward(observation, outcome, decision))
        reward = simulator.frame_reward() + overflow
        self._sums["reward"] += reward.double().sum(-1)
        following, done = self.policy.frame_state(simulator.observe_frame()), simulator.done
        if done:
            self._finish_episode()
            last = slots[-1].state  # there is no next state, and none is looked at
        else:
            self._caching = self._decide_cache(explore)
            observation = simulator.observe_slot()
            last = self.policy.slot_state(observation, self.policy.slot_state.order(observation))
        frame = self._frame_transition(caching, reward, following, size, done)
        return FrameFragment(self._slot_transitions(slots, rewards, last, done), frame)

    def _slot_reward(self, observation: AllocatorView, outcome: SlotOutcome, decision: AllocationDecision) -> Tensor:
        """Rewards ``[E, C, N]``, users in the order of the state, or ``[E, C, 1]``."""
        reward = self._user_reward(outcome)
        if self.settings.reward_baseline == "equal_shares":
            reward = reward - self._user_reward(_with_equal_shares(self.scenario, observation))
        if decision.order is not None and self.settings.critic_target == "per_user":
            reward = reward.gather(-1, decision.order)
        return reward * self.reward_scale.slot

    def _user_reward(self, outcome: SlotOutcome) -> Tensor:
        if self.settings.critic_target == "mean":
            return outcome.reward[..., None]
        return -(outcome.cost + self.scenario.late_penalty * outcome.late)

    def _slot_transitions(
        self, slots: list[AllocationDecision], rewards: list[Tensor], last: Tensor, done: bool
    ) -> Fragment:
        following = [decision.state for decision in slots[1:]] + [last]
        fragments = []
        for number, (decision, reward) in enumerate(zip(slots, rewards, strict=True)):
            ended = done and number == len(slots) - 1
            columns = {Columns.OBS: decision.state, Columns.ACTIONS: decision.action, Columns.REWARDS: reward}
            if self.settings.gamma > 0:
                columns[Columns.NEXT_OBS] = following[number]
                columns[DONE] = torch.full_like(reward[..., 0], float(ended))
            fragments.append(self._fragment(columns, self.settings.copies))
        return concatenate(fragments)

    def _frame_transition(
        self, caching: CachingDecision, reward: Tensor, following: Tensor, size: Tensor, done: bool
    ) -> Fragment:
        return self._fragment(
            {
                Columns.OBS: caching.state,
                Columns.ACTIONS: caching.cache,
                Columns.REWARDS: (reward - self.reward_scale.frame_mean) * self.reward_scale.frame,
                Columns.NEXT_OBS: following,
                SIZES: size,
                DONE: torch.full_like(reward, float(done)),
            },
            0,
        )

    def _fragment(self, columns: dict[str, Tensor], slots: int) -> Fragment:
        grouped = {name: self.spec.grouped(value) for name, value in columns.items()}
        valid = torch.ones(grouped[Columns.OBS].shape[:2], dtype=torch.bool)
        return Fragment(grouped, valid, slots)

    def _count(self, outcome: SlotOutcome) -> None:
        requests = outcome.cost[0].numel()
        self.count_steps(self.settings.copies, outcome.cost.shape[0] * outcome.cost.shape[1])
        useless = outcome.useless.double().sum((-2, -1)) / outcome.hit.double().sum((-2, -1)).clamp_min(1)
        means = [outcome.cost, outcome.delays.total_s, outcome.tv, outcome.hit]
        for name, values in zip(REPORTED, means, strict=False):
            self._sums[name] += values.double().sum((-2, -1)) / requests
        self._sums[REPORTED[-1]] += useless

    def _finish_episode(self) -> None:
        reported = {name: (self._sums[name] / self.scenario.slots).tolist() for name in REPORTED}
        episodes = [{name: reported[name][copy] for name in REPORTED} for copy in range(self.settings.copies)]
        self.finish_episodes(episodes, self._sums["reward"].tolist())
        self._episodes_begun += self.settings.copies
        self.begin_anew()

    def get_world_state(self) -> dict[str, Any]:
        """Everything but the weights that decides what the runner samples next."""
        caching = self._caching
        return {
            "simulator": self.simulator.state_dict(),
            "generator": self.policy.generator.get_state(),
            "caching": None if caching is None else (caching.state.clone(), caching.cache.clone()),
            "overflow": self._overflow.clone(),
            "sums": {name: value.clone() for name, value in self._sums.items()},
            "episodes_begun": self._episodes_begun,
        }

    def set_world_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_world_state`` was called."""
        self.simulator.load_state_dict(state["simulator"])
        self.policy.generator.set_state(state["generator"])
        self._caching = None if state["caching"] is None else CachingDecision(*(t.clone() for t in state["caching"]))
        self._overflow = state["overflow"].clone()
        self._sums = {name: value.clone() for name, value in state["sums"].items()}
        self._episodes_begun = state["episodes_begun"]
