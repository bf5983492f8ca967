# SPDX-License-Identifier: Apache-2.0
"""Traffic that is not the same everywhere and always: bursts, the time of day, hot spots, and what was recorded.

Each is a factor on the number of tasks, with a mean of 1, so the offered load of a scenario is the same with and
without. They multiply: the expected number of tasks of server b in slot t is that of ``tasks_per_slot`` times their
product r_{b,t}.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgegen.envs.core.chains import two_states
from edgegen.envs.core.fields import Count, Duration, Frozen, Positive, Real, Share
from edgegen.envs.offloading.recordings import MOST_TIMES, NamedRecording

Floats = NDArray[np.float64]
Factor = Annotated[Real, Field(gt=1, le=MOST_TIMES)]


class Bursts(Frozen):
    """Markov-modulated arrivals: calm and burst take turns, their lengths are geometric.

    Attributes:
        factor: Tasks in a burst over tasks in a calm.
        mean_calm_slots: Mean length of a calm.
        mean_burst_slots: Mean length of a burst.
        scope: ``common``: all servers burst together. ``per_server``: each by itself.
    """

    factor: Factor
    mean_calm_slots: Duration
    mean_burst_slots: Duration
    scope: Literal["common", "per_server"] = "common"

    @property
    def burst_share(self) -> float:
        """Share of the slots in a burst, in the long run."""
        return self.mean_burst_slots / (self.mean_burst_slots + self.mean_calm_slots)

    @property
    def levels(self) -> tuple[float, float]:
        """Factor in a calm and in a burst; their mean over time is 1."""
        calm = 1 / (1 - self.burst_share + self.burst_share * self.factor)
        return calm, calm * self.factor

    def draw(self, rngs: list[np.random.Generator], slots: int, servers: int) -> Floats:
        """Draw factors ``[E, slots, B]`` (or ``[E, slots, 1]``), starting from the long run."""
        width = servers if self.scope == "per_server" else 1
        burst = two_states(rngs, slots, width, self.mean_calm_slots, self.mean_burst_slots)
        return np.where(burst, self.levels[1], self.levels[0])


class Diurnal(Frozen):
    """A rate that rises and falls like the day: 1 + A sin(2π (t/P + φ)).

    Attributes:
        amplitude: A.
        period_slots: P.
        phase: φ, the part of the period at which an episode begins; ``per_episode`` draws it.
    """

    amplitude: Annotated[Positive, Field(le=1)]
    period_slots: Annotated[Real, Field(gt=1)]
    phase: Share | Literal["per_episode"] = "per_episode"

    def draw(self, rngs: list[np.random.Generator], slots: int) -> Floats:
        """Draw factors ``[E, slots, 1]``."""
        if self.phase == "per_episode":
            phase = np.array([rng.random() for rng in rngs])
        else:
            phase = np.full(len(rngs), self.phase)
        turn = np.arange(slots) / self.period_slots + phase[:, None]
        waves: Floats = 1 + self.amplitude * np.sin(2 * np.pi * turn)
        return waves[..., None]


class HotSpots(Frozen):
    """Servers whose users send more than those of others.

    Attributes:
        servers: Number of hot servers.
        factor: Tasks of a hot server over tasks of another.
        weights: Instead of these two, a weight for every server.
        drawn: ``per_episode``: which server has which weight is drawn for every episode. ``fixed``: as written, hot
            servers first.
    """

    servers: Count | None = None
    factor: Factor | None = None
    weights: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    drawn: Literal["per_episode", "fixed"] = "per_episode"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        counted = self.servers is not None and self.factor is not None
        if counted == (self.weights is not None) or (self.servers is None) != (self.factor is None):
            raise ValueError("hot_spots needs either weights, or servers and factor")
        return self

    def factors(self, servers: int) -> Floats:
        """Factors ``[B]`` with a mean of 1.

        Raises:
            ValueError: If the weights are for another number of servers.
        """
        if self.weights is not None:
            if len(self.weights) != servers:
                raise ValueError(f"hot_spots.weights has {len(self.weights)} entries, but there are {servers} servers")
            weights = np.array(self.weights)
        else:
            assert self.servers is not None  # _one_way
            assert self.factor is not None
            if self.servers > servers:
                raise ValueError(f"hot_spots.servers is {self.servers}, but there are only {servers} servers")
            weights = np.where(np.arange(servers) < self.servers, self.factor, 1.0)
        factors: Floats = weights / weights.mean()
        return factors

    def draw(self, rngs: list[np.random.Generator], servers: int) -> Floats:
        """Draw factors ``[E, 1, B]``."""
        factors = self.factors(servers)
        if self.drawn == "fixed":
            return np.broadcast_to(factors, (len(rngs), 1, servers))
        return np.stack([rng.permutation(factors) for rng in rngs])[:, None]


class Traffic(Frozen):
    """The factors on the number of tasks that a scenario has; all may be missing.

    Attributes:
        bursts: Markov-modulated arrivals.
        diurnal: The time of day.
        hot_spots: Servers that get more than others.
        recorded: Tasks as they came to real places.
    """

    bursts: Bursts | None = None
    diurnal: Diurnal | None = None
    hot_spots: HotSpots | None = None
    recorded: NamedRecording | None = None

    def check(self, servers: int) -> None:
        """Refuse factors that do not fit so many servers.

        Raises:
            ValueError: If some do not.
        """
        for part in (self.hot_spots, self.recorded):
            if part is not None:
                part.factors(servers)

    @property
    def plain(self) -> bool:
        """Whether there is no factor."""
        return self.bursts is None and self.diurnal is None and self.hot_spots is None and self.recorded is None

    def draw(self, rngs: list[np.random.Generator], slots: int, servers: int) -> Floats:
        """Draw the product of the factors ``[E, slots, B]``."""
        factors = np.ones((len(rngs), slots, servers))
        if self.bursts is not None:
            factors = factors * self.bursts.draw(rngs, slots, servers)
        if self.diurnal is not None:
            factors = factors * self.diurnal.draw(rngs, slots)
        if self.hot_spots is not None:
            factors = factors * self.hot_spots.draw(rngs, servers)
        if self.recorded is not None:
            factors = factors * self.recorded.draw(rngs, slots, servers)
        return factors

    def highest(self, servers: int) -> float:
        """Largest factor there can be."""
        highest = 1.0
        if self.bursts is not None:
            highest *= self.bursts.levels[1]
        if self.diurnal is not None:
            highest *= 1 + self.diurnal.amplitude
        if self.hot_spots is not None:
            highest *= float(self.hot_spots.factors(servers).max())
        if self.recorded is not None:
            highest *= float(self.recorded.factors(servers).max())
        return highest

    def distribution(self, servers: int) -> tuple[Floats, Floats]:
        """Factors of a server and slot drawn at random ``[K]`` and their probabilities ``[K]``, in the long run."""
        value, share = np.ones(1), np.ones(1)
        if self.bursts is not None:
            burst = self.bursts.burst_share
            value, share = np.array(self.bursts.levels), np.array([1 - burst, burst])
        if self.diurnal is not None:
            wave = 1 + self.diurnal.amplitude * np.sin(2 * np.pi * (np.arange(360) + 0.5) / 360)
            value, share = np.outer(value, wave).ravel(), np.repeat(share, 360) / 360
        if self.hot_spots is not None:
            value, share = _times(value, share, self.hot_spots.factors(servers))
        if self.recorded is not None:
            value, share = _times(value, share, self.recorded.factors(servers))
        return value, share


def _times(value: Floats, share: Floats, factors: Floats) -> tuple[Floats, Floats]:
    """Multiply a distribution ``[K]`` by independent factors, each as likely as the others."""
    distinct, count = np.unique(factors, return_counts=True)
    return np.outer(value, distinct).ravel(), np.outer(share, count / factors.size).ravel()


def modulated(counts: NDArray[np.int64], factors: Floats, rngs: list[np.random.Generator]) -> NDArray[np.int64]:
    """Multiply counts ``[E, T, B]`` by factors, rounded at random so that the mean is kept: ⌊c r + u⌋, u ~ U[0, 1)."""
    random = np.stack([rng.random(counts.shape[1:]) for rng in rngs])
    return np.floor(counts * factors + random).astype(np.int64)


def most_tasks(high: int, highest: float) -> int:
    """Most tasks that :func:`modulated` can give."""
    return math.ceil(high * highest - 1e-9)
