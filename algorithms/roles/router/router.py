# SPDX-License-Identifier: Apache-2.0
"""What every router is: how it sees servers, what it remembers, the networks it decides and learns with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.roles.router.actor import Actor
from edgegen.algorithms.roles.router.latents import LATENTS
from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import RouterView

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.role import Following
    from edgegen.algorithms.roles.router.learning import RouterLearner
    from edgegen.algorithms.roles.router.settings import RouterSettings


@dataclass(frozen=True)
class Decision:
    """The decisions of one slot with all that a transition needs.

    Attributes:
        state: ``[E, B, N, D]``.
        latent: x_I each chain started from ``[E, B, N, B]``; empty, ``[E, B, N, 0]``, where there is no chain.
        probability: π(·|s, x_I) ``[E, B, N, B]``.
        action: Chosen server ``[E, B, N]``.
    """

    state: Tensor
    latent: Tensor
    probability: Tensor
    action: Tensor

    @classmethod
    def joined(cls, parts: list[Decision]) -> Decision:
        """Join decisions on consecutive tasks."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts], 2) for field in fields(cls)))


Choose = Callable[[Tensor, Tensor, Tensor], Decision]
"""Decides on tasks from states ``[E, B, n, D]``, indices ``[n]`` and whether they are there ``[E, B, n]``."""


@dataclass(frozen=True)
class Experience:
    """What became of the decisions of a slot ``[E, B, N, ...]``.

    Attributes:
        state: States.
        latent: Latents.
        action: Chosen servers ``[E, B, N]``.
        reward: Rewards ``[E, B, N]``.
        present: Whether there was a task ``[E, B, N]``, bool.
        next_state: States of the tasks that follow; None if nothing is learned from them.
        next_latent: Their latents.
        everywhere: What the reward would have been on every server ``[E, B, N, B]``; None if that is not asked.
    """

    state: Tensor
    latent: Tensor
    action: Tensor
    reward: Tensor
    present: Tensor
    next_state: Tensor | None = None
    next_latent: Tensor | None = None
    everywhere: Tensor | None = None


class Router(ABC):
    """One way to route, which a learner and a policy are given: they know neither the view nor the network.

    Args:
        spec: What the deciding network is.

    Attributes:
        actor_class: The deciding network.
        any_servers: Whether it fits any servers, not only those that it was trained with.
        latents: What chains start from.
    """

    actor_class: ClassVar[type[Actor]]
    any_servers: ClassVar[bool] = False

    def __init__(self, spec: RouterSpec) -> None:
        self.spec = spec
        self.latents = LATENTS[spec.memory](spec)

    @classmethod
    def of(cls, scenario: OffloadingScenario, settings: RouterSettings) -> Self:
        """Make the one that settings ask for in a scenario."""
        shared = settings.model_dump(include=set(RouterSpec.model_fields))
        spec = RouterSpec(
            servers=max(settings.train_servers, default=scenario.servers),
            slots=scenario.slots + 1,
            tasks=scenario.max_tasks,
            size_scale_mbit=scenario.size_mbit.high,
            workload_scale_gcycles=scenario.max_workload_gcycles,
            slot_s=scenario.slot_s,
            **shared,
            **cls.further(scenario, settings),
        )
        return cls(spec)

    @classmethod
    def further(cls, scenario: OffloadingScenario, settings: RouterSettings) -> dict[str, Any]:
        """Return further fields of the spec."""
        del scenario, settings
        return {}

    @classmethod
    def check(cls, settings: RouterSettings) -> None:
        """Check settings that name this router.

        Raises:
            ValueError: If others of them do not fit it.
        """
        memory, has_latents = settings.memory, settings.memory != "none"
        if cls.actor_class.chain and not has_latents:
            raise ValueError(f"memory is '{memory}', but actor '{settings.actor}' needs 'slot', 'task' or 'gaussian'")
        if has_latents and not cls.actor_class.chain:
            raise ValueError(f"memory is '{memory}', but actor '{settings.actor}' has no chain and needs 'none'")
        if settings.legacy_alias and not cls.actor_class.chain:
            raise ValueError(f"legacy_alias is on, but actor '{settings.actor}' has no latents to store")

    @property
    @abstractmethod
    def name(self) -> str:
        """What a policy of this form is called: LAD-TS or one of its learned baselines."""

    @property
    def information(self) -> str:
        """What is known when it decides, for honest comparisons."""
        return "slot-start backlogs" + (", own placements in the slot" if self.spec.sequential else "")

    def for_servers(self, scenario: OffloadingScenario) -> Self:
        """Return the same for the servers of another scenario, or itself if it is bound to those it was trained on."""
        del scenario
        return self

    @property
    @abstractmethod
    def state_size(self) -> int:
        """Length D of the state vector."""

    @abstractmethod
    def actor(self) -> Actor:
        """Make the network that decides, with fresh weights."""

    @abstractmethod
    def critics(self, groups: int, reward_scale: float, gain: float = 1.0) -> nn.Module:
        """Make critics from states ``[groups, rows, D]`` to values ``[groups, rows, B]``, with fresh weights.

        Args:
            groups: Number of critics.
            reward_scale: Factor on the reward.
            gain: The setting ``critic_gain``.
        """

    def learner(self, settings: RouterSettings) -> RouterLearner:
        """Make what learns it; imports RLlib."""
        from edgegen.algorithms.roles.router.learning import RouterLearner

        return RouterLearner(self, settings)

    def begin(self, view: RouterView) -> Memory:
        """Return what to remember beside latents from the first view on."""
        del view
        return {}

    def kept(self, memory: Memory) -> Memory:
        """What of the memory of a training belongs to the policy."""
        del memory
        return {}

    @abstractmethod
    def place(self, view: RouterView, memory: Memory, choose: Choose) -> Decision:
        """Place the tasks of a slot; ``memory`` is updated in place."""

    def experience(
        self, settings: RouterSettings, view: RouterView, decision: Decision, outcome: SlotOutcome, following: Following
    ) -> Experience:
        """Return what became of the decisions of a slot.

        Args:
            settings: What is rewarded, and how states of the published code are made.
            view: What was seen.
            decision: What was decided.
            outcome: What came of it.
            following: What comes after.
        """
        cost = self.cost(settings, outcome, following.view)
        return Experience(
            decision.state,
            decision.latent,
            decision.action,
            -outcome.dense(cost) * (settings.reward_scale / self.reward_unit_s(settings)),
            view.tasks.present,
        )

    def reward_unit_s(self, settings: RouterSettings) -> float:
        """How many seconds a reward of −1 stands for, before it is scaled."""
        return self.spec.slot_s if settings.reward_unit == "slot" else 1.0

    def cost(self, settings: RouterSettings, outcome: SlotOutcome, after: RouterView) -> Tensor:
        """What placements cost ``[M]``: the delay of the task itself, s, as published; or what the objective says."""
        del settings, after
        return outcome.worse

    def prior(self, state: Tensor) -> Tensor | None:
        """What the temperature pulls towards in states ``[G, rows, D]``, ``[G, rows, B]``; uniform if None."""
        del state
        return None
