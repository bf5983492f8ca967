"""Rules of the fleet, compiled: the same functions decide in a policy and inside a kernel that plays whole episodes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.draws import Ints, Requests, draw_requests
from edgegen.envs.fleet.physics import (
    BACKLOG,
    FULL,
    LEAST,
    LOAD,
    NETWORK,
    PRICE,
    RESIDENT,
    RESULT,
    SLACK,
    SPEED,
    Books,
    Fixed,
    empty_books,
    fixed_of,
    is_due,
    keep,
    look,
    mean_backlog_s,
    place,
    true_backlog_s,
)
from edgegen.envs.fleet.scenario import FleetScenario, Floats

HOME, EARLIEST, AFFINITY, PRICED = range(4)
"""Routers: at home; where it is ready first; the same among sites that have the model; by prices."""
ALL, IN_TIME, LADDER = range(3)
"""Steps: all; as many as the deadline allows; fewer still while sites are busy."""
AS_IS, PLAN = range(2)
"""Residency: what is there; what is asked for most, spread over the sites."""


class Rule(NamedTuple):
    """A rule with its constants; see :class:`edgegen.algorithms.rules.fleet.Prices`."""

    router: int
    steps: int
    residency: int
    late_penalty: float
    delay_price: float
    load_weight: float = 1.0
    work_price: float = 0.03
    crowding_price: float = 0.02
    ladder_slope: float = 0.06
    ladder_from_s: float = 1.0
    own_share: float = 0.5
    keeping: float = 1.0
    noise: float = 0.0
    refuse_price: float = np.inf


_ODD = tuple(
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_SHIFTS = tuple(np.uint64(value) for value in (30, 27, 31, 11))


@compiled
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


@compiled
def gumbel(age_s: float, home: int, number: int) -> float:
    """A number of the standard Gumbel distribution; arguments as for :func:`uniform`."""
    value: float = -np.log(-np.log(uniform(age_s, home, number)))
    return value


@compiled
def steps_share(rule: Rule, slack_s: float, room_s: float, backlog_s: float, mean_s: float, cloud: bool) -> float:
    """Share of the steps between the fewest and all; ``room_s`` is the time that all of these take."""
    if rule.steps == ALL:
        return 1.0
    share = 1.0 if slack_s >= room_s else max(slack_s / room_s, 0.0)
    if rule.steps == LADDER and not cloud:
        busy_s = rule.own_share * backlog_s + (1.0 - rule.own_share) * mean_s
        share = min(share, max(1.0 - rule.ladder_slope * max(busy_s - rule.ladder_from_s, 0.0), 0.0))
    return share


@compiled
def score_of(
    rule: Rule, seen: Floats, site: int, mean_s: float, weight: float, least_quality: float, full_quality: float
) -> float:
    """Score of a candidate; the highest is chosen. In utility for routers by prices, else in seconds."""
    cloud = site == seen.shape[0] - 1
    busy_s = seen[site, BACKLOG] + seen[site, LOAD] + seen[site, NETWORK]
    if rule.router != PRICED:
        score = -(busy_s + seen[site, FULL])
        if rule.router == AFFINITY and (seen[site, RESIDENT] == 0.0 or cloud):
            score -= 1e6
        return score
    room_s = seen[site, FULL] - seen[site, LEAST]
    share = steps_share(rule, seen[site, SLACK], room_s, seen[site, BACKLOG], mean_s, cloud)
    work_s = seen[site, LEAST] + share * room_s
    if seen[site, SLACK] < 0.0:
        worth = -rule.late_penalty * weight
    else:
        worth = weight * (least_quality + share * (full_quality - least_quality))
    score = worth - rule.delay_price * (busy_s + work_s) - seen[site, PRICE]
    if not cloud:
        price = rule.work_price + rule.crowding_price * mean_s
        score -= price * (rule.load_weight * seen[site, LOAD] + work_s) * np.sqrt(seen[site, SPEED])
    return score


@compiled
def best_site(
    rule: Rule, seen: Floats, home: int, weight: float, least_quality: float, full_quality: float, age_s: float = 0.0
) -> int:
    """Site for a request, S for the cloud, S + 1 to refuse it, from what is known of each candidate ``[S + 1, 9]``."""
    if rule.router == HOME:
        return home
    mean_s = mean_backlog_s(seen)
    best, highest = 0, -np.inf
    for site in range(seen.shape[0]):
        score = score_of(rule, seen, site, mean_s, weight, least_quality, full_quality)
        if rule.router == PRICED and rule.noise > 0.0:
            score += rule.noise * gumbel(age_s, home, site)
        if score > highest:
            best, highest = site, score
    if rule.router == PRICED and -rule.refuse_price * weight > highest:
        best = seen.shape[0]
    return best


@compiled
def residents(
    rule: Rule,
    demand: Floats,
    resident: NDArray[np.uint8],
    size_gb: Floats,
    work_s: Floats,
    memory_gb: Floats,
    speed: Floats,
    wanted: NDArray[np.uint8],
) -> None:
    """Write what each site is to keep ``[S, M]``.

    Site by site, models in the order of log(share of the work) − log(share of the speed that has it already), plus a
    bonus for what is there. The form is that of our studies.
    """
    sites, models = demand.shape
    if rule.residency == AS_IS:
        wanted[:] = resident
        return
    share, covered, total_speed = np.zeros(models), np.zeros(models), 0.0
    for model in range(models):
        for site in range(sites):
            share[model] += demand[site, model]
        share[model] = (share[model] + 1e-2) * work_s[model]
    share /= share.sum()
    for site in range(sites):
        total_speed += speed[site]
    for site in range(sites):
        left_gb, number = memory_gb[site], 0
        wanted[site] = 0
        score = np.log(share + 1e-3) - np.log(covered / total_speed + 0.05)
        for model in range(models):
            if resident[site, model]:
                score[model] += rule.keeping
        while True:
            best = -1
            for model in range(models):
                free = wanted[site, model] == 0 and size_gb[model] <= left_gb
                if free and (best < 0 or score[model] > score[best]):
                    best = model
            if best < 0:
                break
            wanted[site, best] = 1
            left_gb -= size_gb[best]
            number += 1
        for model in range(models):
            if wanted[site, model]:
                covered[model] += speed[site] / number


@compiled
def play_copies(
    fixed: Fixed, requests: Requests, books: Books, frames: int, rule: Rule, first: int, end: int, results: Floats
) -> None:
    """Play whole episodes of some copies; writes what became of each request ``[E, N, 11]``."""
    sites = books.free_s.shape[1]
    seen = np.zeros((sites + 1, 9))
    work_s = fixed.fixed_s + fixed.full_steps * fixed.step_s
    for copy in range(first, end):
        for frame in range(frames):
            residents(
                rule,
                books.demand[copy],
                books.resident[copy],
                fixed.size_gb,
                work_s,
                fixed.memory_gb,
                fixed.speed,
                books.wanted[copy],
            )
            keep(fixed, books, copy, frame * fixed.frame_s, frame == 0)
            end_s = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
            while is_due(requests, books, copy, end_s):
                k = books.cursor[copy]
                model = requests.model[copy, k]
                look(fixed, requests, books, copy, seen)
                least, full = fixed.least_quality[model], fixed.full_quality[model]
                age_s = requests.arrival_s[copy, k] - books.report[copy] * fixed.report_s
                site = best_site(rule, seen, requests.home[copy, k], requests.weight[copy, k], least, full, age_s)
                if site > sites:
                    place(fixed, requests, books, copy, site, 0.0, results[copy, k])
                    continue
                backlog_s = true_backlog_s(requests, books, copy, site)
                slack_s = seen[site, SLACK] + seen[site, BACKLOG] - backlog_s
                room_s = seen[site, FULL] - seen[site, LEAST]
                share = steps_share(rule, slack_s, room_s, backlog_s, mean_backlog_s(seen), site == sites)
                place(fixed, requests, books, copy, site, share, results[copy, k])


@compiled
def route_all(
    rule: Rule,
    seen: Floats,
    home: Ints,
    weight: Floats,
    least: Floats,
    full: Floats,
    age_s: Floats,
    due: NDArray[np.bool_],
    to: Ints,
) -> None:
    """Write the site of each copy's request ``[E]``."""
    for copy in range(len(due)):
        if due[copy]:
            to[copy] = best_site(rule, seen[copy], home[copy], weight[copy], least[copy], full[copy], age_s[copy])


@compiled
def share_all(
    rule: Rule, slack_s: Floats, room_s: Floats, backlog_s: Floats, mean_s: Floats, cloud: NDArray[np.bool_], to: Floats
) -> None:
    """Write the share of the steps of each copy's request ``[E]``."""
    for copy in range(len(to)):
        to[copy] = steps_share(rule, slack_s[copy], room_s[copy], backlog_s[copy], mean_s[copy], cloud[copy])


def play_rule(
    scenario: FleetScenario, rule: Rule, seed: int, episodes: range, threads: int = 1
) -> tuple[Requests, Books, Floats]:
    """Play whole episodes without leaving the kernel; bit for bit what the world and the rule as a policy give.

    Args:
        scenario: The world.
        rule: Who decides.
        seed: Root of the stream.
        episodes: Numbers of the episodes; copies are independent of one another.
        threads: Threads that share the copies.

    Returns:
        The requests, the books at the end, and what became of each request ``[E, N, 11]``, zeros where there is none.
    """
    return play_drawn(scenario, rule, draw_requests(scenario, seed, episodes), threads)


def play_drawn(
    scenario: FleetScenario, rule: Rule, requests: Requests, threads: int = 1
) -> tuple[Requests, Books, Floats]:
    """Play given requests; as :func:`play_rule`."""
    copies, width = requests.arrival_s.shape
    fixed, books = fixed_of(scenario), empty_books(copies, scenario.sites, len(scenario.kinds_of_models))
    results = np.zeros((copies, width, RESULT))
    edges = np.linspace(0, copies, min(threads, copies) + 1).astype(int).tolist()
    with ThreadPoolExecutor(len(edges) - 1) as pool:

        def play(first: int, end: int) -> None:
            play_copies(fixed, requests, books, scenario.frames, rule, first, end, results)

        list(pool.map(play, edges[:-1], edges[1:]))
    return requests, books, results
