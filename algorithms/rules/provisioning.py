"""Simple rules for caching and allocation: what every learned provisioning policy is compared with.

A rule joins one way to cache with one way to divide the computing; the uplink is divided equally. All definitions are
our choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.provisioning.amenders import fill_storage
from edgegen.envs.provisioning.view import AllocatorView, CacherView


def equal_bandwidth(observation: AllocatorView) -> Tensor:
    """Equal shares of the uplink for all users ``[E, C, N]``."""
    return torch.full_like(observation.gain, 1 / observation.gain.shape[-1])


def equal_compute(observation: AllocatorView) -> Tensor:
    """Equal shares of the steps for all hits ``[E, C, N]``, nothing for misses."""
    hit = observation.hit.to(observation.gain.dtype)
    return hit / hit.sum(-1, keepdim=True).clamp_min(1)


def first_come_compute(observation: AllocatorView) -> Tensor:
    """As many steps as improve the picture for each hit in the order of the users, until none are left ``[E, C, N]``.

    The last one served may get fewer.
    """
    wanted = observation.curves.saturation_steps * observation.hit
    before = wanted.cumsum(-1) - wanted
    budget = observation.steps_budget[..., None]
    return (budget - before).clamp_min(0).minimum(wanted) / budget


def cache_by(priority: Tensor, observation: CacherView) -> Tensor:
    """Cache models in the order of a priority ``[E, C, M]``, highest first, each if it still fits; bool."""
    return fill_storage(priority, observation.size_gb, observation.storage_gb[..., None])


class NeverCache(ProvisioningPolicy):
    """Nothing is cached, the cloud serves every request."""

    name = "never-cache"
    information = "nothing"

    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.cache`."""
        return torch.zeros_like(observation.previous_cache), memory

    def allocate(
        self, observation: AllocatorView, memory: Memory, explore: bool = True
    ) -> tuple[Tensor, Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.allocate`."""
        return equal_bandwidth(observation), equal_compute(observation), memory


class RCARS(NeverCache):
    """Random caching, average resource allocation: a random order of models each frame, cached while they fit."""

    name = "rcars"
    information = "model sizes"

    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.cache`."""
        shape = tuple(observation.popularity.shape)
        return cache_by(self.random(shape, observation.popularity), observation), memory


class StaticPopular(NeverCache):
    """The models that are most popular beforehand, always the same, and equal shares of the steps for hits."""

    name = "popular-static"
    information = "model sizes, popularity before the episode"

    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.cache`."""
        return cache_by(observation.static_popularity, observation), memory


class RecentPopular(NeverCache):
    """The models most asked for in the frame before, and equal shares; what was known beforehand breaks ties."""

    name = "popular-recent"
    information = "model sizes, requests of the frame before, popularity before the episode"

    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.cache`."""
        # Far below the smallest difference between two frequencies, so that it decides nothing but ties.
        tie_break = observation.static_popularity.double() * 1e-9
        return cache_by(observation.frequency.double() + tie_break, observation), memory


class CurrentPopular(NeverCache):
    """The models that are most popular in this very frame, which no real server knows, and equal shares."""

    name = "popular-current"
    information = "model sizes, true popularity in the frame"

    def cache(self, observation: CacherView, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.cache`."""
        return cache_by(observation.popularity, observation), memory


class FirstComeFull(StaticPopular):
    """Static popular models; hits get all the steps they can use in the order of the users, until none are left."""

    name = "popular-first-come"

    def allocate(
        self, observation: AllocatorView, memory: Memory, explore: bool = True
    ) -> tuple[Tensor, Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.allocate`."""
        return equal_bandwidth(observation), first_come_compute(observation), memory


class RandomShares(StaticPopular):
    """Static popular models; random shares of the steps for hits."""

    name = "popular-random"

    def allocate(
        self, observation: AllocatorView, memory: Memory, explore: bool = True
    ) -> tuple[Tensor, Tensor, Memory]:
        """See :meth:`ProvisioningPolicy.allocate`."""
        weight = self.random(tuple(observation.gain.shape), observation.gain) * observation.hit
        compute = weight / weight.sum(-1, keepdim=True).clamp_min(1e-6)
        return equal_bandwidth(observation), compute, memory


PROVISIONING_RULES: dict[str, type[ProvisioningPolicy]] = {
    rule.name: rule
    for rule in (NeverCache, RCARS, StaticPopular, RecentPopular, CurrentPopular, FirstComeFull, RandomShares)
}
"""Rules by name."""


def make_provisioning_rule(name: str, seed: int = 0) -> ProvisioningPolicy:
    """Make a rule by name.

    Raises:
        InputError: If there is no such rule.
    """
    if name not in PROVISIONING_RULES:
        known = ", ".join(PROVISIONING_RULES)
        raise InputError(f"Unknown policy '{name}'; rules are {known}.{did_you_mean(name, PROVISIONING_RULES)}")
    return PROVISIONING_RULES[name](seed)
