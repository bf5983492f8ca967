# SPDX-License-Identifier: Apache-2.0
"""Every knob of cachers, with its source."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from edgegen.algorithms.roles.cacher.networks import HEADS
from edgegen.algorithms.roles.settings import CellSettings
from edgegen.envs.core.fields import Batch, Count, Flag, Probability, Share, StepSize, Updates, Whole, Width


class CacherSettings(CellSettings):
    """Settings of cachers: a DDQN whose steps are whole frames. All numbers are our choice.

    Attributes:
        caching_head: ``subsets``: one value for each of the 2^M caches. ``per_model``: a value per model, those of
            the cached models add up; for M in the hundreds.
            ``per_request``: likewise, but a model's value is the share of requests that is expected for it times
            what a request for it is worth. Expectations are learned from the requests, which do not depend on what is
            cached, worth from rewards given the requests that came.
        cacher_hidden: Width of the two hidden layers of the caching network.
        cacher_lr: Adam step size of the caching network.
        frame_gamma: Discount per frame; ``gamma`` to the power of the slots per frame if not given.
        remember: Whether the replay keeps the cache that was asked for (``raw``, with the penalty for what did not
            fit) or the one that came of it (``amended``).
        frame_replay_capacity: Frames kept per learner.
        frame_warmup: Updates of the cacher begin when every learner holds more than this.
        frame_batch_size: Frames per update.
        updates_per_frame: Updates of the cacher per sampled frame of one copy.
        random_caches: ``uniform``: all orders in which models are cached until storage is full are equally likely, or
            all caches for ``subsets``. ``popular``: models are cached in the order of their popularity beforehand,
            disturbed more or less. Uniform ones have few hits, so few slots in which steps are scarce.
        epsilon_start: Share of random caches at the start.
        epsilon_end: And at the end.
        epsilon_hold_episodes: Episodes before it begins to fall. The cacher learns nothing from them: what a cached
            model is worth depends on how well the allocator uses it, which learns first.
        epsilon_episodes: Episodes over which it falls, linearly.
        see_skewness: The cacher sees the state of the skewness chain.
        see_previous_cache: The cacher sees what was cached in the frame before.
        see_frequency: The cacher sees the request shares of the frame before.
        history_decay: If given, the cacher also sees the mean request shares of all frames so far, in which each frame
            has this fraction of the next one's weight.
        see_model_sizes: The cacher sees the models' sizes.
        see_frame_number: The cacher sees how much of the episode is over.
    """

    caching_head: Literal["subsets", "per_model", "per_request"] = "subsets"
    cacher_hidden: Width = 256
    cacher_lr: StepSize = 1e-3
    frame_gamma: Probability | None = None
    remember: Literal["raw", "amended"] = "raw"
    frame_replay_capacity: Count = 10_000
    frame_warmup: Count = 64
    frame_batch_size: Batch = 64
    updates_per_frame: Updates = 1.0
    random_caches: Literal["uniform", "popular"] = "uniform"
    epsilon_start: Share = 1.0
    epsilon_end: Share = 0.05
    epsilon_hold_episodes: Whole = 0
    epsilon_episodes: Count = 250
    see_skewness: Flag = True
    see_previous_cache: Flag = True
    see_frequency: Flag = True
    history_decay: Share | None = None
    see_model_sizes: Flag = False
    see_frame_number: Flag = False

    @model_validator(mode="after")
    def _needs(self) -> Self:
        HEADS[self.caching_head].check(self)
        return self

    @property
    def per_model(self) -> int:
        """Values per model in the state."""
        history = self.history_decay is not None
        return self.see_previous_cache + self.see_frequency + history + self.see_model_sizes

    @property
    def amends(self) -> bool:
        """Whether the replay keeps the cache that came of what was asked for."""
        return self.remember == "amended"

    def discount_per_frame(self, slots_per_frame: int) -> float:
        """Discount of the cacher: its steps are whole frames."""
        return self.gamma**slots_per_frame if self.frame_gamma is None else self.frame_gamma
