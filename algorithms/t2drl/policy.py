"""The two agents of T2DRL as a :class:`Policy`: the same object rolls out in training and is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import Decided, StoredPolicy, TrainedPolicy
from edgegen.algorithms.rules.best_cache import relative_size
from edgegen.algorithms.rules.caching import shares
from edgegen.algorithms.t2drl.allocator import AllocationActor
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.algorithms.t2drl.state import FrameState, SlotState, as_users
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.provisioning.amenders import amount_from_raw, fill_storage, raw_from_shares, shares_from_raw
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER, AllocatorView, CacherView

_BANDWIDTH_NOISE = 0.2
"""Standard deviation of the logarithm of bandwidth where only some users are served."""

ACTOR = "actor"
"""Name under which the allocating network is stored; the caching one has that of its role."""

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class CachingDecision:
    """What is to be cached in a frame, with all that a transition needs.

    Attributes:
        state: ``[E, C, D]``.
        cache: Models wanted in the cache ``[E, C, M]``, bool.
    """

    state: Tensor
    cache: Tensor


@dataclass(frozen=True)
class AllocationDecision:
    """How a slot is divided, with all that a transition needs.

    Attributes:
        state: ``[E, C, D]``.
        action: Raw action ``[E, C, 2N]``, users in the order of the state.
        order: That order ``[E, C, N]``; None if it is the users' own.
        bandwidth: Shares ``[E, C, N]`` in the users' own order.
        compute: Likewise.
    """

    state: Tensor
    action: Tensor
    order: Tensor | None
    bandwidth: Tensor
    compute: Tensor


class T2DRLPolicy(TrainedPolicy):
    """Caching by the values of a DDQN, allocation by a diffusion actor.

    The chain's noise is part of the policy, so it is drawn whether or not the policy explores.

    Args:
        actor: The allocating network.
        cacher: The caching network.
        scenario: The world it was trained in, whose scales the states have.
        seed: Seed of chain noise and exploration.

    Attributes:
        epsilon: Share of random caches while exploring; 0 outside training.
        noise: Standard deviation of the noise on raw computing, and on the logarithm of bandwidth, while exploring; 0
            outside training.
        serve_some: Share of slots in which only some random users get computing while exploring; 0 outside training.
    """

    method: ClassVar[str] = "t2drl"
    name = "t2drl"
    roles = frozenset({CACHER, ALLOCATOR})

    def __init__(
        self, actor: AllocationActor, cacher: CachingNetwork, scenario: ProvisioningScenario, seed: int = 0
    ) -> None:
        self.actor = actor
        self.cacher = cacher
        self.spec: T2DRLSpec = actor.spec
        self.information = self.spec.settings.state.information
        self.scenario = scenario
        self.frame_state = FrameState(scenario, self.spec.settings.state)
        self.slot_state = SlotState(scenario, self.spec.settings.state)
        self.epsilon = 0.0
        self.noise = 0.0
        self.serve_some = 0.0
        super().__init__(seed)

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
        actor, cacher = AllocationActor(spec), CachingNetwork(spec)
        stored.fill({ACTOR: actor, CACHER: cacher})
        return cls(actor, cacher, build_scenario(trained_in, ProvisioningScenario), seed)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The deciding networks."""
        return {ACTOR: self.actor, CACHER: self.cacher}

    @torch.no_grad()
    def decide_cache(self, view: CacherView, explore: bool = True) -> CachingDecision:
        """Choose what to cache: the best by value, or with probability ε a random one."""
        spec = self.spec
        state, size = self.frame_state(view), relative_size(view)
        values = self.cacher(spec.grouped(state))
        cache = spec.ungrouped(self.cacher.best(values, spec.grouped(size)))
        if explore and self.epsilon > 0:
            if self.cacher.subsets:
                # Every cache is as likely as any other, those that do not fit too.
                other = self.random(tuple(cache.shape), state) < 0.5
            else:
                priority = self._random_priority(view, state)
                other = fill_storage(priority, view.size_gb, view.storage_gb[..., None])
            at_random = self.random(tuple(cache.shape[:-1]), state) < self.epsilon
            cache = torch.where(at_random[..., None], other, cache)
        return CachingDecision(state, cache)

    @torch.no_grad()
    def decide_allocation(self, view: AllocatorView, explore: bool = True) -> AllocationDecision:
        """Divide a slot."""
        spec = self.spec
        order = self.slot_state.order(view)
        state = self.slot_state(view, order)
        grouped = spec.grouped(state)
        raw = self.actor(grouped, self.actor.draw_noise(grouped.shape[1], self.generator))
        if explore and self.noise > 0:
            bandwidth, compute = raw.split(spec.users, -1)
            disturbance = torch.randn(tuple(compute.shape), generator=self.generator).to(compute)
            compute = (compute + self.noise * disturbance).clamp(-1, 1)
            raw = torch.cat([self._disturbed(bandwidth, self.noise), compute], -1)
        if explore and self.serve_some > 0:
            raw = self._serve_some(raw)
        action = spec.ungrouped(raw)
        hit = view.hit if order is None else view.hit.gather(-1, order)
        users = spec.users
        shares = shares_from_raw(spec.allocation, action[..., :users], action[..., users:], hit)
        bandwidth, compute = (as_users(share, order) for share in shares)
        return AllocationDecision(state, action, order, bandwidth, compute)

    def _random_priority(self, view: CacherView, state: Tensor) -> Tensor:
        """An order in which models are cached at random ``[E, C, M]``."""
        uniform = self.random(tuple(view.popularity.shape), state)
        if self.spec.settings.random_caches == "uniform":
            return uniform
        # Noise of Gumbel's kind on log-popularity: in full, models are drawn one after the other by their popularity.
        strength = self.random((*uniform.shape[:-1], 1), state)
        return view.static_popularity.log() - strength * (-uniform.clamp_min(_TINY).log()).log()

    def _serve_some(self, raw: Tensor) -> Tensor:
        """In some slots give no computing to all but a random number of random users, and disturb the bandwidth.

        Half of these slots leave the computing of those who are served as it is, half draw it at random.
        """
        users, rule = self.spec.users, self.spec.allocation
        shape = (*raw.shape[:-1], users)
        chosen, share, kept = (self.random((*shape[:-1], 1), raw) for _ in range(3))
        rank = self.random(shape, raw).argsort(-1)
        bandwidth, compute = raw[..., :users], raw[..., users:]
        compute = torch.where(kept < 0.5, compute, self.random(shape, raw) * 2 - 1)
        nothing = raw_from_shares(rule, torch.zeros_like(compute))
        compute = torch.where(rank < share * users, compute, nothing)
        changed = torch.cat([self._disturbed(bandwidth, _BANDWIDTH_NOISE), compute], -1)
        return torch.where(chosen < self.serve_some, changed, raw)

    def _disturbed(self, bandwidth: Tensor, deviation: float) -> Tensor:
        """Disturb raw bandwidth ``[..., N]`` by factors whose logarithms have this standard deviation.

        Not by sums: an actor may ask for little of everything, from which a sum could take all that somebody has.
        """
        rule = self.spec.allocation
        factor = (deviation * torch.randn(tuple(bandwidth.shape), generator=self.generator).to(bandwidth)).exp()
        return raw_from_shares(rule, (amount_from_raw(rule, bandwidth) * factor).clamp(0, 1))

    def decide(self, role: str, view: Any, memory: Memory, explore: bool = True) -> Decided:
        """See :meth:`TrainedPolicy.decide`."""
        if role == CACHER:
            caching = self.decide_cache(view, explore)
            return Decided(caching.cache, caching, memory)
        allocation = self.decide_allocation(view, explore)
        return Decided(shares(allocation.bandwidth, allocation.compute), allocation, memory)
