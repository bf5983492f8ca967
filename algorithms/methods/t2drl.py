# SPDX-License-Identifier: Apache-2.0
"""T2DRL (after arXiv 2411.01458): a DDQN caches models once a frame, a DDPG with a diffusion actor divides slots."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import nn

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.methods.registry import Method
from edgegen.algorithms.rllib.role import EpisodeLog, Following, Learning, Notes
from edgegen.algorithms.roles.allocator.networks import NETWORKS, AllocationActor, AllocationCritic
from edgegen.algorithms.roles.allocator.policy import Allocator
from edgegen.algorithms.roles.allocator.reward import SlotReward
from edgegen.algorithms.roles.allocator.settings import AllocatorSettings
from edgegen.algorithms.roles.allocator.state import SlotLayout, SlotState, largest_sizes_mbit
from edgegen.algorithms.roles.cacher.networks import HEADS, CachingNetwork
from edgegen.algorithms.roles.cacher.policy import Cacher
from edgegen.algorithms.roles.cacher.reward import FrameReward
from edgegen.algorithms.roles.cacher.settings import CacherSettings
from edgegen.algorithms.roles.cacher.state import FrameLayout, FrameState
from edgegen.algorithms.roles.cells import Cells
from edgegen.algorithms.roles.reward_scale import RewardScale
from edgegen.algorithms.rules.caching import shares
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import Count, Frozen, Positive
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.provisioning.parts import AllocationRule
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import JointConfig

REPORTED = ("cost", "delay_s", "tv", "hit_ratio", "useless_hit_share")
"""What is reported of an episode: means over its requests, and the share of hits with fewer steps than A1."""

ACTOR = "actor"
"""Name under which the allocating network is stored; the caching one has that of its role."""


class T2DRLSettings(CacherSettings, AllocatorSettings):
    """Settings of both learners; numbers without a source are our choice."""

    @property
    def information(self) -> str:
        """What is known when decisions are made, for honest comparisons."""
        known = {
            "skewness state": self.see_skewness,
            "requests of the frame before": self.see_frequency and self.history_decay is None,
            "requests of all frames so far": self.history_decay is not None,
            "model sizes": self.see_model_sizes,
            "frame number": self.see_frame_number,
            "curves": self.see_curves,
        }
        return ", ".join(name for name, used in known.items() if used) + "; channels and requests of the slot"


_IMPROVED = {
    "sharing": "full",
    "network": "set",
    "comparisons": 4,
    "hidden": 64,
    "hidden_layers": 2,
    "denoising_steps": 3,
    "beta_max": 2.0,
    "epsilon_output": "linear",
    "clip_denoised": False,
    "squash": "tanh",
    "action_penalty": 1e-3,
    "critic_target": "per_user",
    "critic_shares": True,
    "critic_loss": "huber",
    "search_weight": 5.0,
    "actor_lr": 2e-3,
    "critic_lr": 2e-3,
    "lr_hold_episodes": 96,
    "lr_fall_episodes": 160,
    "lr_end": 0.05,
    "average_weights": True,
    "gamma": 0.0,
    "reward_scale": "spread",
    "reward_baseline": "equal_shares",
    "batch_size": 64,
    "updates_per_slot": 1.5,
    "caching_head": "per_request",
    "cacher_hidden": 64,
    "remember": "amended",
    "frame_replay_capacity": 5_000,
    "updates_per_frame": 2.0,
    "serve_some": 0.3,
    "random_caches": "popular",
    "epsilon_hold_episodes": 96,
    "epsilon_episodes": 128,
    "copies": 16,
    "history_decay": 0.7,
    "see_frame_number": True,
    "see_curves": True,
}

_TWO_TIMESCALE = {
    **_IMPROVED,
    "search_weight": 0.0,
    "caching_head": "per_model",
    "gamma": 0.5,
    "frame_gamma": 0.35,
    "updates_per_slot": 0.75,
    "lr_hold_episodes": 24,
    "lr_fall_episodes": 24,
    "epsilon_hold_episodes": 16,
    "epsilon_episodes": 24,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"step_embedding": "mlp"},
    "two-timescale": _TWO_TIMESCALE,
    "improved": _IMPROVED,
    "ddpg": {**_IMPROVED, "actor": "mlp", "exploration_noise": 0.1},
}
"""What each preset changes from the defaults. ``paper`` is our reading of arXiv 2411.01458; ``two-timescale`` is the
same two learners, a DDQN and a D3PG that learn from rewards alone, with networks, scales and schedules with which they
do learn, in 48 episodes; ``improved`` also learns to expect requests and searches over its critic; ``ddpg`` is
``improved`` with a plain actor instead of a diffusion chain, its benchmark; noise on its actions explores for it, as
the noise of the chain does for the other."""


class T2DRLSpec(Frozen):
    """All that is needed to rebuild the networks; saved as JSON beside their weights.

    Attributes:
        cells: Cells C.
        users: Users N of a cell.
        models: Models M.
        skewness_states: States J of the skewness chain.
        slots_per_frame: Slots K of a frame.
        slot_state_size: Length of the allocator's state.
        frame_state_size: Length of the cacher's state.
        allocation: How raw actions become shares.
        settings: The settings.
        sizes_mbit: Upload and result that are 1 in the allocator's state: the largest of the world of the training;
            10 MB in policies that were saved before there was a choice.
    """

    cells: Count
    users: Count
    models: Count
    skewness_states: Count
    slots_per_frame: Count
    slot_state_size: Count
    frame_state_size: Count
    allocation: AllocationRule
    settings: T2DRLSettings
    sizes_mbit: tuple[Positive, Positive] = (80.0, 80.0)

    @classmethod
    def of(cls, scenario: ProvisioningScenario, settings: T2DRLSettings) -> T2DRLSpec:
        """Describe the networks that ``settings`` ask for in ``scenario``.

        Raises:
            InputError: If there would be a value for each of too many sets of models.
        """
        HEADS[settings.caching_head].check_models(scenario.models)
        return cls(
            cells=scenario.cells,
            users=scenario.users,
            models=scenario.models,
            skewness_states=len(scenario.skewness.states),
            slots_per_frame=scenario.slots_per_frame,
            slot_state_size=SlotState(scenario, settings).size,
            frame_state_size=FrameState(scenario, settings).size,
            allocation=scenario.allocation_amender,
            settings=settings,
            sizes_mbit=largest_sizes_mbit(scenario),
        )

    @property
    def order(self) -> Cells:
        """The order of cells in the networks."""
        return Cells.of(self.cells, self.settings)

    @property
    def slot(self) -> SlotLayout:
        """What lies where in the allocator's state."""
        chosen = self.settings
        return SlotLayout(
            users=self.users,
            models=self.models,
            one_hot=chosen.one_hot,
            cache=chosen.see_cache,
            curves=chosen.see_curves,
            size=self.slot_state_size,
            allocation=self.allocation,
        )

    @property
    def frame(self) -> FrameLayout:
        """What lies where in the cacher's state."""
        chosen = self.settings
        return FrameLayout(
            models=self.models,
            skewness=self.skewness_states * chosen.see_skewness,
            previous_cache=chosen.see_previous_cache,
            per_model=chosen.per_model,
            size=self.frame_state_size,
        )

    def actor(self) -> AllocationActor:
        """Make the allocating network, with fresh weights."""
        return NETWORKS[self.settings.network].actor(self.settings, self.slot, self.order.groups)

    def critic(self) -> AllocationCritic:
        """Make its critic, with fresh weights."""
        return NETWORKS[self.settings.network].critic(self.settings, self.slot, self.order.groups)

    def cacher(self) -> CachingNetwork:
        """Make the caching network, with fresh weights."""
        return HEADS[self.settings.caching_head](self.settings, self.frame, self.order.groups)


class T2DRLPolicy(TrainedPolicy):
    """Caching by the values of a DDQN, allocation by a diffusion actor.

    Args:
        spec: The networks.
        actor: The allocating network.
        cacher: The caching network.
        scenario: The world it was trained in, whose scales the states have.
        seed: Seed of chain noise and exploration.

    Attributes:
        allocator: Decides for the allocators.
        cacher: Decides for the cachers.
    """

    method: ClassVar[str] = "t2drl"
    name = "t2drl"
    roles = frozenset({CACHER, ALLOCATOR})

    def __init__(
        self,
        spec: T2DRLSpec,
        actor: AllocationActor,
        cacher: CachingNetwork,
        scenario: ProvisioningScenario,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.spec = spec
        self.information = spec.settings.information
        self.allocator = Allocator(actor, spec.settings, scenario, self, spec.sizes_mbit)
        self.cacher = Cacher(cacher, spec.settings, scenario, self)

    @classmethod
    def restore(cls, stored: StoredPolicy, scenario: ProvisioningScenario, seed: int = 0) -> T2DRLPolicy:
        """Rebuild a stored policy for a scenario; its states keep the scales of the world it was trained in.

        Raises:
            InputError: If it is damaged, or was trained for other numbers of cells, users, models or states of the
                skewness.
        """
        trained_in, spec = stored.scenario, stored.spec(T2DRLSpec)
        here = T2DRLSpec.of(scenario, spec.settings)
        for name in ("cells", "users", "models", "skewness_states"):
            if (trained := getattr(spec, name)) != (found := getattr(here, name)):
                raise InputError(
                    f"The policy in '{stored.folder}' was trained for {trained} {name.replace('_', ' ')}, but scenario "
                    f"'{scenario.name}' has {found}; choose a scenario with {trained} or train anew."
                )
        actor, cacher = spec.actor(), spec.cacher()
        stored.fill({ACTOR: actor, CACHER: cacher})
        return cls(spec, actor, cacher, build_scenario(trained_in, ProvisioningScenario), seed)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The deciding networks."""
        return {ACTOR: self.allocator.network, CACHER: self.cacher.network}

    def decide(self, role: str, view: Any, memory: Memory, explore: bool = True) -> Decided:
        """See :meth:`TrainedPolicy.decide`."""
        if role == CACHER:
            caching = self.cacher.decide(view, explore)
            return Decided(caching.cache, caching, memory)
        allocation = self.allocator.decide(view, explore)
        return Decided(shares(allocation.bandwidth, allocation.compute), allocation, memory)


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
            reward = following.outcome.frame_reward + notes[0]["spared"]
            self.sums["reward"] += reward.double().sum(-1)

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
        from edgegen.algorithms.roles.allocator.learning import AllocatorLearner
        from edgegen.algorithms.roles.cacher.learning import CacherLearner

        super().__init__(scenario, settings)
        self.spec = spec = T2DRLSpec.of(scenario, settings)
        slot_reward = SlotReward(scenario, settings, lambda: self.reward_scale.slot)
        frame_reward = FrameReward(scenario, settings, lambda: self.reward_scale)
        self.roles = {
            ALLOCATOR: AllocatorLearner(settings, spec.slot, spec.order, slot_reward, scenario.slots),
            CACHER: CacherLearner(settings, spec.frame, spec.order, frame_reward, scenario.slots_per_frame),
        }

    @cached_property
    def reward_scale(self) -> RewardScale:
        """What rewards are shifted and multiplied by; found by playing, so only where it is needed."""
        return RewardScale.of(self.scenario, self.settings)

    def policy(self, networks: dict[str, nn.Module], seed: int) -> T2DRLPolicy:
        """The policy that decides with an actor and a network of values."""
        actor, values = cast(AllocationActor, networks[ALLOCATOR]), cast(CachingNetwork, networks[CACHER])
        return T2DRLPolicy(self.spec, actor, values, self.scenario, seed)

    def explore(self, policy: T2DRLPolicy, episodes: int, explore: bool) -> None:
        """Let both explore; the cacher less with every episode begun."""
        policy.cacher.explore(episodes, explore)
        policy.allocator.explore(explore)


def _config() -> JointConfig:
    from edgegen.algorithms.methods.configs import T2DRLConfig

    return T2DRLConfig()


METHOD = Method(
    name="t2drl",
    title="T2DRL",
    kind_name="provisioning",
    presets=PRESETS,
    settings=T2DRLSettings,
    headline="cost",
    headline_label="mean cost",
    rivals=("popular-static", "rcars"),
    config=_config,
    learning=T2DRLLearning,
    restore=T2DRLPolicy.restore,
    in_flight=(
        *("actor_lr", "critic_lr", "cacher_lr", "gamma", "frame_gamma", "tau", "batch_size", "frame_batch_size"),
        *("updates_per_slot", "updates_per_frame", "exploration_noise"),
    ),
)
"""The entry of the registry."""
