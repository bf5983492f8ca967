# SPDX-License-Identifier: Apache-2.0
"""Every knob of the fleet's joint learner, and the presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.envs.core.fields import Batch, Copies, Count, Frozen, Positive, Share, StepSize, Updates, Whole, Width

Learned = Literal["router", "allocator", "cacher"]


class FleetSettings(Frozen):
    """Settings of the joint learner.

    Training begins at the rule ``price-greedy``: chains with zero output add nothing to it. First every marked decision
    is tried in all its ways, in forks of the world that meet the same requests; then, if ``evolve_after`` says so, an
    evolution strategy polishes all weights together.

    Attributes:
        learn: Roles that are learned; the rule decides for the others.
        prices: Constants of the rule; tuned if not given.
        tune_trials: Sets of constants that tuning tries.
        tune_episodes: Training episodes that each plays, others in each generation of the search.
        hidden: Width of the chains.
        denoising_steps: Steps of the chains.
        copies: Episodes that are played at a time.
        labels: Share of the requests whose router's decision is tried in all ways.
        share_labels: Share of the requests whose steps are tried in five ways.
        cache_labels: Share of (site, frame) whose models are each tried kept and not kept.
        horizon_s: How long forks of a request go on, s, or in the scenario's ``unit_s``.
        cache_horizon_s: How long forks of a frame go on, likewise.
        temperature: Utility that makes a candidate e times as likely in the router's objective.
        cache_temperature: The same in scores of models, for the cacher's.
        learning_rate: Step size on labels.
        batch_size: Labels per update.
        updates_per_episode: Updates of each role per ``copies`` episodes, while there are labels.
        replay_capacity: Labels that are remembered of each role.
        tau: How fast the averaged weights, which are what is kept in the end, follow.
        evolve_after: Episodes after which the evolution strategy takes over, 0 to begin with it; never if not given.
        evolve_pairs: Perturbations of a generation, each played with its opposite.
        evolve_episodes: Episodes that each of them plays, of the ``copies`` that are drawn; pairs share them.
        evolve_sigma: Standard deviation of its perturbations.
        evolve_rate: Its step size at first.
        evolve_fade: Episodes, from the first one of the evolution, over which the step size falls to nothing along half
            a cosine; it does not fall if not given.
    """

    learn: Annotated[tuple[Learned, ...], Field(min_length=1)] = ("router", "allocator", "cacher")
    prices: Prices | None = None
    tune_trials: Annotated[Count, Field(le=100_000)] = 720
    tune_episodes: Annotated[Count, Field(le=1000)] = 32
    hidden: Width = 8
    denoising_steps: Annotated[Count, Field(le=20)] = 2
    copies: Copies = 64
    labels: Share = 0.1
    share_labels: Share = 0.03
    cache_labels: Share = 0.2
    horizon_s: Positive = 12.0
    cache_horizon_s: Positive = 45.0
    temperature: Positive = 0.3
    cache_temperature: Positive = 0.3
    learning_rate: StepSize = 0.01
    batch_size: Batch = 512
    updates_per_episode: Updates = 200.0
    replay_capacity: Annotated[Count, Field(le=10_000_000)] = 16_384
    tau: Share = 0.05
    evolve_after: Whole | None = None
    evolve_pairs: Annotated[Count, Field(le=4096)] = 24
    evolve_episodes: Annotated[Count, Field(le=4096)] = 4
    evolve_sigma: Positive = 0.15
    evolve_rate: StepSize = 0.15
    evolve_fade: Count | None = None


_EVOLUTION: dict[str, Any] = {"copies": 24, "hidden": 16, "evolve_fade": 2400}
PRESETS: dict[str, dict[str, Any]] = {
    "joint": {},
    "router": {"learn": ("router",)},
    "allocator": {"learn": ("allocator",)},
    "cacher": {"learn": ("cacher",)},
    "evolution": {**_EVOLUTION, "evolve_after": 0},
    "forks-es": {**_EVOLUTION, "evolve_after": 96},
}
"""What each preset changes from the defaults: roles that learn from forks; all by evolution; forks, then evolution."""
