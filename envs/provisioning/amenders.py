# SPDX-License-Identifier: Apache-2.0
"""Amenders: what turns any decision into one that fits the storage, the bandwidth and the computing budget.

An amender changes as little as it can, and nothing that fits already. "Actor output in [−1, 1], then an action amender"
is the design of arXiv 2507.20524; the rules in it are our choice unless marked otherwise. All work on any number of
leading axes, without a loop over copies, users or models.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.provisioning.parts import AllocationRule

_STORAGE_SLACK = 1 + 1e-9  # sizes that add up to the storage in decimals must fit in binary too
_SHARE_SLACK = 1 + 1e-6  # shares that add up to one in real numbers must count as one in single precision
_STEP_SLACK = 1e-3  # a step that a share means exactly must not be lost to rounding


class CachingAmender(Protocol):
    """Makes a caching decision fit; see :func:`drop_to_fit`."""

    def __call__(self, wanted: Tensor, size_gb: Tensor, storage_gb: Tensor, popularity: Tensor) -> Tensor:
        """Return what is cached ``[..., M]``, bool."""


def drop_to_fit(wanted: Tensor, size_gb: Tensor, storage_gb: Tensor, popularity: Tensor) -> Tensor:
    """Un-cache the model of the least popularity per GB, ties the highest number, until the rest fits.

    A decision that fits is returned unchanged; a model larger than the storage may cost all less popular ones.

    Args:
        wanted: Models wanted in the cache ``[..., M]``, bool.
        size_gb: Their sizes, broadcasting, GB.
        storage_gb: Storage, broadcasting with ``[..., 1]``, GB.
        popularity: Popularity ``[..., M]``, any non-negative scale.

    Returns:
        What is cached ``[..., M]``, bool; ``Σ size ≤ storage``.
    """
    size_gb = size_gb.expand(wanted.shape)
    # Dropping the worst one by one leaves the longest run of the best that fits. What is not wanted takes no room.
    order = torch.argsort(popularity / size_gb, dim=-1, descending=True, stable=True)
    taken = torch.where(wanted, size_gb, torch.zeros_like(size_gb)).gather(-1, order).cumsum(-1)
    fits = torch.empty_like(wanted).scatter_(-1, order, taken <= storage_gb * _STORAGE_SLACK)
    return wanted & fits


def keep_all(wanted: Tensor, size_gb: Tensor, storage_gb: Tensor, popularity: Tensor) -> Tensor:
    """Cache what is wanted even if it does not fit: it counts as cached, and the overflow is only charged.

    So does the public code of Q. Liu et al. (IEEE TVT 73(6), 2024). Arguments as for :func:`drop_to_fit`.
    """
    del size_gb, storage_gb, popularity
    return wanted


CACHING_AMENDERS: dict[str, CachingAmender] = {"drop": drop_to_fit, "penalty": keep_all}
"""Caching amenders by the name a scenario gives them."""


def make_caching_amender(name: str) -> CachingAmender:
    """Return a caching amender by name.

    Raises:
        InputError: If there is no such amender.
    """
    if name not in CACHING_AMENDERS:
        known = ", ".join(CACHING_AMENDERS)
        raise InputError(f"Unknown caching amender '{name}'; there are {known}.{did_you_mean(name, CACHING_AMENDERS)}")
    return CACHING_AMENDERS[name]


def storage_overflow_gb(cached: Tensor, size_gb: Tensor, storage_gb: Tensor) -> Tensor:
    """Storage a decision takes beyond what there is ``[...]``, GB; shapes as for :func:`drop_to_fit`."""
    used = torch.where(cached, size_gb, torch.zeros_like(size_gb)).sum(-1)
    limit = storage_gb.squeeze(-1)
    return torch.where(used > limit * _STORAGE_SLACK, used - limit, torch.zeros_like(used))


def fill_storage(priority: Tensor, size_gb: Tensor, storage_gb: Tensor) -> Tensor:
    """Cache models in the order of their priority, ties the lowest number first, each if it still fits.

    Args:
        priority: Priority ``[..., M]``, highest first.
        size_gb: Sizes, broadcasting, GB.
        storage_gb: Storage, broadcasting with ``[..., 1]``, GB.

    Returns:
        What is cached ``[..., M]``, bool.
    """
    order = torch.argsort(priority, dim=-1, descending=True, stable=True)
    size_gb = size_gb.expand(priority.shape).gather(-1, order)
    free = (storage_gb * _STORAGE_SLACK).expand(*priority.shape[:-1], 1).squeeze(-1).clone()
    taken = torch.empty_like(order, dtype=torch.bool)
    for place in range(order.shape[-1]):  # each choice depends on those before; all copies and cells side by side
        fits = size_gb[..., place] <= free
        free -= size_gb[..., place] * fits
        taken[..., place] = fits
    return torch.empty_like(taken).scatter_(-1, order, taken)


def shares_from_raw(
    rule: AllocationRule, raw_bandwidth: Tensor, raw_compute: Tensor, hit: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn an agent's raw action into shares.

    Entries are mapped to [0, 1]; bandwidth entries of zero are lifted; computing of misses is set to zero; then both
    are divided by their sums over the users (``shares: normalise``), or only if the sum exceeds one (``scale``).
    Shares that add up to one pass ``normalise`` unchanged, and any that add up to at most one pass ``scale``.

    Args:
        rule: Which map and which division.
        raw_bandwidth: Raw action ``[..., N]`` in [−1, 1]; beyond it the ends hold.
        raw_compute: Likewise.
        hit: Whether the requested model is cached ``[..., N]``.

    Returns:
        Shares of bandwidth and of computing ``[..., N]``; without any hit the latter are zero.
    """
    bandwidth, compute = (amount_from_raw(rule, raw) for raw in (raw_bandwidth, raw_compute))
    # Not below the lift, instead of exactly zero: the result stays a continuous function of the action.
    bandwidth = bandwidth.clamp_min(rule.bandwidth_lift)
    compute = compute * hit
    bandwidth_sum, compute_sum = (values.sum(-1, keepdim=True) for values in (bandwidth, compute))
    if rule.shares == "scale":
        bandwidth_sum, compute_sum = (_at_least_one(values) for values in (bandwidth_sum, compute_sum))
    tiny = torch.finfo(compute.dtype).tiny
    return bandwidth / bandwidth_sum.clamp_min(tiny), compute / compute_sum.clamp_min(tiny)


def raw_from_shares(rule: AllocationRule, shares: Tensor) -> Tensor:
    """Return a raw action that means these shares in [0, 1]; the inverse of the map, up to rounding."""
    return shares * 2 - 1 if rule.map == "affine" else shares


def amount_from_raw(rule: AllocationRule, raw: Tensor) -> Tensor:
    """Return what raw entries ask for, in [0, 1], before anybody else is looked at."""
    return ((raw + 1) / 2 if rule.map == "affine" else raw.abs()).clamp(0, 1)


def _at_least_one(total: Tensor) -> Tensor:
    return torch.where(total > _SHARE_SLACK, total, torch.ones_like(total))


def fit_bandwidth(share: Tensor, least: float) -> Tensor:
    """Make bandwidth shares feasible: each at least ``least``, together at most one.

    Shares that are feasible pass unchanged. Others are lifted to ``least`` where they are below, and if the sum is too
    large, what everybody has above it shrinks by a common factor.

    Args:
        share: Shares ``[..., N]``.
        least: Least share of a user, at most 1/N.
    """
    above = (share - least).clamp_min(0)
    room = 1 - least * share.shape[-1]
    total = above.sum(-1, keepdim=True)
    crowded = total > room + (_SHARE_SLACK - 1)
    shrunk = least + above * (room / total.clamp_min(torch.finfo(share.dtype).tiny))
    return torch.where(crowded, shrunk, share.clamp_min(least))


def fit_compute(share: Tensor, hit: Tensor) -> Tensor:
    """Make computing shares feasible: nothing for misses, together at most one.

    Shares that are feasible pass unchanged; a sum that is too large is divided by.

    Args:
        share: Shares ``[..., N]``; negative ones count as zero.
        hit: Whether the requested model is cached ``[..., N]``.
    """
    share = share.clamp_min(0) * hit
    return share / _at_least_one(share.sum(-1, keepdim=True))


def steps_from_share(share: Tensor, budget: Tensor, saturation_steps: Tensor) -> Tensor:
    """Whole steps of a computing share, ⌊ξ X⌋, and no more than improve the picture.

    Args:
        share: Feasible shares ξ ``[..., N]``.
        budget: Steps per slot X, broadcasting.
        saturation_steps: Fewest steps of the best quality ⌈A3⌉, broadcasting.
    """
    # The slack is far below one step for all users together, so the sum stays within the budget.
    slack = min(_STEP_SLACK, 0.5 / share.shape[-1])
    return torch.minimum((share * budget + slack).floor(), saturation_steps)
