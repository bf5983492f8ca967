"""A LAD-TS or baseline actor as a :class:`Policy`: the same object trains, is compared, schedules live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, sample_shares
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.ladts.actor import Actor, ActorSpec
from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.set_memory import before, begin_slot, empty_memory, recent_arrivals, remember
from edgegen.algorithms.ladts.set_view import SlotView, catch_up
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER, RouterView

ACTOR, LATENTS = "actor", "latents"
"""Names of what is stored."""

LATENT = "latent"
"""Name of the latents in the memory."""


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


class LADTSPolicy(TrainedPolicy):
    """Latent-action diffusion scheduling, or what one of its learned baselines does instead.

    The chain's noise is part of the policy, so it is drawn whether or not the policy explores; without exploration
    the most likely action of the resulting distribution is taken.

    Args:
        actor: The deciding network.
        latents: Trained latent memory to begin with, ``[T, B, N, B]`` for slot or ``[B, N, B]`` for task memory;
            Gaussian if None.
        seed: Seed of latents, chain noise and sampling.
    """

    method: ClassVar[str] = "ladts"
    roles = frozenset({ROUTER})

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

    @classmethod
    def restore(cls, stored: StoredPolicy, scenario: OffloadingScenario, seed: int = 0) -> LADTSPolicy:
        """Rebuild a stored policy for a scenario.

        Raises:
            InputError: If it is damaged, or was trained for another number of servers and can not do with these.
        """
        spec = stored.spec(ActorSpec).for_servers(scenario)
        if spec.servers != scenario.servers:
            trained = stored.manifest.get("scenario", {}).get("name", "?")
            raise InputError(
                f"The policy in '{stored.folder}' was trained for {spec.servers} servers (scenario '{trained}'), but "
                f"scenario '{scenario.name}' has {scenario.servers}; choose a scenario with {spec.servers} servers or "
                "train anew."
            )
        actor = make_actor(spec)
        stored.fill({ACTOR: actor})
        return cls(actor, stored.tensors.get(LATENTS), seed)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The deciding network."""
        return {ACTOR: self.actor}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The trained latent memory, if there is one."""
        return {} if self.latents is None else {LATENTS: self.latents}

    def begin(self, role: str, view: RouterView) -> Memory:
        """Return ``latent [E, ...]``: the trained latents for every copy, or N(0, 1) (LAD-TS spec §4.3)."""
        copies = view.backlog_gcycles.shape[0]
        started = empty_memory(view) if self.spec.network == "set" else {}
        return {**started, **self._initial_latents(view, copies)}

    def _initial_latents(self, view: RouterView, copies: int) -> Memory:
        if self.spec.memory in ("gaussian", "none"):
            return {}
        if self.latents is not None:
            return {LATENT: self.latents.to(view.backlog_gcycles).repeat(copies, *[1] * self.latents.dim())}
        shape: tuple[int, ...] = (self.spec.servers, self.spec.tasks, self.spec.servers)
        if self.spec.memory == "slot":
            shape = (self.spec.slots, *shape)
        return {LATENT: torch.randn((copies, *shape), generator=self.generator).to(view.backlog_gcycles)}

    def read(self, memory: Memory, slot: int, index: Tensor, copies: int) -> Tensor:
        """Latents of the tasks with the given indices in a slot, ``[E, B, n, latent_size]`` (a copy).

        Slots and indices beyond those trained on wrap around.
        """
        if self.spec.memory in ("gaussian", "none"):
            shape = (copies, self.spec.servers, index.numel(), self.spec.latent_size)
            return torch.randn(shape, generator=self.generator).to(index.device)
        table = memory[LATENT]
        if self.spec.memory == "slot":
            table = table[:, slot % self.spec.slots]
        return table[:, :, index % self.spec.tasks]

    def write(self, memory: Memory, slot: int, index: Tensor, present: Tensor, probability: Tensor) -> None:
        """Store the probabilities of the tasks that were present; cells of absent tasks keep their value.

        In place: a slot memory is large, and no caller keeps an old one.
        """
        if self.spec.memory in ("gaussian", "none"):
            return
        table = memory[LATENT]
        if self.spec.memory == "slot":
            table = table[:, slot % self.spec.slots]
        for start in range(0, index.numel(), self.spec.tasks):  # one pass unless indices wrap around
            part = slice(start, start + self.spec.tasks)
            cell = index[part] % self.spec.tasks
            table[:, :, cell] = torch.where(present[:, :, part, None], probability[:, :, part], table[:, :, cell])

    @torch.no_grad()
    def place(self, view: RouterView, memory: Memory, explore: bool = True) -> Decision:
        """Place the tasks of a slot and update the latents in ``memory`` in place."""
        tasks = view.tasks
        copies, servers, width = tasks.present.shape
        if self.spec.network == "set":
            return self._decide_set(view, memory, explore)
        own = view.backlog_gcycles.new_zeros(copies, servers, servers)
        if self.spec.in_slot_load == "none":
            return self._decide(view, memory, explore, slice(0, width), own)
        parts = []
        for n in range(width):  # each placement is part of the next task's state
            part = self._decide(view, memory, explore, slice(n, n + 1), own)
            work = (tasks.workload_gcycles * tasks.present)[..., n : n + 1]
            own = own.scatter_add(-1, part.action, work)
            parts.append(part)
        return Decision(*(torch.cat([getattr(p, f) for p in parts], 2) for f in Decision.__dataclass_fields__))

    def _decide(self, view: RouterView, memory: Memory, explore: bool, part: slice, own: Tensor) -> Decision:
        tasks, spec = view.tasks, self.spec
        size, work, present = (t[:, :, part] for t in (tasks.size_mbit, tasks.workload_gcycles, tasks.present))
        index = torch.arange(part.start, part.stop, device=size.device)
        state = spec.state(view, size, work, own)
        return self._choose(view, memory, explore, state, index, present)

    def _choose(
        self, view: RouterView, memory: Memory, explore: bool, state: Tensor, index: Tensor, present: Tensor
    ) -> Decision:
        """Decide on tasks whose states ``[E, B, n, D]`` are known, and remember the probabilities."""
        spec, slot = self.spec, view.slot
        copies, _, width = present.shape
        latent = self.read(memory, slot, index, copies)
        grouped = spec.grouped(state)
        noise = self.actor.chain_noise(grouped.shape[1], self.generator)
        available = view.available
        if available is not None:
            available = spec.grouped(available[:, None, None].expand(*present.shape, -1))
        probability = spec.ungrouped(self.actor(grouped, spec.grouped(latent), noise, available), copies, width)
        self.write(memory, slot, index, present, probability)
        if explore:
            action = sample_shares(probability, self.random((*present.shape, 1), state))[..., 0]
        else:
            action = probability.argmax(-1)
        return Decision(state, latent, probability, action)

    def _decide_set(self, view: RouterView, memory: Memory, explore: bool) -> Decision:
        tasks, spec, slot = view.tasks, self.spec, view.slot
        copies, servers, width = tasks.present.shape
        begin_slot(memory, slot)
        arriving = servers * sum(spec.work_profile_gcycles)
        waiting = catch_up(view, before(memory, slot, arriving), spec.slot_s)
        seen = SlotView(spec, view, waiting, recent_arrivals(memory))
        like = view.backlog_gcycles
        shape = (copies, servers, width)
        decision = Decision(
            like.new_zeros(*shape, spec.state_size),
            like.new_zeros(*shape, spec.latent_size),
            like.new_full((*shape, servers), 1 / servers),
            torch.zeros(shape, dtype=torch.long, device=like.device),
        )
        for n in tasks.present.any(0).any(0).nonzero()[:, 0].tolist():  # each placement changes what follows
            task, index = tasks.at_index(n), torch.tensor([n], device=like.device)
            one = self._choose(view, memory, explore, seen.state(task), index, task.present[..., None])
            seen.place(task, one.action[:, :, 0], one.probability[:, :, 0])
            for field in Decision.__dataclass_fields__:
                getattr(decision, field)[:, :, n : n + 1] = getattr(one, field)
        remember(memory, slot, seen.expected_gcycles, (tasks.workload_gcycles * tasks.present).sum(-1))
        return decision

    def decide(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> Decided:
        """See :meth:`TrainedPolicy.decide`; ``memory`` is updated in place."""
        decision = self.place(view, memory, explore)
        return Decided(decision.action, decision, memory)

    def kept(self, memory: Memory) -> Memory:
        """The first copy's latent memory; nothing if the policy has none or fits other servers too."""
        if self.spec.network == "set" or LATENT not in memory:
            return {}
        return {LATENT: memory[LATENT][0].clone()}

    def take(self, kept: Memory) -> None:
        """Begin from given latents in every copy."""
        self.latents = kept.get(LATENT)
