# SPDX-License-Identifier: Apache-2.0
"""What chance brings to the fleet: the requests of whole episodes, by (seed, number of the episode) alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from edgegen.envs.core.chains import two_states
from edgegen.envs.core.distributions import Amount
from edgegen.envs.core.radio import link_rate, path_gain
from edgegen.envs.fleet.recorded import Column
from edgegen.envs.fleet.scenario import FleetScenario, Floats
from edgegen.envs.fleet.sites import draw_sites, generator

Ints = NDArray[np.int64]

# Numbers of the streams; a new one goes to the end. That of the arrivals has none, those of the sites have others.
_OF_ASKED, _OF_EXTRA, _OF_NOISE, _OF_RADIO, _OF_RECORDED = range(1, 6)


ASKED, EXTRA, NOISE, UPLINK = range(4)
"""Columns of what else there is to say of a request."""


class Requests(NamedTuple):
    """Requests of E episodes in the order of arrival, padded at the end ``[E, N]``, and what happens to the sites.

    Attributes:
        number: Requests of each episode ``[E]``.
        arrival_s: Time of arrival, s; that of padding is infinite.
        home: Site that it arrives at.
        model: Model it asks for.
        pictures: Pictures.
        deadline_s: Promised delay, s.
        weight: Worth.
        more: Steps that it asks for; further time at speed 1, s; factor on the time that it takes; time until it has
            come in over the radio, s; ``[E, N, 4]``.
        happens: What happens to the sites ``[E, S, L]``, see :func:`edgegen.envs.fleet.sites.packed`.
    """

    number: Ints
    arrival_s: Floats
    home: Ints
    model: Ints
    pictures: Floats
    deadline_s: Floats
    weight: Floats
    more: Floats
    happens: Floats


def draw_requests(scenario: FleetScenario, seed: int, episodes: range) -> Requests:
    """Draw whole episodes; each has generators of its own, spawned from (seed, number)."""
    drawn = [_episode(scenario, seed, number) for number in episodes]
    count = np.array([len(one[0]) for one in drawn], dtype=np.int64)
    width = max(1, int(count.max(initial=1)))

    def padded(column: int, filler: float, dtype: Any) -> NDArray[Any]:
        values: NDArray[Any] = np.full((len(drawn), width), filler, dtype=dtype)
        for row, one in zip(values, drawn, strict=True):
            row[: len(one[column])] = one[column]
        return values

    columns = ((np.inf, np.float64), (0, np.int64), (0, np.int64), *[(1.0, np.float64)] * 7)
    whole = [padded(i, *of) for i, of in enumerate(columns)]
    arrival_s, home, model, pictures, deadline_s, weight, *more = whole
    happens = draw_sites(scenario, seed, episodes)
    return Requests(
        count, arrival_s, home, model, pictures, deadline_s, weight, np.stack(more, axis=-1), happens=happens
    )


def _episode(scenario: FleetScenario, seed: int, number: int) -> tuple[NDArray[np.generic], ...]:
    """Columns of one episode. Rates, popularity and hot spots are constant within bins.

    A bin is a second or less, or what stands for one.
    """
    rng = generator(seed, number)
    bins = max(1, int(np.ceil(scenario.duration_s / scenario.unit_s)))
    bin_s = scenario.duration_s / bins
    start_s: Floats = np.arange(bins, dtype=np.float64) * bin_s
    factor = _factor(scenario, rng, start_s, bin_s)
    popular = _popularity(scenario, rng, start_s)
    near = _hot_spots(scenario, rng, start_s)
    recorded = _window(scenario, generator(seed, number, _OF_RECORDED), popular)
    if recorded is None:
        work_s = scenario.mean_work_s * scenario.seconds_per_work_s
        # The load is the same however popular long pictures are in an episode.
        rate = scenario.load * sum(scenario.site_speed) / (popular @ work_s).mean()
        counts = rng.poisson(rate * bin_s * factor)
        of_bin = np.repeat(np.arange(bins), counts)
        arrival_s = start_s[of_bin] + bin_s * rng.random(len(of_bin))
        arrival_s.sort()  # within bins only: bins are in order
    else:
        arrival_s = recorded.arrival_s
        of_bin = np.minimum((arrival_s / bin_s).astype(np.int64), bins - 1)
    count = len(of_bin)
    arrival_s = np.minimum(arrival_s, np.nextafter(scenario.duration_s, 0))
    model = _pick(popular, of_bin, rng)
    if recorded is not None and recorded.model is not None:
        model = recorded.model
    home = _pick(near, of_bin, rng)
    amounts = (scenario.pictures, scenario.deadline_s, scenario.weight)
    pictures, *rest = (amount.values(rng.random(count)) for amount in amounts)

    def of(amount: Amount | None, stream: int, plain: float) -> Floats:
        return np.full(count, plain) if amount is None else amount.values(generator(seed, number, stream).random(count))

    steps = np.array([kind.full_steps for kind in scenario.kinds_of_models], dtype=np.float64)[model]
    if scenario.asked_steps is not None:
        steps = np.rint(of(scenario.asked_steps, _OF_ASKED, 0.0))
    extra_s, noise = of(scenario.extra_s, _OF_EXTRA, 0.0), of(scenario.service_noise, _OF_NOISE, 1.0)
    uplink_s = _uplink_s(scenario, generator(seed, number, _OF_RADIO), arrival_s, home)
    if recorded is not None:
        pictures = pictures if recorded.pictures is None else recorded.pictures
        steps = steps if recorded.steps is None else recorded.steps
        noise = noise if recorded.work is None else noise * recorded.work
    return arrival_s, home, model, np.rint(pictures), *rest, steps, extra_s, noise, uplink_s


class _Window(NamedTuple):
    """What an episode plays of a recording: times, and what is recorded of each request; None what is drawn."""

    arrival_s: Floats
    model: Ints | None
    pictures: Floats | None
    steps: Floats | None
    work: Floats | None


def _window(scenario: FleetScenario, rng: np.random.Generator, popular: Floats) -> _Window | None:
    """Draw the window of an episode, in which time goes as fast as the load demands; None if nothing is recorded."""
    recorded = scenario.recorded
    if recorded is None:
        return None
    trace, work_s = recorded.requests, scenario.recorded_work_s
    models = work_s.shape[1]
    order, begin_s = rng.permutation(models), rng.random() * trace.period_s
    if recorded.names:
        order = np.arange(models)
    plays_models = recorded.plays("model")
    whole_s = (
        work_s[np.arange(len(work_s)), order[: len(work_s)]].sum() if plays_models else popular.mean(0) @ work_s[0]
    )
    second_s = scenario.recorded_second_s(float(whole_s))
    number, time_s = trace.window(begin_s, scenario.duration_s / second_s)

    def of(column: Column, values: Floats | None) -> Floats | None:
        return None if values is None or not recorded.plays(column) else values[number]

    model = order[recorded.models(models)[number]] if plays_models else None
    own = (of("pictures", trace.pictures), of("steps", trace.steps), of("work", trace.factor))
    return _Window(time_s * second_s, model, *own)


def _uplink_s(scenario: FleetScenario, rng: np.random.Generator, arrival_s: Floats, home: Ints) -> Floats:
    """Time to send each request to its home: those that a cell gets in a slot share its band equally."""
    radio = scenario.radio
    if radio is None:
        return np.zeros(len(home))
    distance_m = np.hypot(*((rng.random((2, len(home))) - 0.5) * radio.side_m)).clip(radio.min_distance_m)
    gain = path_gain(distance_m, radio.path_loss_db, radio.path_loss_db_per_decade)
    if radio.fading == "exponential":
        gain *= rng.standard_exponential(len(home))
    place = (arrival_s / radio.slot_s).astype(np.int64) * scenario.sites + home
    _, which, users = np.unique(place, return_inverse=True, return_counts=True)
    share = torch.from_numpy(1 / users[which])
    rate = link_rate(share, torch.from_numpy(gain), radio.uplink_mhz, radio.user_power_dbm, radio.noise_dbm_hz)
    return np.asarray(scenario.upload_mbit / rate.numpy())


def _pick(share: Floats, of_bin: Ints, rng: np.random.Generator) -> Ints:
    """Draw an index for each request by the shares ``[bins, n]`` of its bin."""
    edges = share.cumsum(1)
    edges /= edges[:, -1:]
    offset = edges + np.arange(len(edges))[:, None]  # one sorted row of all bins
    index = np.searchsorted(offset.ravel(), of_bin + rng.random(len(of_bin)), side="right")
    return np.asarray(np.clip(index - of_bin * share.shape[1], 0, share.shape[1] - 1), dtype=np.int64)


def _factor(scenario: FleetScenario, rng: np.random.Generator, start_s: Floats, bin_s: float) -> Floats:
    factor = np.ones(len(start_s))
    if scenario.bursts is not None:
        bursts = scenario.bursts
        high = two_states([rng], len(start_s), 1, bursts.mean_calm_s / bin_s, bursts.mean_burst_s / bin_s)[0, :, 0]
        factor = np.where(high, bursts.burst, bursts.calm)
    if scenario.day is not None:
        day, turn = scenario.day, start_s / scenario.day.period_s + rng.random()
        if day.hours:
            factor *= np.array(day.hours)[(turn % 1 * len(day.hours)).astype(np.int64)] / np.mean(day.hours)
        else:
            factor *= 1 + day.amplitude * np.sin(2 * np.pi * turn)
    return factor


def _periods(start_s: Floats, every_s: float | None) -> Ints:
    return np.zeros(len(start_s), dtype=np.int64) if every_s is None else (start_s / every_s).astype(np.int64)


def _popularity(scenario: FleetScenario, rng: np.random.Generator, start_s: Floats) -> Floats:
    """Share of each model in each bin ``[bins, M]``."""
    popularity, models = scenario.popularity, len(scenario.kinds_of_models)
    if popularity.shares:
        return np.broadcast_to(np.array(popularity.shares) / sum(popularity.shares), (len(start_s), models))
    order = rng.permutation(models)
    period, swap = _periods(start_s, popularity.every_s), _periods(start_s, popularity.swap_s)
    exponent = rng.choice(popularity.exponents, period[-1] + 1)
    share = np.empty((len(start_s), models))
    for i in range(len(start_s)):  # ranks change step by step
        for _ in range(swap[i] - (swap[i - 1] if i else 0)):
            one, other = rng.integers(models, size=2)
            order[[one, other]] = order[[other, one]]
        share[i, order] = np.arange(1, models + 1.0) ** -exponent[period[i]]
    return np.asarray(share / share.sum(1, keepdims=True))


def _hot_spots(scenario: FleetScenario, rng: np.random.Generator, start_s: Floats) -> Floats:
    """Weight of each site in each bin ``[bins, S]``."""
    spots = scenario.hot_spots
    if spots is None:
        return np.ones((len(start_s), scenario.sites))
    period = _periods(start_s, spots.every_s)
    weight = np.ones((period[-1] + 1, scenario.sites))
    for row in weight:
        row[rng.permutation(scenario.sites)[: max(1, round(spots.share * scenario.sites))]] = spots.factor
    return np.asarray(weight[period])
