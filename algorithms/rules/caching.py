# SPDX-License-Identifier: Apache-2.0
"""Simple rules for caching and allocation: what every learned provisioning policy is compared with.

A rule joins one way to cache with one way to divide the computing; the uplink is divided equally. All definitions are
our choice.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.provisioning.amenders import fill_storage
from edgegen.envs.provisioning.view import ALLOCATOR, CACHER, AllocatorView, CacherView


def equal_bandwidth(view: AllocatorView) -> Tensor:
    """Equal shares of the uplink for all users ``[E, C, N]``."""
    return torch.full_like(view.gain, 1 / view.gain.shape[-1])


def equal_compute(view: AllocatorView) -> Tensor:
    """Equal shares of the steps for all hits ``[E, C, N]``, nothing for misses."""
    hit = view.hit.to(view.gain.dtype)
    return hit / hit.sum(-1, keepdim=True).clamp_min(1)


def first_come_compute(view: AllocatorView) -> Tensor:
    """As many steps as improve the picture for each hit in the order of the users, until none are left ``[E, C, N]``.

    The last one served may get fewer.
    """
    wanted = view.curves.saturation_steps * view.hit
    before = wanted.cumsum(-1) - wanted
    budget = view.steps_budget[..., None]
    return (budget - before).clamp_min(0).minimum(wanted) / budget


def cache_by(priority: Tensor, view: CacherView) -> Tensor:
    """Cache models in the order of a priority ``[E, C, M]``, highest first, each if it still fits; bool."""
    return fill_storage(priority, view.size_gb, view.storage_gb[..., None])


def shares(bandwidth: Tensor, compute: Tensor) -> Tensor:
    """Join shares of uplink and steps ``[E, C, N]`` into an allocator's action ``[E, C, N, 2]``."""
    return torch.stack([bandwidth, compute], -1)


class ProvisioningRule(Policy):
    """A rule that caches one way and divides slots one way; each can be combined with others by role."""

    roles = frozenset({CACHER, ALLOCATOR})

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        return (self.cache(view, memory) if role == CACHER else self.allocate(view)), memory

    @abstractmethod
    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """Whether each model is wanted in each cell's cache ``[E, C, M]``, bool."""

    def allocate(self, view: AllocatorView) -> Tensor:
        """Shares of uplink and steps for each user ``[E, C, N, 2]``; equal ones unless a rule knows better."""
        return shares(equal_bandwidth(view), equal_compute(view))


class NeverCache(ProvisioningRule):
    """Nothing is cached, the cloud serves every request."""

    name = "never-cache"
    information = "nothing"

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        return torch.zeros_like(view.previous_cache)


class RCARS(ProvisioningRule):
    """Random caching, average resource allocation: a random order of models each frame, cached while they fit."""

    name = "rcars"
    information = "model sizes"

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        shape = tuple(view.popularity.shape)
        return cache_by(self.random(shape, view.popularity), view)


class StaticPopular(ProvisioningRule):
    """The models that are most popular beforehand, always the same, and equal shares of the steps for hits."""

    name = "popular-static"
    information = "model sizes, popularity before the episode"

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        return cache_by(view.static_popularity, view)


class RecentPopular(ProvisioningRule):
    """The models most asked for in the frame before, and equal shares; what was known beforehand breaks ties."""

    name = "popular-recent"
    information = "model sizes, requests of the frame before, popularity before the episode"

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        # Far below the smallest difference between two frequencies, so that it decides nothing but ties.
        tie_break = view.static_popularity.double() * 1e-9
        return cache_by(view.frequency.double() + tie_break, view)


class CurrentPopular(ProvisioningRule):
    """The models that are most popular in this very frame, which no real server knows, and equal shares."""

    name = "popular-current"
    information = "model sizes, true popularity in the frame"

    def cache(self, view: CacherView, memory: Memory) -> Tensor:
        """See :meth:`ProvisioningRule.cache`."""
        return cache_by(view.popularity, view)


class FirstComeFull(StaticPopular):
    """Static popular models; hits get all the steps they can use in the order of the users, until none are left."""

    name = "popular-first-come"

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        return shares(equal_bandwidth(view), first_come_compute(view))


class RandomShares(StaticPopular):
    """Static popular models; random shares of the steps for hits."""

    name = "popular-random"

    def allocate(self, view: AllocatorView) -> Tensor:
        """See :meth:`ProvisioningRule.allocate`."""
        weight = self.random(tuple(view.gain.shape), view.gain) * view.hit
        compute = weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)
        return shares(equal_bandwidth(view), compute)


PROVISIONING_RULES: dict[str, type[ProvisioningRule]] = {
    rule.name: rule
    for rule in (NeverCache, RCARS, StaticPopular, RecentPopular, CurrentPopular, FirstComeFull, RandomShares)
}
"""Rules by name."""


def make_provisioning_rule(name: str, seed: int = 0) -> ProvisioningRule:
    """Make a rule by name.

    Raises:
        InputError: If there is no such rule.
    """
    if name not in PROVISIONING_RULES:
        known = ", ".join(PROVISIONING_RULES)
        raise InputError(f"Unknown policy '{name}'; rules are {known}.{did_you_mean(name, PROVISIONING_RULES)}")
    return PROVISIONING_RULES[name](seed)
