# SPDX-License-Identifier: Apache-2.0
"""Parts of a fleet scenario: the cloud, what traffic does, what happens to sites, how models are loaded, the radio."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgegen.envs.core.distributions import Amount
from edgegen.envs.core.fields import Flag, Frozen, NonNegative, Positive, Probability, Real, Share

Lasting = Annotated[Positive, Field(ge=1)]
"""A mean length of a second or more, s."""


class Cloud(Frozen):
    """A cloud that has all models and no queue.

    Attributes:
        speed: Its speed.
        distance_s: The way there and back, s.
        price: Price of a request.
        price_per_work_s: Price of a second of work, counted at speed 1.
    """

    speed: Positive
    distance_s: NonNegative
    price: NonNegative
    price_per_work_s: NonNegative = 0.0


class Bursts(Frozen):
    """Calm and burst in turns, each of a random length: factors on the arrivals, and mean lengths, s."""

    calm: NonNegative = 0.5
    burst: Positive = 2.0
    mean_calm_s: Lasting = 40.0
    mean_burst_s: Lasting = 20.0


class Day(Frozen):
    """A day curve, which begins at a time that is drawn per episode.

    Arrivals come 1 + amplitude · sin(2π(t/period_s + phase)) times as often, or as the hours say.

    Attributes:
        amplitude: How far it rises and falls.
        period_s: Length of a day, s.
        hours: Factors on the arrivals of equally long parts of the day instead; only their ratios matter.
    """

    amplitude: Share = 0.0
    period_s: Positive
    hours: Annotated[tuple[NonNegative, ...], Field(max_length=1440)] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.hours and (self.amplitude or not sum(self.hours)):
            raise ValueError("day.hours must not all be 0, and stand instead of an amplitude")
        return self

    @property
    def highest(self) -> float:
        """Largest factor on the arrivals."""
        return max(self.hours) * len(self.hours) / sum(self.hours) if self.hours else 1 + self.amplitude


class HotSpots(Frozen):
    """A share of the sites, drawn anew every so many seconds, that gets so many times the requests of the others."""

    share: Annotated[Positive, Field(le=1)] = 0.25
    factor: Positive = 6.0
    every_s: Positive = 60.0


class Popularity(Frozen):
    """How often each model is asked for: Zipf, with one of some exponents at a time, over ranks that may swap.

    Attributes:
        exponents: One is drawn every ``every_s``.
        every_s: How often, s; never again if not given.
        swap_s: How often two models swap their ranks, s; never if not given.
        shares: How often each of the models is asked for, in their order, always; only their ratios matter. They stand
            instead of all of that.
    """

    exponents: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=100)] = (1.0,)
    every_s: Positive | None = None
    swap_s: Positive | None = None
    shares: Annotated[tuple[NonNegative, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.shares and (self.every_s or self.swap_s or not sum(self.shares)):
            raise ValueError("popularity.shares must not all be 0, and stand instead of every_s and swap_s")
        return self


class Outages(Frozen):
    """Sites that fail or slow down, each by itself, and recover: both states have exponential lengths.

    What a site does takes longer by the factor; where that is 0 it does nothing until it is back, and what was placed
    there waits. It is in order in the long run when an episode begins, and for good some time after the episode's end.

    Attributes:
        factor: Share of its speed that a site in trouble still has; 0 is a failure.
        mean_up_s: Mean time between the end of one trouble and the begin of the next, s.
        mean_down_s: Mean time of a trouble, s.
        keeps_models: Whether a site that fails still has its models when it is back. If not, those that are placed
            after the failure began find its memory empty; what was placed before goes on with what it had found.
    """

    factor: Probability
    mean_up_s: Lasting
    mean_down_s: Lasting
    keeps_models: Flag = True

    @model_validator(mode="after")
    def _only_failures_lose_models(self) -> Self:
        if not self.keeps_models and self.factor > 0:
            raise ValueError("outages.keeps_models can be false only where factor is 0: a slow site keeps its models")
        return self


class Loading(Frozen):
    """How long loads take beside ``load_s`` of a model; everything may be left out.

    Attributes:
        places: Factor on the load time of each model at each site, drawn per episode and known to all: say, small where
            it lies on the disk of the site and large where it comes over the backhaul.
        noise: Factor on each load, known when it is over.
        host_memory_gb: Memory of the sites' hosts, GB, one value per speed. What is evicted stays there, the latest
            first, until it is loaded again or others need the room.
        host_s: Time to load a model from there, s.
    """

    places: Amount | None = None
    noise: Amount | None = None
    host_memory_gb: Annotated[tuple[Positive, ...], Field(max_length=1000)] = ()
    host_s: Positive | None = None

    @model_validator(mode="after")
    def _host_has_a_time(self) -> Self:
        if bool(self.host_memory_gb) == (self.host_s is None):
            raise ValueError("loading.host_memory_gb and loading.host_s belong together; give both or none")
        return self


class Radio(Frozen):
    """A cell around each site, over whose uplink requests come in; see :mod:`edgegen.envs.core.radio`.

    Users are anywhere in a square around their site. All who ask in the same slot share the band equally, so that
    nobody has to decide.

    Attributes:
        slot_s: Length of a slot, s.
        side_m: Side of the square, m.
        min_distance_m: Nobody comes closer to the site than this, m.
        path_loss_db: Path loss at a distance of 1 km, dB.
        path_loss_db_per_decade: Path loss per tenfold distance, dB.
        fading: Factor on the power gain, drawn per request: ``exponential`` with mean 1, or ``none``.
        noise_dbm_hz: Noise power density, dBm/Hz.
        uplink_mhz: Uplink bandwidth of a cell, MHz.
        user_power_dbm: Transmit power of a user, dBm.
    """

    slot_s: Positive = 1.0
    side_m: Positive = 200.0
    min_distance_m: Positive = 1.0
    path_loss_db: Annotated[Real, Field(ge=-300, le=300)] = 128.1
    path_loss_db_per_decade: Annotated[NonNegative, Field(le=100)] = 37.6
    fading: Literal["exponential", "none"] = "exponential"
    noise_dbm_hz: Annotated[Real, Field(ge=-300, le=100)] = -174.0
    uplink_mhz: Positive = 20.0
    user_power_dbm: Annotated[Real, Field(ge=-300, le=100)] = 23.0
