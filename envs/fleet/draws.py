"""What chance brings to the fleet: the requests of whole episodes, by (seed, number of the episode) alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.fleet.scenario import FleetScenario, Floats

Ints = NDArray[np.int64]


class Requests(NamedTuple):
    """Requests of E episodes in the order of arrival, padded at the end ``[E, N]``.

    Attributes:
        number: Requests of each episode ``[E]``.
        arrival_s: Time of arrival, s; that of padding is infinite.
        home: Site that it arrives at.
        model: Model it asks for.
        pictures: Pictures.
        deadline_s: Promised delay, s.
        weight: Worth.
    """

    number: Ints
    arrival_s: Floats
    home: Ints
    model: Ints
    pictures: Floats
    deadline_s: Floats
    weight: Floats


def draw_requests(scenario: FleetScenario, seed: int, episodes: range) -> Requests:
    """Draw the requests of whole episodes; each has a generator of its own, spawned from (seed, number)."""
    drawn = [_episode(scenario, np.random.default_rng([seed, number])) for number in episodes]
    count = np.array([len(one[0]) for one in drawn], dtype=np.int64)
    width = max(1, int(count.max(initial=1)))

    def padded(column: int, filler: float, dtype: Any) -> NDArray[Any]:
        values: NDArray[Any] = np.full((len(drawn), width), filler, dtype=dtype)
        for row, one in zip(values, drawn, strict=True):
            row[: len(one[column])] = one[column]
        return values

    columns = ((np.inf, np.float64), (0, np.int64), (0, np.int64), *[(1.0, np.float64)] * 3)
    return Requests(count, *(padded(i, *of) for i, of in enumerate(columns)))


def _episode(scenario: FleetScenario, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
    """Columns of one episode. Rates, popularity and hot spots are constant within bins of a second or less."""
    bins = max(1, int(np.ceil(scenario.duration_s)))
    bin_s = scenario.duration_s / bins
    start_s: Floats = np.arange(bins, dtype=np.float64) * bin_s
    factor = _factor(scenario, rng, start_s, bin_s)
    popular = _popularity(scenario, rng, start_s)
    near = _hot_spots(scenario, rng, start_s)
    work_s = np.array([model.full_work_s for model in scenario.kinds_of_models]) * scenario.pictures.mean
    # The load is the same however popular long pictures are in an episode.
    rate = scenario.load * sum(scenario.site_speed) / (popular @ work_s).mean()
    counts = rng.poisson(rate * bin_s * factor)
    of_bin = np.repeat(np.arange(bins), counts)
    arrival_s = start_s[of_bin] + bin_s * rng.random(len(of_bin))
    arrival_s.sort()  # within bins only: bins are in order
    arrival_s = np.minimum(arrival_s, np.nextafter(scenario.duration_s, 0))
    model = _pick(popular, of_bin, rng)
    home = _pick(near, of_bin, rng)
    amounts = (scenario.pictures, scenario.deadline_s, scenario.weight)
    pictures, *rest = (amount.values(rng.random(len(of_bin))) for amount in amounts)
    return arrival_s, home, model, np.rint(pictures), *rest


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
        bursts, draws = scenario.bursts, rng.random(len(start_s))
        high = draws[0] < bursts.mean_burst_s / (bursts.mean_burst_s + bursts.mean_calm_s)
        for i, draw in enumerate(draws):  # a chain goes step by step
            if i:
                high = draw >= bin_s / bursts.mean_burst_s if high else draw < bin_s / bursts.mean_calm_s
            factor[i] = bursts.burst if high else bursts.calm
    if scenario.day is not None:
        turn = start_s / scenario.day.period_s + rng.random()
        factor *= 1 + scenario.day.amplitude * np.sin(2 * np.pi * turn)
    return factor


def _periods(start_s: Floats, every_s: float | None) -> Ints:
    return np.zeros(len(start_s), dtype=np.int64) if every_s is None else (start_s / every_s).astype(np.int64)


def _popularity(scenario: FleetScenario, rng: np.random.Generator, start_s: Floats) -> Floats:
    """Share of each model in each bin ``[bins, M]``."""
    popularity, models = scenario.popularity, len(scenario.kinds_of_models)
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
