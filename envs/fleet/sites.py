# SPDX-License-Identifier: Apache-2.0
"""What happens to the sites of a fleet in an episode: outages, and how long loads take; by (seed, number) alone.

A site's own clock stands still while it has failed, and goes slowly while it is slow. Compiled functions turn times
into work that can be done until then, and back.
"""

from __future__ import annotations

import numpy as np

from edgegen.envs.core.compiled import compiled, inlined
from edgegen.envs.fleet.scenario import FleetScenario, Floats

# Numbers of the streams, after those of the requests.
_OUTAGES, _PLACES, _LOADS = range(101, 104)

NOISES = 256
"""Loads of a site with a factor of their own; the next one has the first one's again."""


PLACES, LOADS, RECOVERY, HEADER = range(4)
"""Columns of the header: how many factors of places and of loads follow it, and the time of a recovery, s."""


def generator(seed: int, *key: int) -> np.random.Generator:
    """Generator of a stream of an episode: its number, and unless it is that of the arrivals the stream's, above 0."""
    return np.random.default_rng([seed, *key])


def draw_sites(scenario: FleetScenario, seed: int, episodes: range) -> Floats:
    """Draw what happens to the sites in whole episodes, packed; see :func:`packed`."""
    shape, loading, outages = (len(episodes), scenario.sites), scenario.loading, scenario.outages
    place = np.ones((*shape, 0 if loading.places is None else len(scenario.kinds_of_models)))
    noise = np.ones((*shape, 0 if loading.noise is None else NOISES))
    changes = []
    for e, number in enumerate(episodes):
        if loading.places is not None:
            place[e] = loading.places.values(generator(seed, number, _PLACES).random(place.shape[1:]))
        if loading.noise is not None:
            noise[e] = loading.noise.values(generator(seed, number, _LOADS).random(noise.shape[1:]))
        if outages is not None:
            changes += _troubles(scenario, generator(seed, number, _OUTAGES))
    factor, down_s = (1.0, 0.0) if outages is None else (outages.factor, outages.mean_down_s)
    return packed(place, noise, _paces(shape, changes, factor), down_s)


def packed(place: Floats, noise: Floats, changes: tuple[Floats, Floats, Floats], recovery_s: float) -> Floats:
    """Lay out what happens to the sites of E episodes in one array: arrays cost compiled functions time, one by one.

    Args:
        place: Factor on the time to load each model at each site ``[E, S, M]``, or ``[E, S, 0]``.
        noise: Factors on the loads of a site, in their order ``[E, S, 256]``, or ``[E, S, 0]``.
        changes: When the pace of a site changes: 0, then rising, then infinite, s; share of its speed from then on; and
            work that it can have done by then, s at full speed; ``[E, S, B]`` each, B may be 0.
        recovery_s: Mean time until a site that has failed is back, s.

    Returns:
        The array ``[E, S, L]``; L is 0 if nothing happens.
    """
    header = np.empty((*place.shape[:2], HEADER))
    header[..., PLACES], header[..., LOADS], header[..., RECOVERY] = place.shape[2], noise.shape[2], recovery_s
    whole = np.concatenate([header, place, noise, *changes], axis=2)
    return whole if whole.shape[2] > HEADER else whole[..., :0].copy()


def _troubles(scenario: FleetScenario, rng: np.random.Generator) -> list[tuple[bool, Floats]]:
    """Whether each site begins in trouble, and when that changes: until it is well after the episode's end."""
    outages, found = scenario.outages, []
    assert outages is not None
    for _ in range(scenario.sites):
        down = bool(rng.random() < outages.mean_down_s / (outages.mean_up_s + outages.mean_down_s))
        times, now_s, state = [0.0], 0.0, down
        while now_s < scenario.duration_s or state:
            now_s += rng.exponential(outages.mean_down_s if state else outages.mean_up_s)
            times.append(now_s)
            state = not state
        found.append((down, np.array(times)))
    return found


def _paces(shape: tuple[int, int], changes: list[tuple[bool, Floats]], factor: float) -> tuple[Floats, Floats, Floats]:
    """Lay changes out as arrays ``[E, S, B]``: times, paces, and work done by then."""
    width = max((len(times) for _, times in changes), default=0)
    change_s, pace, done_s = (np.full((shape[0] * shape[1], width), filler) for filler in (np.inf, 1.0, np.inf))
    for row, (down, times) in enumerate(changes):
        own = np.where((np.arange(len(times)) % 2 == 0) == down, factor, 1.0)
        change_s[row, : len(times)], pace[row, : len(times)] = times, own
        done_s[row, : len(times)] = np.concatenate([[0.0], (np.diff(times) * own[:-1]).cumsum()])
    return change_s.reshape(*shape, width), pace.reshape(*shape, width), done_s.reshape(*shape, width)


@compiled
def place_factor(row: Floats, model: int) -> float:
    """Factor on the time to load a model at a site, to which happens what its row says."""
    return row[HEADER + model] if row[PLACES] > 0.0 else 1.0


@compiled
def load_factor(row: Floats, number: int) -> float:
    """Factor on a load of a site, by its number."""
    noises = int(row[LOADS])
    return row[HEADER + int(row[PLACES]) + number % noises] if noises > 0 else 1.0


@inlined
def changes_in(row: Floats) -> tuple[int, int]:
    """Where the times of a site's changes begin in its row, and how many there are.

    Its paces from then on, and the work that it can have done by then, follow; as many each.
    """
    first = HEADER + int(row[PLACES]) + int(row[LOADS])
    return first, (len(row) - first) // 3


def changes_of(row: Floats) -> tuple[Floats, Floats, Floats]:
    """Times of a site's changes, its paces from then on, and the work that it can have done by then ``[B]``."""
    first, count = changes_in(row)
    change_s, pace, done_s = row[first:].reshape(3, count)
    return change_s, pace, done_s


@compiled
def interval(row: Floats, first: int, count: int, value: float, before: bool) -> int:
    """Number of the last of some rising entries that is at most ``value``, or below it if ``before``; 0 without any."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if row[first + middle] < value or (row[first + middle] == value and not before):
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


@compiled
def pace_at(row: Floats, now_s: float) -> float:
    """Share of its speed that a site has at a time."""
    first, count = changes_in(row)
    return row[first + count + interval(row, first, count, now_s, False)] if count > 0 else 1.0


@compiled
def work_until(row: Floats, now_s: float) -> float:
    """Work that a site can have done by a time, s at full speed."""
    first, count = changes_in(row)
    if count == 0:
        return now_s
    at = first + interval(row, first, count, now_s, False)
    by_then_s: float = row[at + 2 * count] + row[at + count] * (now_s - row[at])
    return by_then_s


@compiled
def begin_s(row: Floats, now_s: float) -> float:
    """When a site can begin with something: at a time, or when it is back, s."""
    first, count = changes_in(row)
    if count == 0:
        return now_s
    at = first + interval(row, first, count, now_s, False)
    begun_s: float = now_s if row[at + count] > 0.0 else row[at + 1]
    return begun_s


@compiled
def end_s(row: Floats, from_s: float, work_s: float) -> float:
    """When a site has done some work that it begins with at a time, s."""
    first, count = changes_in(row)
    if count == 0:
        return from_s + work_s
    target_s = work_until(row, from_s) + work_s
    at = first + interval(row, first + 2 * count, count, target_s, True)
    change_s, pace, done_s = row[at], row[at + count], row[at + 2 * count]
    ended_s: float = change_s if pace == 0.0 else change_s + (target_s - done_s) / pace
    return max(ended_s, from_s)


@compiled
def served_s(
    happens: Floats, copy: int, site: int, from_s: float, load_s: float, service_s: float
) -> tuple[float, float, float]:
    """When a site begins with a request from a time on, has loaded its model, and is done with it, s."""
    row = happens[copy, site]
    begun_s = begin_s(row, from_s)
    loaded_s = end_s(row, begun_s, load_s)
    return begun_s, loaded_s, end_s(row, loaded_s, service_s)


@compiled
def expected_s(row: Floats, now_s: float, until_s: float) -> float:
    """How long what a site would do until a time will take from now on, as it can know itself, s.

    It knows its queue and its pace, which may stay as it is; if it has failed, it is back after the mean time.
    """
    if changes_in(row)[1] == 0:
        return max(until_s - now_s, 0.0)
    left_s = max(work_until(row, until_s) - work_until(row, now_s), 0.0)
    own = pace_at(row, now_s)
    expected: float = left_s / own if own > 0.0 else left_s + row[RECOVERY]
    return expected
