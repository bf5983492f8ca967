# SPDX-License-Identifier: Apache-2.0
"""The cache that fits with the highest sum of values, and caches as numbers."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from edgegen.envs.provisioning.amenders import fill_storage
from edgegen.envs.provisioning.view import CacherView

ENUMERATED = 12
"""Up to this many models the best cache is found among all 2^M, beyond it greedily by value per size."""

_FULL = 1 + 1e-6  # sizes relative to the storage are single precision here


def best_fitting(values: Tensor, relative_size: Tensor) -> Tensor:
    """The cache that fits with the highest sum of values: exact for few models, greedy by value per size for many.

    Args:
        values: Value of each model ``[..., M]``.
        relative_size: Size of each model over the storage ``[..., M]``.
    """
    models = values.shape[-1]
    if models > ENUMERATED:
        useful = values > 0
        # What is of no use must not take room from what is: it is ranked last and removed.
        priority = torch.where(useful, values / relative_size, torch.full_like(values, -torch.inf))
        return fill_storage(priority, relative_size, torch.full_like(values[..., :1], _FULL)) & useful
    caches = all_caches(models, values.device).to(values.dtype)
    fits = relative_size @ caches.T <= _FULL
    total = (values @ caches.T).masked_fill(~fits, -torch.inf)
    return cache_bits(total.argmax(-1), models)


def relative_size(observation: CacherView) -> Tensor:
    """Sizes of the models over the storage ``[E, C, M]``."""
    return (observation.size_gb / observation.storage_gb[..., None]).to(observation.frequency.dtype)


@functools.lru_cache(maxsize=8)
def all_caches(models: int, device: torch.device) -> Tensor:
    """Every cache ``[2^M, M]``, bool, row a being the cache with number a."""
    return cache_bits(torch.arange(2**models, device=device), models)


def cache_bits(number: Tensor, models: int) -> Tensor:
    """Caches ``[..., M]``, bool, from their numbers ``[...]``: model m is bit m."""
    return (number[..., None] >> torch.arange(models, device=number.device)) & 1 == 1


def cache_number(cache: Tensor) -> Tensor:
    """Numbers ``[...]``, int64, of caches ``[..., M]``."""
    return (cache.long() << torch.arange(cache.shape[-1], device=cache.device)).sum(-1)
