# SPDX-License-Identifier: Apache-2.0
"""What servers of the provisioning world see: a frame before models are cached for it, a slot before it is divided."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torch import Tensor

from edgegen.envs.core.world import View
from edgegen.envs.provisioning.curves import CurveTensors

CACHER, ALLOCATOR = "cacher", "allocator"
"""The roles of every cell's server: to choose what it keeps, and to divide uplink and steps among its users."""


@dataclass(frozen=True)
class CacherView(View):
    """What can be known when models are cached for a frame. All leading axes are the E copies.

    A policy must use only what its description says it may.

    Attributes:
        frame: Number of the frame.
        skewness_state: State of the skewness chain ``[E, C]``, int64.
        previous_cache: What was cached in the frame before ``[E, C, M]``, bool; nothing in the first.
        frequency: Share of each model in the requests of the frame before ``[E, C, M]``; 0 in the first.
        history: The same for all frames so far ``[E, frame, C, M]``, oldest first; empty in the first.
        static_popularity: What is known of the models' popularity beforehand ``[E, C, M]``, sums to 1.
        popularity: True probability of a request for each model in this frame ``[E, C, M]``; no real server knows it.
        size_gb: Storage each model takes ``[E, C, M]``, GB, float64.
        storage_gb: Storage of each server ``[E, C]``, GB, float64.
        curves: Quality and generation time of each model ``[E, M]``.
    """

    frame: int
    skewness_state: Tensor
    previous_cache: Tensor
    frequency: Tensor
    history: Tensor = field(metadata={"open_axes": (1,)})
    static_popularity: Tensor
    popularity: Tensor = field(metadata={"unknowable_like": "static_popularity"})
    size_gb: Tensor
    storage_gb: Tensor
    curves: CurveTensors


@dataclass(frozen=True)
class AllocatorView(View):
    """What can be known when bandwidth and computing are divided in a slot. All leading axes are the E copies.

    Attributes:
        frame: Number of the frame.
        slot: Number of the slot in its frame.
        model: Model each user asks for ``[E, C, N]``, int64.
        hit: Whether it is cached ``[E, C, N]``, bool.
        cache: What is cached in this frame ``[E, C, M]``, bool.
        upload_mbit: Data each user sends up ``[E, C, N]``, Mbit.
        result_mbit: Data each user gets back ``[E, C, N]``, Mbit.
        gain: Power gain between each user and the base station ``[E, C, N]``, a plain ratio.
        steps_budget: Steps each server can make in the slot ``[E, C]``.
        curves: Quality and generation time of the model each user asks for ``[E, C, N]``.
    """

    frame: int
    slot: int
    model: Tensor
    hit: Tensor
    cache: Tensor
    upload_mbit: Tensor
    result_mbit: Tensor
    gain: Tensor
    steps_budget: Tensor
    curves: CurveTensors

    def with_cache(self, cache: Tensor) -> AllocatorView:
        """Return the same slot with something else cached ``[..., E, C, M]``; leading axes are for alternatives."""
        model = self.model.expand(*cache.shape[:-1], self.model.shape[-1])
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return AllocatorView(**{**values, "cache": cache, "hit": cache.gather(-1, model)})
