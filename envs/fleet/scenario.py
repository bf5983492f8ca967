# SPDX-License-Identifier: Apache-2.0
"""Fleet scenarios: which sites and models there are, who asks for what and when, and what it is worth."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from edgegen.envs.core.distributions import Amount
from edgegen.envs.core.fields import MOST_CELLS, Count, NonNegative, Positive, Share
from edgegen.envs.core.links import check_rows, form_of
from edgegen.envs.core.objectives import JudgedScenario
from edgegen.envs.fleet.models import Curve, Model, Several
from edgegen.envs.fleet.parts import Bursts, Cloud, Day, HotSpots, Loading, Outages, Popularity, Radio
from edgegen.envs.fleet.recorded import Recorded
from edgegen.envs.fleet.terms import KIND as TERMS_KIND
from edgegen.envs.fleet.terms import check_objective

Sites = Annotated[Count, Field(le=2000)]
Floats = NDArray[np.float64]
PerSpeed = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=1000)]
Delays = Annotated[
    Annotated[NonNegative, Tag("(plain)")] | Annotated[tuple[tuple[NonNegative, ...], ...], Tag("(per link)")],
    Discriminator(form_of),
]
Rates = Annotated[
    Annotated[Positive, Tag("(plain)")] | Annotated[tuple[tuple[Positive, ...], ...], Tag("(per link)")],
    Discriminator(form_of),
]


class FleetScenario(JudgedScenario):
    """Unequal sites that keep some of the models, and a cloud that has all of them.

    Attributes:
        sites: Number of sites S; what is given per speed is repeated as often as needed.
        speed: Speeds; 1 is that of the models' times.
        memory_gb: Memory for resident models, GB, one value per speed.
        model_speed: Factor on the speed with each model, one row per speed with a value per model; 1 if not given.
        models: The models.
        curve: How the quality of models without a curve of their own rises, if not linearly.
        model_repeats: How often the list of models is repeated.
        memory_factor: Factor on all memories.
        load_factor: Factor on all times of loading.
        loading: What else there is to say of loads.
        outages: Sites that fail or slow down.
        cloud: The cloud.
        hop_s: Time from one site to another, s; or a row per origin with a time to each destination.
        rate_mbit_s: Rate of the links, Mbit/s; or a row per origin with a rate towards each destination.
        radio: A radio cell around each site, over which ``upload_mbit`` come in first.
        upload_mbit: What a request sends to another site, Mbit.
        result_mbit: What comes back to its home, also from its own site, Mbit.
        frame_s: Time between two decisions of the cachers, s.
        frames: Frames of an episode.
        report_s: Time between two reports of the backlogs, s.
        load: Arriving work, with all steps, over the speed of all sites.
        pictures: Pictures of a request, rounded to whole ones.
        further_picture: Time of the steps of each further picture over that of the first: all are then made together,
            with ``fixed_s`` once. One after the other if not given.
        asked_steps: Steps that a request asks for, rounded to whole ones, instead of those of its model.
        extra_s: Further time of a request at speed 1, say for an adapter, s.
        service_noise: Factor on the time that a request takes, known when it is done.
        deadline_s: Promised delay, s.
        weight: Worth of a request.
        popularity: How often each model is asked for.
        bursts: Bursts of all sites together.
        day: A day curve.
        recorded: Requests as they really came, instead of bursts and a day curve.
        hot_spots: Sites with more requests than the others.
        late_penalty: What a late request costs, times its weight [λ].
        late_decay: A late request is worth w·Q·e^(−late_decay·(delay − D)/D) less that penalty; nothing if not given.
        delay_price: Cost of a second of delay.
        hop_price: Cost of a request that runs away from home.
        refuse_price: Cost of a refused request, times its weight; none can be refused if not given.
        unit_s: What stands for a second in constants of rules and learners, and in how often rates of arrival change,
            s: 60 where sites work for minutes on what those of the shipped worlds do in seconds.
    """

    files: ClassVar[tuple[str, ...]] = ("recorded.trace",)
    judged_as: ClassVar[str] = TERMS_KIND

    kind: Literal["fleet"] = "fleet"
    sites: Sites
    speed: PerSpeed
    memory_gb: PerSpeed
    model_speed: Annotated[tuple[PerSpeed, ...], Field(max_length=1000)] = ()
    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=1000)]
    curve: Curve | None = None
    model_repeats: Annotated[Count, Field(le=1000)] = 1
    memory_factor: Positive = 1.0
    load_factor: Positive = 1.0
    loading: Loading = Loading()
    outages: Outages | None = None
    cloud: Cloud
    hop_s: Delays = 0.3
    rate_mbit_s: Rates = 1000.0
    radio: Radio | None = None
    upload_mbit: NonNegative = 0.0
    result_mbit: NonNegative = 0.0
    frame_s: Positive = 30.0
    frames: Several = 5
    report_s: Positive = 1.0
    load: Positive
    pictures: Amount = Amount(low=1, high=1)
    further_picture: Share | None = None
    asked_steps: Amount | None = None
    extra_s: Amount | None = None
    service_noise: Amount | None = None
    deadline_s: Amount
    weight: Amount
    popularity: Popularity = Popularity()
    bursts: Bursts | None = None
    day: Day | None = None
    recorded: Recorded | None = None
    hot_spots: HotSpots | None = None
    late_penalty: NonNegative = 0.2
    late_decay: Positive | None = None
    delay_price: NonNegative = 0.005
    hop_price: NonNegative = 0.01
    refuse_price: NonNegative | None = None
    unit_s: Positive = 1.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self._check_sites()
        least_gb = min(self.site_memory_gb)
        for number, model in enumerate(self.models):
            model.check(number, self.curve)
            if model.size_gb > least_gb:
                raise ValueError(
                    f"model {number} takes {model.size_gb:g} GB, but the smallest site has {least_gb:g} GB; every "
                    "model must fit every site"
                )
        for name, least, most in (("pictures", 1, 1000), ("asked_steps", 1, 10_000)):
            amount = getattr(self, name)
            if amount is not None and not least <= amount.low <= amount.high <= most:
                raise ValueError(
                    f"{name} is between {amount.low:g} and {amount.high:g}, but must be between {least} and {most}"
                )
        for name, factor in (
            ("service_noise", self.service_noise),
            ("loading.places", self.loading.places),
            ("loading.noise", self.loading.noise),
        ):
            if factor is not None and factor.low <= 0:
                raise ValueError(f"{name}.low is {factor.low:g}, but the factor on a time must be greater than 0")
        if self.deadline_s.low <= self.network_s:
            raise ValueError(
                f"deadline_s.low is {self.deadline_s.low:g} s, but the way to another site and back alone takes "
                f"{self.network_s:g} s; deadlines must be longer"
            )
        if self.radio is not None and not self.upload_mbit:
            raise ValueError("radio needs an upload_mbit above 0: it is what comes in over it")
        if self.recorded is not None and (self.bursts or self.day):
            raise ValueError("recorded stands instead of bursts and day; give either")
        self._check_size()
        check_objective(self)
        return self

    def _check_sites(self) -> None:
        """Refuse lists that are not one entry per speed, model or site."""
        for name, values in (
            ("memory_gb", self.memory_gb),
            ("model_speed", self.model_speed),
            ("loading.host_memory_gb", self.loading.host_memory_gb),
        ):
            if values and len(values) != len(self.speed):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.speed)} speeds; give one each")
        check_rows("model_speed", self.model_speed, len(self.models), "model")
        models = len(self.kinds_of_models)
        for name, entries in (
            ("popularity.shares", self.popularity.shares),
            ("recorded.names", self.recorded.names if self.recorded else ()),
        ):
            if entries and len(entries) != models:
                raise ValueError(f"{name} has {len(entries)} entries for {models} models; give one each")
        for name in ("hop_s", "rate_mbit_s"):
            rows = getattr(self, name)
            if isinstance(rows, tuple):
                if len(rows) != self.sites:
                    raise ValueError(f"{name} has {len(rows)} rows for {self.sites} sites; give one each")
                check_rows(name, rows, self.sites, "site")

    def _check_size(self) -> None:
        """Refuse episodes that no memory holds."""
        if self.requests_at_most > MOST_CELLS / 8:
            raise ValueError(
                f"load, frame_s and frames make some {self.requests_at_most:.3g} requests in an episode, but at most "
                f"{MOST_CELLS // 8} are allowed"
            )
        if self.sites * self.sites * max(1, len(self.kinds_of_models)) > MOST_CELLS:
            raise ValueError("there are too many sites and models for one world")
        if self.sites * self.changes_at_most > MOST_CELLS / 8:
            raise ValueError(
                f"outages make some {self.changes_at_most:.3g} changes of a site in an episode, too many for "
                f"{self.sites} sites; raise mean_up_s or mean_down_s"
            )

    def _given(self, data: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`JudgedScenario._given`."""
        data = super()._given(data)
        if self.unit_s == 1:
            data.pop("unit_s", None)
        return data

    @property
    def powered(self) -> tuple[int, str]:
        """See :attr:`JudgedScenario.powered`."""
        return len(self.speed), "speed"

    @property
    def placed(self) -> tuple[int, str]:
        """See :attr:`JudgedScenario.placed`."""
        return self.sites, "site"

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
    def model_factor(self) -> Floats:
        """Factor on the speed of every site with every model ``[S, M]``."""
        if not self.model_speed:
            return np.ones((self.sites, len(self.kinds_of_models)))
        return np.array([self.model_speed[site % len(self.speed)] * self.model_repeats for site in range(self.sites)])

    @property
    def site_memory_gb(self) -> tuple[float, ...]:
        """Memory of every site, GB."""
        own = (self.memory_gb[site % len(self.memory_gb)] for site in range(self.sites))
        return tuple(value * self.memory_factor for value in own)

    @property
    def host_memory_gb(self) -> tuple[float, ...]:
        """Memory of every site's host, GB."""
        own = self.loading.host_memory_gb or (0.0,)
        return tuple(own[site % len(own)] for site in range(self.sites))

    @property
    def ways_s(self) -> tuple[Floats, Floats]:
        """Time that a request takes from each origin to each destination, and its result back ``[S, S]``, s."""
        hop_s, rate = (np.broadcast_to(np.array(way), (self.sites,) * 2) for way in (self.hop_s, self.rate_mbit_s))
        there_s = hop_s + self.upload_mbit / rate
        return np.where(np.eye(self.sites, dtype=np.bool_), 0.0, there_s), self.result_mbit / rate

    @property
    def network_s(self) -> float:
        """Longest time to another site and back, s."""
        there_s, back_s = self.ways_s
        return float((there_s + back_s).max())

    @property
    def duration_s(self) -> float:
        """Length of an episode, s."""
        return self.frame_s * self.frames

    @property
    def mean_work_s(self) -> Floats:
        """Expected work of a request for each model, with all steps at speed 1 ``[M]``, s."""
        models, pictures = self.kinds_of_models, self.pictures.mean
        fixed_s, step_s = (np.array([getattr(model, name) for model in models]) for name in ("fixed_s", "step_s"))
        steps = np.array([model.full_steps if self.asked_steps is None else self.asked_steps.mean for model in models])
        extra_s = 0.0 if self.extra_s is None else self.extra_s.mean
        if self.further_picture is None:
            return np.asarray((fixed_s + steps * step_s) * pictures + extra_s)
        return np.asarray(fixed_s + steps * step_s * (1 + self.further_picture * (pictures - 1)) + extra_s)

    @property
    def seconds_per_work_s(self) -> Floats:
        """Time of all sites together for a second of work with each model ``[M]``, relative to that by ``speed``."""
        if not self.model_speed:
            return np.ones(len(self.kinds_of_models))
        speed = np.array(self.site_speed)
        return np.asarray(speed.sum() / (speed @ self.model_factor))

    @property
    def recorded_work_s(self) -> Floats:
        """Time of all sites together for all recorded requests of each rank with each model ``[R, M]``, s.

        R is 1 where the models are drawn. As in :attr:`mean_work_s`, with what is recorded in the place of what is
        expected, and relative to the time by ``speed``.
        """
        if self.recorded is None:
            return np.zeros((1, len(self.kinds_of_models)))
        models, sums = self.kinds_of_models, self.recorded.sums(len(self.kinds_of_models))
        fixed_s, step_s = (np.array([getattr(model, name) for model in models]) for name in ("fixed_s", "step_s"))
        asked = np.array([model.full_steps if self.asked_steps is None else self.asked_steps.mean for model in models])
        pictures = sums.requests * self.pictures.mean if sums.pictures is None else sums.pictures
        steps = sums.requests[:, None] * asked if sums.steps is None else sums.steps[:, None]
        if sums.both is not None:
            both = sums.both[:, None]
        else:
            both = steps * self.pictures.mean if sums.pictures is None else pictures[:, None] * asked
        extra_s = (0.0 if self.extra_s is None else self.extra_s.mean) * sums.requests[:, None]
        if self.further_picture is None:
            work_s = fixed_s * pictures[:, None] + step_s * both + extra_s
        else:
            further = self.further_picture * (both - steps)
            work_s = fixed_s * sums.requests[:, None] + step_s * (steps + further) + extra_s
        return np.asarray(work_s * self.seconds_per_work_s)

    def recorded_second_s(self, work_s: float) -> float:
        """How long a second of the recording takes, s, where the whole of it takes all sites ``work_s``."""
        assert self.recorded is not None
        return work_s / (self.recorded.requests.period_s * sum(self.site_speed) * self.load)

    @property
    def requests_at_most(self) -> float:
        """About how many requests an episode can have."""
        if self.recorded is not None:
            least_s = self.recorded_second_s(float(self.recorded_work_s.min(1).sum()))
            return float(self.recorded.requests.most_in(self.duration_s / least_s))
        work_s = float((self.mean_work_s * self.seconds_per_work_s).min())
        peak = (self.bursts.burst if self.bursts else 1.0) * (self.day.highest if self.day else 1.0)
        mean = self.load * sum(self.site_speed) / work_s * self.duration_s * peak
        return mean + 6 * math.sqrt(mean)

    @property
    def changes_at_most(self) -> float:
        """About how often a site can fail or recover in an episode."""
        if self.outages is None:
            return 0.0
        mean = self.duration_s / (self.outages.mean_up_s + self.outages.mean_down_s)
        return 2 * (mean + 6 * math.sqrt(mean)) + 3
