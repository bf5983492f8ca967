"""A LAD-TS or baseline actor as a :class:`Policy`: the same object trains, is compared, schedules live."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy, sample_shares
from edgegen.algorithms.ladts.actor import Actor
from edgegen.algorithms.ladts.set_memory import before, begin_slot, empty_memory, recent_arrivals, remember
from edgegen.algorithms.ladts.set_view import SlotView, catch_up
from edgegen.envs.offloading.view import RouterView


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


class LADTSPolicy(Policy):
    """Latent-action diffusion scheduling, or what one of its learned baselines does instead.

    The chain's noise is part of the policy, so it is drawn whether or not the policy explores; without exploration
    the most likely action of the resulting distribution is taken.

    Args:
        actor: The deciding network.
        latents: Trained latent memory to begin with, ``[T, B, N, B]`` for slot or ``[B, N, B]`` for task memory;
            Gaussian if None.
        seed: Seed of latents, chain noise and sampling.
    """

    def __init__(self, actor: Actor, latents: Tensor | None = None, seed: int = 0) -> None:
        self.actor = actor
        self.spec = actor.spec
        self.name = self.spec.method
        self.latents = latents
        own = ", own placements in the slot" if self.spec.in_slot_load == "own" else ""
        if self.spec.network == "set":
            own += " and before, mean arrivals"
        self.information = f"slot-start backlogs{own}"
        super().__init__(seed)

    def begin(self, observation: RouterView) -> Memory:
        """Return ``latent [E, ...]``: the trained latents for every copy, or N(0, 1) (LAD-TS spec §4.3)."""
        copies = observation.backlog_gcycles.shape[0]
        started = empty_memory(observation) if self.spec.network == "set" else {}
        return {**started, **self._initial_latents(observation, copies)}

    def _initial_latents(self, observation: RouterView, copies: int) -> Memory:
        if self.spec.memory in ("gaussian", "none"):
            return {}
        if self.latents is not None:
            return {"latent": self.latents.to(observation.backlog_gcycles).repeat(copies, *[1] * self.latents.dim())}
        shape: tuple[int, ...] = (self.spec.servers, self.spec.tasks, self.spec.servers)
        if self.spec.memory == "slot":
            shape = (self.spec.slots, *shape)
        return {"latent": torch.randn((copies, *shape), generator=self.generator).to(observation.backlog_gcycles)}

    def read(self, memory: Memory, slot: int, index: Tensor, copies: int) -> Tensor:
        """Latents of the tasks with the given indices in a slot, ``[E, B, n, latent_size]`` (a copy).

        Slots and indices beyond those trained on wrap around.
        """
        if self.spec.memory in ("gaussian", "none"):
            shape = (copies, self.spec.servers, index.numel(), self.spec.latent_size)
            return torch.randn(shape, generator=self.generator).to(index.device)
        table = memory["latent"]
        if self.spec.memory == "slot":
            table = table[:, slot % self.spec.slots]
        return table[:, :, index % self.spec.tasks]

    def write(self, memory: Memory, slot: int, index: Tensor, present: Tensor, probability: Tensor) -> None:
        """Store the probabilities of the tasks that were present; cells of absent tasks keep their value.

        In place: a slot memory is large, and no caller keeps an old one.
        """
        if self.spec.memory in ("gaussian", "none"):
            return
        table = memory["latent"]
        if self.spec.memory == "slot":
            table = table[:, slot % self.spec.slots]
        for start in range(0, index.numel(), self.spec.tasks):  # one pass unless indices wrap around
            part = slice(start, start + self.spec.tasks)
            cell = index[part] % self.spec.tasks
            table[:, :, cell] = torch.where(present[:, :, part, None], probability[:, :, part], table[:, :, cell])

    @torch.no_grad()
    def decide(self, observation: RouterView, memory: Memory, explore: bool = True) -> Decision:
        """Place the tasks of a slot and update the latents in ``memory`` in place."""
        tasks = observation.tasks
        copies, servers, width = tasks.present.shape
        if self.spec.network == "set":
            return self._decide_set(observation, memory, explore)
        own = observation.backlog_gcycles.new_zeros(copies, servers, servers)
        if self.spec.in_slot_load == "none":
            return self._decide(observation, memory, explore, slice(0, width), own)
        parts = []
        for n in range(width):  # each placement is part of the next task's state
            part = self._decide(observation, memory, explore, slice(n, n + 1), own)
            work = (tasks.workload_gcycles * tasks.present)[..., n : n + 1]
            own = own.scatter_add(-1, part.action, work)
            parts.append(part)
        return Decision(*(torch.cat([getattr(p, f) for p in parts], 2) for f in Decision.__dataclass_fields__))

    def _decide(self, observation: RouterView, memory: Memory, explore: bool, part: slice, own: Tensor) -> Decision:
        tasks, spec = observation.tasks, self.spec
        size, work, present = (t[:, :, part] for t in (tasks.size_mbit, tasks.workload_gcycles, tasks.present))
        index = torch.arange(part.start, part.stop, device=size.device)
        state = spec.state(observation, size, work, own)
        return self._choose(observation, memory, explore, state, index, present)

    def _choose(
        self, observation: RouterView, memory: Memory, explore: bool, state: Tensor, index: Tensor, present: Tensor
    ) -> Decision:
        """Decide on tasks whose states ``[E, B, n, D]`` are known, and remember the probabilities."""
        spec, slot = self.spec, observation.slot
        copies, _, width = present.shape
        latent = self.read(memory, slot, index, copies)
        grouped = spec.grouped(state)
        noise = self.actor.chain_noise(grouped.shape[1], self.generator)
        available = observation.available
        if available is not None:
            available = spec.grouped(available[:, None, None].expand(*present.shape, -1))
        probability = spec.ungrouped(self.actor(grouped, spec.grouped(latent), noise, available), copies, width)
        self.write(memory, slot, index, present, probability)
        if explore:
            action = sample_shares(probability, self.random((*present.shape, 1), state))[..., 0]
        else:
            action = probability.argmax(-1)
        return Decision(state, latent, probability, action)

    def _decide_set(self, observation: RouterView, memory: Memory, explore: bool) -> Decision:
        tasks, spec, slot = observation.tasks, self.spec, observation.slot
        copies, servers, width = tasks.present.shape
        begin_slot(memory, slot)
        arriving = servers * sum(spec.work_profile_gcycles)
        waiting = catch_up(observation, before(memory, slot, arriving), spec.slot_s)
        view = SlotView(spec, observation, waiting, recent_arrivals(memory))
        like = observation.backlog_gcycles
        shape = (copies, servers, width)
        decision = Decision(
            like.new_zeros(*shape, spec.state_size),
            like.new_zeros(*shape, spec.latent_size),
            like.new_full((*shape, servers), 1 / servers),
            torch.zeros(shape, dtype=torch.long, device=like.device),
        )
        for n in tasks.present.any(0).any(0).nonzero()[:, 0].tolist():  # each placement changes what follows
            task, index = tasks.at_index(n), torch.tensor([n], device=like.device)
            one = self._choose(observation, memory, explore, view.state(task), index, task.present[..., None])
            view.place(task, one.action[:, :, 0], one.probability[:, :, 0])
            for field in Decision.__dataclass_fields__:
                getattr(decision, field)[:, :, n : n + 1] = getattr(one, field)
        remember(memory, slot, view.expected_gcycles, (tasks.workload_gcycles * tasks.present).sum(-1))
        return decision

    def act(self, observation: RouterView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`; ``memory`` is updated in place and returned."""
        return self.decide(observation, memory, explore).action, memory
