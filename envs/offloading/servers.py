# SPDX-License-Identifier: Apache-2.0
"""Servers that differ from episode to episode, slow down or fail, and report late or not at all.

These are the distributions, as scenarios name them; :mod:`edgegen.envs.offloading.draws` draws episodes from them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from edgegen.envs.core.chains import two_states
from edgegen.envs.core.fields import Count, Duration, Flag, Frozen, Positive, Probability, Range, Seed, Whole
from edgegen.envs.offloading.traffic import Floats

MOST_SERVERS = 10_000
MOST_LINKS = 1_000_000
"""Most pairs of servers with a rate of their own."""


def _form_of_load(value: Any) -> str:
    if value is None:
        return "(none)"
    return "(range)" if isinstance(value, dict | Range) else "(number)"


class ServerSets(Frozen):
    """Servers drawn at random: a family of scenarios, for training and judging policies that must fit any servers.

    Attributes:
        servers: Number of servers B.
        capacity_gcycles_s: Distribution of the capacities; only their ratios matter if ``load`` is given.
        rate_mbit_s: Distribution of the rates.
        per_link: Draw a rate for every pair of servers instead of one per destination. The result of a task that stays
            at home is then returned at the highest rate.
        load: Scale every drawn set so that this is its offered load; a range draws one for every set.
        drawn: ``per_episode``: every episode has servers of its own. ``once``: all have those that ``seed`` gives.
        seed: Seed of the set of ``once``, and of the set that stands for the family where a single one is needed.
    """

    servers: Annotated[Count, Field(le=MOST_SERVERS)]
    capacity_gcycles_s: Range
    rate_mbit_s: Range
    per_link: Flag = False
    load: Annotated[
        Annotated[Positive, Tag("(number)")] | Annotated[Range, Tag("(range)")] | Annotated[None, Tag("(none)")],
        Discriminator(_form_of_load),
    ] = None
    drawn: Literal["per_episode", "once"] = "per_episode"
    seed: Seed = 0

    @model_validator(mode="after")
    def _links_are_not_too_many(self) -> Self:
        if self.per_link and self.servers**2 > MOST_LINKS:
            raise ValueError(
                f"server_sets.servers is {self.servers}, but with per_link there may be at most "
                f"{math.isqrt(MOST_LINKS)}, because every pair has a rate"
            )
        return self

    def extremes(self, work_gcycles_s: float) -> tuple[float, float, float]:
        """Least and largest capacity, and least rate, that no set goes beyond; the argument is that of ``draw``."""
        least, most = self.capacity_gcycles_s.low, self.capacity_gcycles_s.high
        if self.load is not None:
            low, high = (self.load, self.load) if isinstance(self.load, float) else (self.load.low, self.load.high)
            least, most = least / (most * self.servers) * work_gcycles_s / high, work_gcycles_s / low
        return least, most, self.rate_mbit_s.low

    def draw(self, rng: np.random.Generator, work_gcycles_s: float) -> tuple[Floats, Floats]:
        """Draw one set.

        Args:
            rng: Where from.
            work_gcycles_s: Expected work that arrives at all servers per second.

        Returns:
            Capacities ``[B]`` and rates ``[B]``, or ``[B, B]`` from origin to destination.
        """
        capacity = _uniform(rng, self.capacity_gcycles_s, (self.servers,))
        if self.load is not None:
            load = self.load if isinstance(self.load, float) else _uniform(rng, self.load, (1,)).item()
            capacity *= work_gcycles_s / (load * capacity.sum())
        if not self.per_link:
            return capacity, _uniform(rng, self.rate_mbit_s, (self.servers,))
        rate = _uniform(rng, self.rate_mbit_s, (self.servers, self.servers))
        np.fill_diagonal(rate, self.rate_mbit_s.high)
        return capacity, rate


class Outages(Frozen):
    """Servers that slow down or fail, and recover: two states with geometric lengths, each server by itself.

    Work in the queue waits for the recovery. Delays are counted to the true end of each task.

    Attributes:
        factor: Share of its capacity that a server in trouble still has; 0 is a failure.
        mean_up_slots: Mean slots between the end of one trouble and the begin of the next.
        mean_down_slots: Mean slots of a trouble.
    """

    factor: Probability
    mean_up_slots: Duration
    mean_down_slots: Duration

    @property
    def mean_factor(self) -> float:
        """Share of the capacity that is there, in the long run."""
        down = self.mean_down_slots / (self.mean_up_slots + self.mean_down_slots)
        return 1 - down * (1 - self.factor)

    def draw(self, rngs: list[np.random.Generator], slots: int, servers: int) -> Floats:
        """Draw the shares of capacity ``[E, slots, B]``, starting from the long run."""
        down = two_states(rngs, slots, servers, self.mean_up_slots, self.mean_down_slots)
        return np.where(down, self.factor, 1.0)


class Reports(Frozen):
    """What the schedulers hear of the servers: backlog and capacity, late and with gaps.

    Every server reports at the start of every slot. A report arrives ``delay_slots`` later at all schedulers, or is
    lost for all. Until a newer one arrives, the last one counts. The first report, of empty servers, is known to all.

    Attributes:
        delay_slots: Slots between a report and its arrival.
        loss: Probability that a report is lost.
    """

    delay_slots: Annotated[Whole, Field(le=1000)] = 0
    loss: Probability = 0.0

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.delay_slots and not self.loss:
            raise ValueError("reports needs a delay_slots or a loss above 0; leave it out if every report arrives")
        return self

    def draw(self, rngs: list[np.random.Generator], slots: int, servers: int) -> NDArray[np.int64]:
        """Draw the age of what is known at the start of every slot ``[E, slots, B]``, in slots."""
        arrived = np.stack([rng.random((slots, servers)) for rng in rngs]) >= self.loss
        arrived[:, 0] = True
        sent = np.where(arrived, np.arange(slots)[:, None], 0)
        newest = np.maximum.accumulate(sent, axis=1)  # newest report by the slot it was sent in
        late = np.zeros_like(newest)
        if self.delay_slots < slots:
            late[:, self.delay_slots :] = newest[:, : slots - self.delay_slots]
        age: NDArray[np.int64] = np.arange(slots)[:, None] - late
        return age


def _uniform(rng: np.random.Generator, between: Range, shape: tuple[int, ...]) -> Floats:
    if between.log:
        exponents: Floats = np.exp(rng.uniform(np.log(between.low), np.log(between.high), shape))
        return exponents
    values: Floats = rng.uniform(between.low, between.high, shape)
    return values
