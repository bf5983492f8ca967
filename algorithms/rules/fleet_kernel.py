# SPDX-License-Identifier: Apache-2.0
"""Rules of the fleet, compiled: whole episodes inside a kernel, and the same decisions for many copies at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.algorithms.rules.fleet_residency import residents
from edgegen.algorithms.rules.fleet_routers import best_site, score_of
from edgegen.algorithms.rules.fleet_steps import steps_share, value_of
from edgegen.envs.core.compiled import allocating, compiled
from edgegen.envs.core.threads import in_threads
from edgegen.envs.fleet.books import books_of
from edgegen.envs.fleet.draws import Ints, Requests, draw_requests
from edgegen.envs.fleet.physics import (
    BACKLOG,
    CANDIDATE,
    FULL,
    LEAST,
    RESULT,
    SLACK,
    WORK_PRICE,
    Books,
    Fixed,
    fixed_of,
    is_due,
    keep,
    least_quality_of,
    look,
    mean_backlog_s,
    outlook,
    place,
    true_backlog_s,
)
from edgegen.envs.fleet.scenario import FleetScenario, Floats

__all__ = ["Rule", "best_site", "play_drawn", "play_rule", "residents", "score_of", "steps_share"]


@compiled
def know(requests: Requests, books: Books, copy: int, seen: Floats) -> None:
    """Put the true backlogs in the place of what the home of the request that is due knows ``[S + 1, 11]``."""
    for site in range(seen.shape[0] - 1):
        left_s = true_backlog_s(requests, books, copy, site)
        seen[site, SLACK] = seen[site, SLACK] + seen[site, BACKLOG] - left_s
        seen[site, BACKLOG] = left_s


@compiled
def know_all(requests: Requests, books: Books, due: NDArray[np.bool_], seen: Floats, mean_s: Floats) -> None:
    """Do so for the request of each copy ``[E, S + 1, 11]``, and write the mean of its backlogs ``[E]``, s."""
    for copy in range(len(due)):
        if due[copy]:
            know(requests, books, copy, seen[copy])
            mean_s[copy] = mean_backlog_s(seen[copy])


@allocating
def play_copies(
    fixed: Fixed, requests: Requests, books: Books, frames: int, rule: Rule, first: int, end: int, results: Floats
) -> None:
    """Play whole episodes of some copies; writes what became of each request ``[E, N, 11]``."""
    sites = books.free_s.shape[1]
    seen, load_s, backlog_s = np.zeros((sites + 1, CANDIDATE)), np.zeros(books.resident.shape[1:]), np.zeros(sites)
    work_s = fixed.fixed_s + fixed.full_steps * fixed.step_s
    for copy in range(first, end):
        _play_copy(fixed, requests, books, frames, rule, copy, results, seen, load_s, backlog_s, work_s)


@compiled
def _play_copy(
    fixed: Fixed,
    requests: Requests,
    books: Books,
    frames: int,
    rule: Rule,
    copy: int,
    results: Floats,
    seen: Floats,
    load_s: Floats,
    backlog_s: Floats,
    work_s: Floats,
) -> None:
    """Play a whole episode of a copy; the last arrays are for scratch, but for the work of each model ``[M]``, s."""
    sites = books.free_s.shape[1]
    for frame in range(frames):
        now_s = frame * fixed.frame_s
        outlook(fixed, books, copy, now_s, load_s, backlog_s)
        residents(
            rule,
            books.demand[copy],
            books.resident[copy],
            fixed.size_gb,
            load_s,
            work_s,
            fixed.memory_gb,
            fixed.speed[:sites],
            backlog_s,
            books.wanted[copy],
        )
        keep(fixed, books, copy, now_s, frame == 0)
        end_s = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
        while is_due(requests, books, copy, end_s):
            k = books.cursor[copy]
            model = requests.model[copy, k]
            look(fixed, requests, books, copy, seen)
            if rule.informed:
                know(requests, books, copy, seen)
            weight, full = requests.weight[copy, k], fixed.full_quality[model]
            least = least_quality_of(fixed, requests, books, copy)
            age_s = requests.arrival_s[copy, k] - books.report[copy] * fixed.report_s
            site = best_site(rule, seen, requests.home[copy, k], weight, least, full, age_s)
            if site > sites:
                place(fixed, requests, books, copy, site, 0.0, results[copy, k])
                continue
            left_s = true_backlog_s(requests, books, copy, site)
            slack_s = seen[site, SLACK]
            if not rule.informed:
                slack_s = slack_s + seen[site, BACKLOG] - left_s
            room_s = seen[site, FULL] - seen[site, LEAST]
            value = value_of(weight, least, full, room_s)
            price = seen[site, WORK_PRICE]
            share = steps_share(rule, slack_s, room_s, left_s, mean_backlog_s(seen), site == sites, value, price)
            place(fixed, requests, books, copy, site, share, results[copy, k])


@allocating
def plan_all(
    rule: Rule,
    demand: Floats,
    resident: NDArray[np.uint8],
    size_gb: Floats,
    load_s: Floats,
    work_s: Floats,
    memory_gb: Floats,
    speed: Floats,
    backlog_s: Floats,
    wanted: NDArray[np.uint8],
) -> None:
    """Write what the sites of each copy are to keep ``[E, S, M]``; as :func:`residents`, with an axis E in front."""
    for e in range(len(demand)):
        models = (size_gb[e], load_s[e], work_s[e])
        residents(rule, demand[e], resident[e], *models, memory_gb[e], speed[e], backlog_s[e], wanted[e])


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
    rule: Rule,
    slack_s: Floats,
    room_s: Floats,
    backlog_s: Floats,
    mean_s: Floats,
    cloud: NDArray[np.bool_],
    weight: Floats,
    least: Floats,
    full: Floats,
    work_price: Floats,
    to: Floats,
) -> None:
    """Write the share of the steps of each copy's request ``[E]``."""
    for copy in range(len(to)):
        value = value_of(weight[copy], least[copy], full[copy], room_s[copy])
        busy = (backlog_s[copy], mean_s[copy])
        to[copy] = steps_share(rule, slack_s[copy], room_s[copy], *busy, cloud[copy], value, work_price[copy])


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
    fixed, books = fixed_of(scenario), books_of(scenario, requests)
    results = np.zeros((*requests.arrival_s.shape, RESULT))

    def play(first: int, end: int) -> None:
        play_copies(fixed, requests, books, scenario.frames, rule, first, end, results)

    in_threads(len(requests.number), play, threads)
    return requests, books, results
