# SPDX-License-Identifier: Apache-2.0
"""Routers that score every server with the same weights: one policy for any servers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.roles.router.actor import Actor
from edgegen.algorithms.roles.router.counterfactual import cost_everywhere
from edgegen.algorithms.roles.router.credit import CREDITS
from edgegen.algorithms.roles.router.router import Choose, Decision, Experience, Router
from edgegen.algorithms.roles.router.set_arrivals import Arrivals, FrozenArrivals, SeenArrivals
from edgegen.algorithms.roles.router.set_memory import SEEN, before, begin_slot, empty_memory, recent_arrivals, remember
from edgegen.algorithms.roles.router.set_networks import SetActor, SetCritic, SetDiffusionActor
from edgegen.algorithms.roles.router.set_view import (
    MEMBER_FEATURES,
    SlotView,
    catch_up,
    common_features,
    log_capacity,
    split,
    unit_slots,
)
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import RouterView

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.role import Following
    from edgegen.algorithms.roles.router.settings import RouterSettings


class SetRouter(Router):
    """A plain set network: one decision at a time, learned from without a next state."""

    actor_class: ClassVar[type[SetActor] | type[SetDiffusionActor]] = SetActor
    any_servers = True
    name = "set-ts"

    @classmethod
    def further(cls, scenario: OffloadingScenario, settings: RouterSettings) -> dict[str, Any]:
        """What the network begins with: how it learns what comes, and how much it minds a delay."""
        del scenario
        return {"arrivals": "seen", "start_temperature": settings.initial_temperature / settings.reward_scale}

    @classmethod
    def check(cls, settings: RouterSettings) -> None:
        """See :meth:`Router.check`."""
        super().check(settings)
        needs = {
            "sharing": "full",
            "in_slot_load": "own",
            "gamma": 0,
            "actor_objective": "forward_kl",
            "reward_unit": "s",
        }
        for name, needed in needs.items():
            if (found := getattr(settings, name)) != needed:
                raise ValueError(f"{name} is {found!r}, but network '{settings.network}' needs {needed!r}")
        if settings.memory == "slot":
            raise ValueError(f"memory is 'slot', but network '{settings.network}' needs 'task', 'gaussian' or 'none'")

    @property
    def information(self) -> str:
        """See :meth:`Router.information`."""
        known = "own arrivals" if self.spec.arrivals == "seen" else "mean arrivals"
        return f"{super().information} and before, {known}"

    def for_servers(self, scenario: OffloadingScenario) -> Self:
        """See :meth:`Router.for_servers`."""
        return type(self)(self.spec.model_copy(update={"servers": scenario.servers}))

    @property
    def state_size(self) -> int:
        """Length D of the state vector."""
        return common_features(self.spec) + self.spec.servers * MEMBER_FEATURES

    def actor(self) -> Actor:
        """See :meth:`Router.actor`."""
        return self.actor_class(self.spec)

    def critics(self, groups: int, reward_scale: float, gain: float = 1.0) -> SetCritic:
        """See :meth:`Router.critics`."""
        return SetCritic(self.spec, groups, reward_scale, gain)

    def begin(self, view: RouterView) -> Memory:
        """See :meth:`Router.begin`."""
        return empty_memory(view)

    def place(self, view: RouterView, memory: Memory, choose: Choose) -> Decision:
        """See :meth:`Router.place`."""
        tasks, spec, slot = view.tasks, self.spec, view.slot
        copies, servers, width = tasks.present.shape
        begin_slot(memory, slot)
        arrivals = self.arrivals(view, memory)
        waiting = catch_up(view, before(memory, slot, arrivals.all_gcycles), spec.slot_s)
        seen = SlotView(spec, view, arrivals, waiting, recent_arrivals(memory))
        like = view.backlog_gcycles
        shape = (copies, servers, width)
        decision = Decision(
            like.new_zeros(*shape, self.state_size),
            like.new_zeros(*shape, self.latents.size),
            like.new_full((*shape, servers), 1 / servers),
            torch.zeros(shape, dtype=torch.long, device=like.device),
        )
        for n in tasks.present.any(0).any(0).nonzero()[:, 0].tolist():  # each placement changes what follows
            task, index = tasks.at_index(n), torch.tensor([n], device=like.device)
            one = choose(seen.state(task), index, task.present[..., None])
            seen.place(task, one.action[:, :, 0], one.probability[:, :, 0])
            for field in fields(Decision):
                getattr(decision, field.name)[:, :, n : n + 1] = getattr(one, field.name)
        remember(memory, slot, seen.expected_gcycles, tasks)
        return decision

    def arrivals(self, view: RouterView, memory: Memory) -> Arrivals:
        """What is expected to come in a slot."""
        if self.spec.arrivals == "frozen":
            return FrozenArrivals(self.spec, view)
        return SeenArrivals(self.spec, view, memory[SEEN])

    def experience(
        self, settings: RouterSettings, view: RouterView, decision: Decision, outcome: SlotOutcome, following: Following
    ) -> Experience:
        """See :meth:`Router.experience`; rewards are in the units that the state of the task is in."""
        met = super().experience(settings, view, decision, outcome, following)
        if settings.credit == "everywhere":
            cost = cost_everywhere(view.truth, decision.action, outcome, self.spec.slot_s, settings.credit_slots)
            met = replace(met, everywhere=-cost * settings.reward_scale)
        if self.spec.arrivals == "frozen":
            return met
        unit_s = unit_slots(met.state, self.spec) * self.spec.slot_s
        everywhere = None if met.everywhere is None else met.everywhere / unit_s[..., None]
        return replace(met, reward=met.reward / unit_s, everywhere=everywhere)

    def reward_unit_s(self, settings: RouterSettings) -> float:
        """One: rewards are divided by the time of the mean task later on."""
        del settings
        return 1.0

    def cost(self, settings: RouterSettings, outcome: SlotOutcome, after: RouterView) -> Tensor:
        """What placements cost, s ``[M]``, by the setting ``credit``."""
        return CREDITS[settings.credit](outcome, after)

    def prior(self, state: Tensor) -> Tensor:
        """The shares of the capacity."""
        return log_capacity(split(state, self.spec)[1])


class SetDiffusionRouter(SetRouter):
    """The latent action diffusion with a set network for its noise."""

    actor_class = SetDiffusionActor
    name = "set-lad-ts"
