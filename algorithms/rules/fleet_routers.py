# SPDX-License-Identifier: Apache-2.0
"""Routers by the rules of the fleet, compiled: a score for every candidate, or draws by speed."""

from __future__ import annotations

import numpy as np

from edgegen.algorithms.rules.fleet_constants import HOME, OF_TWO, PRICED, WEIGHTED, Rule
from edgegen.algorithms.rules.fleet_steps import steps_share, value_of
from edgegen.envs.core.compiled import compiled, inlined
from edgegen.envs.fleet.physics import (
    BACKLOG,
    FULL,
    LEAST,
    LOAD,
    NETWORK,
    PRICE,
    RESIDENT,
    SLACK,
    SPEED,
    WORK_PRICE,
    mean_backlog_s,
)
from edgegen.envs.fleet.scenario import Floats

UNIT_S = 10.0
"""Seconds that count for as much noise as a utility of 1."""

_ODD = tuple(
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_SHIFTS = tuple(np.uint64(value) for value in (30, 27, 31, 11))


@inlined
def uniform(age_s: float, home: int, number: int) -> float:
    """A uniform number in (0, 1) that belongs to a request and a candidate, from what its home knows.

    The age of the reports, in nanoseconds, tells the requests of a site apart; so simulator, policy and live service
    find the same numbers without a generator. The mixing is that of SplitMix64 (Steele et al. 2014).
    """
    bits = np.uint64(max(age_s, 0.0) * 1e9) * _ODD[0] + (np.uint64(home) << _SHIFTS[1]) * _ODD[1]
    bits += np.uint64(number) * _ODD[2]
    bits = (bits ^ (bits >> _SHIFTS[0])) * _ODD[2]
    bits = (bits ^ (bits >> _SHIFTS[1])) * _ODD[3]
    bits = bits ^ (bits >> _SHIFTS[2])
    value: float = (np.float64(bits >> _SHIFTS[3]) + 0.5) * 2.0**-53
    return value


@inlined
def gumbel(age_s: float, home: int, number: int) -> float:
    """A number of the standard Gumbel distribution; arguments as for :func:`uniform`."""
    value: float = -np.log(-np.log(uniform(age_s, home, number)))
    return value


@inlined
def score_of(
    rule: Rule, seen: Floats, site: int, mean_s: float, weight: float, least_quality: float, full_quality: float
) -> float:
    """Score of a candidate; the highest is chosen. In utility for routers by prices, else in seconds."""
    if rule.router == PRICED:
        return _worth(rule, seen, site, mean_s, weight, least_quality, full_quality)
    return -_weighed_s(rule, seen, site, mean_s)


@inlined
def _weighed_s(rule: Rule, seen: Floats, site: int, mean_s: float) -> float:
    """Weighed time of completion, s."""
    load = rule.load_weight * (1.0 + rule.load_crowding * mean_s)
    cost: float = seen[site, BACKLOG] + seen[site, NETWORK] + load * seen[site, LOAD]
    cost += rule.service_weight * seen[site, FULL]
    if seen[site, SLACK] < 0.0:
        cost += rule.late_s
    if site == seen.shape[0] - 1:
        cost += rule.cloud_s
    elif seen[site, RESIDENT] == 0.0:
        cost += rule.spill_s
    return cost


@inlined
def _worth(
    rule: Rule, seen: Floats, site: int, mean_s: float, weight: float, least_quality: float, full_quality: float
) -> float:
    """What a request would be worth, less a price of the site's time."""
    cloud = site == seen.shape[0] - 1
    busy_s = seen[site, BACKLOG] + seen[site, LOAD] + seen[site, NETWORK]
    room_s = seen[site, FULL] - seen[site, LEAST]
    value = value_of(weight, least_quality, full_quality, room_s)
    slack_s = seen[site, SLACK] - (0.0 if cloud else rule.margin_s)
    share = steps_share(rule, slack_s, room_s, seen[site, BACKLOG], mean_s, cloud, value, seen[site, WORK_PRICE])
    work_s = seen[site, LEAST] + share * room_s
    if slack_s < 0.0:
        worth = -rule.late_penalty * weight
    else:
        worth = weight * (least_quality + share * (full_quality - least_quality))
    score: float = worth - (rule.delay_price + rule.haste) * (busy_s + work_s) - seen[site, PRICE]
    score -= seen[site, WORK_PRICE] * work_s
    if not cloud:
        price = rule.work_price + rule.crowding_price * mean_s
        score -= price * (rule.load_weight * seen[site, LOAD] + work_s) * np.sqrt(seen[site, SPEED])
    return score


@compiled
def _drawn(rule: Rule, seen: Floats, home: int, site: int, age_s: float) -> float:
    """Key of a site that is drawn by its speed, and more often if it has the model: the highest key is drawn."""
    key: float = np.log(seen[site, SPEED]) + rule.affinity * seen[site, RESIDENT] + gumbel(age_s, home, site)
    return key


@compiled
def _by_speed(rule: Rule, seen: Floats, home: int, age_s: float) -> int:
    """A site drawn by its speed among those that are in time; the cloud if only that is."""
    best, highest, cloud = 0, -np.inf, int(seen.shape[0]) - 1
    for site in range(cloud):
        key = _drawn(rule, seen, home, site, age_s)
        if seen[site, SLACK] < 0.0:
            key -= 1e6
        if key > highest:
            best, highest = site, key
    if seen[best, SLACK] < 0.0 <= seen[cloud, SLACK]:
        best = cloud
    return best


@compiled
def _of_two(rule: Rule, seen: Floats, home: int, age_s: float, mean_s: float) -> int:
    """The better of two sites that are drawn by their speed, and of the cloud."""
    cloud = int(seen.shape[0]) - 1
    one, other, high, next_high = cloud, cloud, -np.inf, -np.inf
    for site in range(cloud):
        key = _drawn(rule, seen, home, site, age_s)
        if key > high:
            one, other, high, next_high = site, one, key, high
        elif key > next_high:
            other, next_high = site, key
    best, least = cloud, _weighed_s(rule, seen, cloud, mean_s)
    for site in (other, one):
        cost = _weighed_s(rule, seen, site, mean_s)
        if cost <= least:
            best, least = site, cost
    return best


@inlined
def best_site(
    rule: Rule, seen: Floats, home: int, weight: float, least_quality: float, full_quality: float, age_s: float = 0.0
) -> int:
    """Site for a request, S for the cloud, S + 1 to refuse it.

    Args:
        rule: The rule.
        seen: What is known of each candidate ``[S + 1, 11]``, columns as in :mod:`edgegen.envs.fleet.physics`.
        home: Where the request is.
        weight: Worth.
        least_quality: Quality with the fewest steps.
        full_quality: Quality with all steps.
        age_s: Age of the reports, s: what chance is drawn from.
    """
    if rule.router == HOME:
        return home
    mean_s = mean_backlog_s(seen)
    if rule.router == WEIGHTED:
        return _by_speed(rule, seen, home, age_s)
    if rule.router == OF_TWO:
        return _of_two(rule, seen, home, age_s, mean_s)
    noise = rule.noise * (1.0 if rule.router == PRICED else UNIT_S)
    best, highest = 0, -np.inf
    for site in range(seen.shape[0]):
        score = score_of(rule, seen, site, mean_s, weight, least_quality, full_quality)
        if noise > 0.0:
            chance = uniform(age_s, home, site)
            # A Gumbel number is below these bounds: most candidates have lost before two logarithms are taken.
            if chance < 0.99 and score + noise * (2.2504 if chance < 0.9 else 4.6002) <= highest:
                continue
            score -= noise * np.log(-np.log(chance))
        if score > highest:
            best, highest = site, score
    if rule.router == PRICED and -rule.refuse_price * weight > highest:
        best = seen.shape[0]
    return best
