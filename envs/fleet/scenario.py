"""Fleet scenarios: which sites and models there are, who asks for what and when, and what it is worth."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgegen.envs.core.distributions import Amount
from edgegen.envs.core.fields import MOST_CELLS, Count, Frozen, NonNegative, Positive, Share
from edgegen.envs.core.world import WorldScenario

Sites = Annotated[Count, Field(le=1000)]
Several = Annotated[Count, Field(le=10_000)]
Floats = NDArray[np.float64]


class Model(Frozen):
    """A generative model; its quality is 0 below ``least_steps`` and rises linearly from there to ``full_steps``.

    Attributes:
        size_gb: Memory it takes where it is resident, GB.
        load_s: Time to load it, s.
        step_s: Time of a denoising step at speed 1, s.
        fixed_s: Time of a picture beside its steps at speed 1, s.
        least_steps: Fewest steps that can be chosen [A1].
        least_quality: Quality with these [Q(A1)].
        full_steps: Steps that are asked for [A3].
        full_quality: Quality with these [Q(A3)].
    """

    size_gb: Positive
    load_s: Positive
    step_s: Positive
    fixed_s: NonNegative = 0.0
    least_steps: Several
    least_quality: Share
    full_steps: Several
    full_quality: Share

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.least_steps > self.full_steps:
            raise ValueError(f"least_steps ({self.least_steps}) must not exceed full_steps ({self.full_steps})")
        if self.least_quality > self.full_quality:
            raise ValueError(
                f"least_quality ({self.least_quality:g}) must not exceed full_quality ({self.full_quality:g}): "
                "more steps are never worse"
            )
        return self

    @property
    def full_work_s(self) -> float:
        """Time of a picture with all steps at speed 1, s."""
        return self.fixed_s + self.full_steps * self.step_s


class Cloud(Frozen):
    """A cloud that has all models and no queue: its speed, the way there and back, s, and the price of a picture."""

    speed: Positive
    distance_s: NonNegative
    price: NonNegative


class Bursts(Frozen):
    """Calm and burst in turns, each of a random length: factors on the arrivals, and mean lengths, s."""

    calm: NonNegative = 0.5
    burst: Positive = 2.0
    mean_calm_s: Annotated[Positive, Field(ge=1)] = 40.0
    mean_burst_s: Annotated[Positive, Field(ge=1)] = 20.0


class Day(Frozen):
    """A day curve: arrivals times 1 + amplitude · sin(2π(t/period_s + phase)), the phase drawn per episode."""

    amplitude: Share
    period_s: Positive


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
    """

    exponents: Annotated[tuple[NonNegative, ...], Field(min_length=1, max_length=100)] = (1.0,)
    every_s: Positive | None = None
    swap_s: Positive | None = None


class FleetScenario(WorldScenario):
    """Unequal sites that keep some of the models, and a cloud that has all of them.

    Attributes:
        sites: Number of sites S; ``speed`` and ``memory_gb`` are repeated as often as needed.
        speed: Speeds; 1 is that of the models' times.
        memory_gb: Memory for resident models, GB.
        models: The models.
        model_repeats: How often the list of models is repeated.
        memory_factor: Factor on all memories.
        load_factor: Factor on all times of loading.
        cloud: The cloud.
        hop_s: Time from one site to another, s.
        rate_mbit_s: Rate of the links, Mbit/s.
        upload_mbit: What a request sends to another site, Mbit.
        result_mbit: What comes back to its home, also from its own site, Mbit.
        frame_s: Time between two decisions of the cachers, s.
        frames: Frames of an episode.
        report_s: Time between two reports of the backlogs, s.
        load: Arriving work, with all steps, over the speed of all sites.
        pictures: Pictures of a request, rounded to whole ones.
        deadline_s: Promised delay, s.
        weight: Worth of a request.
        popularity: How often each model is asked for.
        bursts: Bursts of all sites together.
        day: A day curve.
        hot_spots: Sites with more requests than the others.
        late_penalty: What a late request costs, times its weight [λ].
        delay_price: Cost of a second of delay.
        hop_price: Cost of a request that runs away from home.
        refuse_price: Cost of a refused request, times its weight; none can be refused if not given.
    """

    kind: Literal["fleet"] = "fleet"
    sites: Sites
    speed: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=1000)]
    memory_gb: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=1000)]
    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=1000)]
    model_repeats: Annotated[Count, Field(le=1000)] = 1
    memory_factor: Positive = 1.0
    load_factor: Positive = 1.0
    cloud: Cloud
    hop_s: NonNegative = 0.3
    rate_mbit_s: Positive = 1000.0
    upload_mbit: NonNegative = 0.0
    result_mbit: NonNegative = 0.0
    frame_s: Positive = 30.0
    frames: Several = 5
    report_s: Positive = 1.0
    load: Positive
    pictures: Amount = Amount(low=1, high=1)
    deadline_s: Amount
    weight: Amount
    popularity: Popularity = Popularity()
    bursts: Bursts | None = None
    day: Day | None = None
    hot_spots: HotSpots | None = None
    late_penalty: NonNegative = 0.2
    delay_price: NonNegative = 0.005
    hop_price: NonNegative = 0.01
    refuse_price: NonNegative | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(self.speed) != len(self.memory_gb):
            raise ValueError(f"memory_gb has {len(self.memory_gb)} entries for {len(self.speed)} speeds; give one each")
        least_gb = min(self.site_memory_gb)
        for number, model in enumerate(self.models):
            if model.size_gb > least_gb:
                raise ValueError(
                    f"model {number} takes {model.size_gb:g} GB, but the smallest site has {least_gb:g} GB; every "
                    "model must fit every site"
                )
        if self.pictures.low < 1:
            raise ValueError(f"pictures.low is {self.pictures.low:g}, but a request is for one picture at least")
        if self.deadline_s.low <= self.network_s:
            raise ValueError(
                f"deadline_s.low is {self.deadline_s.low:g} s, but the way to another site and back alone takes "
                f"{self.network_s:g} s; deadlines must be longer"
            )
        if self.requests_at_most > MOST_CELLS / 8:
            raise ValueError(
                f"load, frame_s and frames make some {self.requests_at_most:.3g} requests in an episode, but at most "
                f"{MOST_CELLS // 8} are allowed"
            )
        if self.sites * self.sites * max(1, len(self.kinds_of_models)) > MOST_CELLS:
            raise ValueError("there are too many sites and models for one world")
        return self

    @property
    def kinds_of_models(self) -> tuple[Model, ...]:
        """All models, repeated."""
        return self.models * self.model_repeats

    @property
    def choices(self) -> int:
        """Choices of a router: the sites, the cloud, and to refuse where that has a price."""
        return self.sites + (1 if self.refuse_price is None else 2)

    @property
    def site_speed(self) -> tuple[float, ...]:
        """Speed of every site."""
        return tuple(self.speed[site % len(self.speed)] for site in range(self.sites))

    @property
    def site_memory_gb(self) -> tuple[float, ...]:
        """Memory of every site, GB."""
        own = (self.memory_gb[site % len(self.memory_gb)] for site in range(self.sites))
        return tuple(value * self.memory_factor for value in own)

    @property
    def network_s(self) -> float:
        """Time to another site and back, s."""
        return self.hop_s + (self.upload_mbit + self.result_mbit) / self.rate_mbit_s

    @property
    def duration_s(self) -> float:
        """Length of an episode, s."""
        return self.frame_s * self.frames

    @property
    def requests_at_most(self) -> float:
        """About how many requests an episode can have."""
        work_s = min(model.full_work_s for model in self.models) * self.pictures.mean
        peak = (self.bursts.burst if self.bursts else 1.0) * (1 + (self.day.amplitude if self.day else 0.0))
        mean = self.load * sum(self.site_speed) / work_s * self.duration_s * peak
        return mean + 6 * math.sqrt(mean)
