# SPDX-License-Identifier: Apache-2.0
"""A routing network as a :class:`Policy`: the same object trains, is compared, schedules live."""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, sample_shares
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.roles.router.actor import Actor
from edgegen.algorithms.roles.router.latents import LATENT
from edgegen.algorithms.roles.router.router import Decision, Router
from edgegen.algorithms.roles.router.routers import router_of
from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER, RouterView

ACTOR, LATENTS = "actor", "latents"
"""Names of what is stored."""


class RouterPolicy(TrainedPolicy):
    """Routing by a network.

    The noise of a chain is part of the policy, so it is drawn whether or not the policy explores; without exploration
    the most likely action of the resulting distribution is taken.

    Args:
        actor: The deciding network.
        latents: Trained latent memory to begin with, ``[T, B, N, B]`` for slot or ``[B, N, B]`` for task memory;
            Gaussian if None.
        seed: Seed of latents, chain noise and sampling.
    """

    roles = frozenset({ROUTER})
    spec: RouterSpec

    def __init__(self, actor: Actor, latents: Tensor | None = None, seed: int = 0) -> None:
        self.actor = actor
        self.latents = latents
        self.route_by(router_of(actor.spec))
        self.name = self.router.name
        self.information = self.router.information
        super().__init__(seed)

    def route_by(self, router: Router) -> None:
        """Decide by this router from now on, with the same network."""
        self.router, self.spec = router, router.spec

    @classmethod
    def restore(cls, stored: StoredPolicy, scenario: OffloadingScenario, seed: int = 0) -> Self:
        """Rebuild a stored policy for a scenario.

        Raises:
            InputError: If it is damaged, or was trained for another number of servers and can not do with these.
        """
        router = router_of(stored.spec(RouterSpec)).for_servers(scenario)
        if (servers := router.spec.servers) != scenario.servers:
            trained = stored.manifest.get("scenario", {}).get("name", "?")
            raise InputError(
                f"The policy in '{stored.folder}' was trained for {servers} servers (scenario '{trained}'), but "
                f"scenario '{scenario.name}' has {scenario.servers}; choose a scenario with {servers} servers or "
                "train anew."
            )
        actor = router.actor()
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
        """Return what the router remembers, and ``latent [E, ...]`` where chains start from what was.

        See docs/spec/ladts.md §4.3.
        """
        latents = self.router.latents.begin(view.backlog_gcycles, self.latents, self.generator)
        return {**self.router.begin(view), **latents}

    def read(self, memory: Memory, slot: int, index: Tensor, copies: int) -> Tensor:
        """Latents of the tasks with the given indices in a slot, ``[E, B, n, latent size]`` (a copy)."""
        return self.router.latents.read(memory, slot, index, copies, self.generator)

    @torch.no_grad()
    def place(self, view: RouterView, memory: Memory, explore: bool = True) -> Decision:
        """Place the tasks of a slot and update ``memory`` in place."""
        return self.router.place(view, memory, partial(self._choose, view, memory, explore))

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
        self.router.latents.write(memory, slot, index, present, probability)
        if explore:
            action = sample_shares(probability, self.random((*present.shape, 1), state))[..., 0]
        else:
            action = probability.argmax(-1)
        return Decision(state, latent, probability, action)

    def decide(self, role: str, view: RouterView, memory: Memory, explore: bool = True) -> Decided:
        """See :meth:`TrainedPolicy.decide`; ``memory`` is updated in place."""
        decision = self.place(view, memory, explore)
        return Decided(decision.action, decision, memory)

    def kept(self, memory: Memory) -> Memory:
        """What of the memory belongs to the policy, by the router."""
        return self.router.kept(memory)

    def take(self, kept: Memory) -> None:
        """Begin from given latents in every copy."""
        self.latents = kept.get(LATENT)
