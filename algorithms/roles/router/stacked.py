# SPDX-License-Identifier: Apache-2.0
"""Routers with one output per server: LAD-TS as published, and its learned baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.nets.stacked import StackedMLP
from edgegen.algorithms.roles.router.actor import Actor, LatentDiffusionActor, QNetwork, SoftmaxActor
from edgegen.algorithms.roles.router.latents import LATENT
from edgegen.algorithms.roles.router.router import Choose, Decision, Experience, Router
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.view import RouterView

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.role import Following
    from edgegen.algorithms.roles.router.learning import RouterLearner
    from edgegen.algorithms.roles.router.settings import RouterSettings


class StackedRouter(Router):
    """A router that sees all servers at once, for the servers that it was trained with."""

    actor_class: ClassVar[type[LatentDiffusionActor] | type[SoftmaxActor]]

    @classmethod
    def check(cls, settings: RouterSettings) -> None:
        """See :meth:`Router.check`."""
        super().check(settings)
        if settings.train_servers:
            raise ValueError(
                f"train_servers is given, but network '{settings.network}' fits one number of servers only"
            )
        if settings.credit == "everywhere":
            raise ValueError(f"credit is 'everywhere', but network '{settings.network}' needs 'own' or 'all'")

    @property
    def state_size(self) -> int:
        """Length D of the state vector."""
        return 2 + (1 + self.spec.sequential + self.spec.shared) * self.spec.servers

    def actor(self) -> Actor:
        """See :meth:`Router.actor`."""
        return self.actor_class(self.spec, self.state_size)

    def critics(self, groups: int, reward_scale: float, gain: float = 1.0) -> StackedMLP:
        """See :meth:`Router.critics`; they do not see the latent."""
        del reward_scale, gain
        return StackedMLP(groups, [self.state_size, self.spec.hidden, self.spec.hidden, self.spec.servers])

    def kept(self, memory: Memory) -> Memory:
        """The first copy's latent memory, if there is one."""
        return {LATENT: memory[LATENT][0].clone()} if LATENT in memory else {}

    def state(self, view: RouterView, size_mbit: Tensor, workload_gcycles: Tensor, own_gcycles: Tensor) -> Tensor:
        """State of tasks about to be placed (docs/spec/ladts.md §3): [d, w, q_1..q_B, own placements, deciding server].

        Args:
            view: Backlogs and capacities.
            size_mbit: Task sizes ``[E, B, n]``.
            workload_gcycles: Workloads ``[E, B, n]``.
            own_gcycles: The deciding server's placements earlier in the slot ``[E, B, B]``; used if the spec says so.

        Returns:
            ``[E, B, n, D]``.
        """
        spec = self.spec
        copies, servers, width = size_mbit.shape
        wide = (copies, servers, width, servers)
        queues = [view.backlog_gcycles[:, None, None]]
        if spec.sequential:
            # Scaled by the number of servers: what the slot would add if all of them did as this one does.
            queues.append(servers * own_gcycles[:, :, None])
        task = torch.stack([size_mbit, workload_gcycles], dim=-1)
        if spec.normalise:
            task = task / task.new_tensor([spec.size_scale_mbit, spec.workload_scale_gcycles])
            per_slot = (view.capacity_gcycles_s * spec.slot_s)[:, None, None]
            queues = [torch.log1p(queue / per_slot) for queue in queues]
        parts = [task, *(queue.expand(wide) for queue in queues)]
        if spec.shared:
            parts.append(torch.eye(servers, device=task.device, dtype=task.dtype)[:, None].expand(wide))
        return torch.cat(parts, dim=-1)

    def place(self, view: RouterView, memory: Memory, choose: Choose) -> Decision:
        """See :meth:`Router.place`."""
        tasks = view.tasks
        copies, servers, width = tasks.present.shape
        own = view.backlog_gcycles.new_zeros(copies, servers, servers)

        def decided(part: slice) -> Decision:
            state = self.state(view, tasks.size_mbit[:, :, part], tasks.workload_gcycles[:, :, part], own)
            return choose(state, torch.arange(part.start, part.stop, device=own.device), tasks.present[:, :, part])

        if not self.spec.sequential:
            return decided(slice(0, width))
        parts = []
        for n in range(width):  # each placement is part of the next task's state
            part = decided(slice(n, n + 1))
            work = (tasks.workload_gcycles * tasks.present)[..., n : n + 1]
            own = own.scatter_add(-1, part.action, work)
            parts.append(part)
        return Decision.joined(parts)

    def experience(
        self, settings: RouterSettings, view: RouterView, decision: Decision, outcome: SlotOutcome, following: Following
    ) -> Experience:
        """Pair every task with the agent's next one: n + 1 in the same slot, or the first of the next slot.

        Where the next slot brings a server no task, the size and workload of the one that was drawn but did not
        arrive stand in for it.
        """
        met = super().experience(settings, view, decision, outcome, following)
        present, seen = met.present, following.view
        copies, servers, _ = present.shape
        first_task, backlog = seen.tasks.at_index(0), seen.backlog_gcycles
        shown = replace(seen, backlog_gcycles=torch.zeros_like(backlog)) if settings.legacy_zero_next_queue else seen
        nothing_own = backlog.new_zeros(copies, servers, servers)
        first_state = self.state(
            shown, first_task.size_mbit[..., None], first_task.workload_gcycles[..., None], nothing_own
        )
        first_latent = following.policy.read(following.memory, seen.slot, torch.zeros(1, dtype=torch.long), copies)
        latent = decision.probability if settings.legacy_alias else decision.latent
        last = (present & ~torch.nn.functional.pad(present[..., 1:], (0, 1)))[..., None]

        def shifted(values: Tensor, first: Tensor) -> Tensor:
            return torch.where(last, first, torch.cat([values[:, :, 1:], first], 2))

        return replace(
            met,
            latent=latent,
            next_state=shifted(decision.state, first_state),
            next_latent=shifted(latent, first_latent),
        )


class DiffusionRouter(StackedRouter):
    """LAD-TS, and D2SAC-TS where its chains start from fresh noise."""

    actor_class = LatentDiffusionActor

    @property
    def name(self) -> str:
        """See :meth:`Router.name`."""
        return "lad-ts" if self.latents.remembered else "d2sac-ts"


class PlainRouter(StackedRouter):
    """SAC-TS."""

    actor_class = SoftmaxActor
    name = "sac-ts"


class ValueRouter(StackedRouter):
    """DQN-TS: one network of values in the place of actor, critics and temperature."""

    actor_class = QNetwork
    name = "dqn-ts"

    def learner(self, settings: RouterSettings) -> RouterLearner:
        """See :meth:`Router.learner`."""
        from edgegen.algorithms.roles.router.learning import DQNRouterLearner

        return DQNRouterLearner(self, settings)
