# SPDX-License-Identifier: Apache-2.0
"""The rules of the fleet, compiled: what is reported, what a request meets at a site, what becomes of it.

Everything happens at arrivals and at the beginnings of frames. Sites serve in the order in which requests are placed, a
load is work like any other, and what a site keeps is what is resident when its queue has been worked off so far: so the
delay of a request is known as soon as it is placed. All functions change the books of one copy, in place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.compiled import compiled, inlined
from edgegen.envs.fleet.books import HEARD_PACE
from edgegen.envs.fleet.books import Books as Books
from edgegen.envs.fleet.books import Fixed as Fixed
from edgegen.envs.fleet.books import empty_books as empty_books
from edgegen.envs.fleet.books import fixed_of as fixed_of
from edgegen.envs.fleet.curves import grades_of, quality_of
from edgegen.envs.fleet.draws import ASKED, EXTRA, NOISE, UPLINK, Ints, Requests
from edgegen.envs.fleet.memory import bring, forget, source_time
from edgegen.envs.fleet.scenario import Floats
from edgegen.envs.fleet.sites import begin_s, end_s, expected_s, pace_at, served_s
from edgegen.envs.fleet.terms import AWAY, BUSY, REQUEST

BACKLOG, LOAD, FULL, LEAST, NETWORK, SLACK, PRICE, SPEED, RESIDENT, PACE, WORK_PRICE = range(11)
"""Columns of what is known of a candidate: s, s, s, s, s, s, price, speed, 0 or 1, share of its speed, price per s."""
CANDIDATE = 11
SITE, STEPS, TRANSFER, WAIT, LOADED, GENERATION, RETURN, DELAY, LATE, QUALITY, UTILITY = range(11)
"""Columns of what became of a request: site, steps, s, s, s, s, s, s, 0 or 1, quality, utility."""
RESULT = 11
FORGETTING = 0.5
"""What of a frame's demand still counts in the next one."""


@compiled
def hear(fixed: Fixed, books: Books, copy: int, report: int, now_s: float) -> None:
    """Take in the reports of all sites if they are new: when they are done, as they can know it, and their pace.

    Sites that have failed and forget do so first.
    """
    if fixed.forgetful:
        for site in range(books.free_s.shape[1]):
            forget(fixed, books, copy, site, now_s)
    if report == books.report[copy]:
        return
    books.report[copy] = report
    for other in range(books.free_s.shape[1]):
        done_s = books.free_s[copy, other]
        if books.happens.shape[2] > 0:
            row, at_s = books.happens[copy, other], report * fixed.report_s
            done_s = at_s + expected_s(row, at_s, done_s)
            books.own[copy, other, HEARD_PACE] = pace_at(row, at_s)
        books.heard_s[copy, 0, other] = done_s
    for site in range(1, books.free_s.shape[1]):  # row by row, as they lie in memory
        for other in range(books.free_s.shape[1]):
            books.heard_s[copy, site, other] = books.heard_s[copy, 0, other]


@inlined
def work_of(fixed: Fixed, requests: Requests, copy: int, k: int, steps: float) -> float:
    """Work of a request with some steps, s at speed 1."""
    model, pictures = requests.model[copy, k], requests.pictures[copy, k]
    if fixed.further < 0.0:
        work = pictures * (fixed.fixed_s[model] + steps * fixed.step_s[model])
    else:
        work = fixed.fixed_s[model] + steps * fixed.step_s[model] * (1.0 + fixed.further * (pictures - 1.0))
    whole: float = work + requests.more[copy, k, EXTRA]
    return whole


@inlined
def part_at(fixed: Fixed, now_s: float) -> int:
    """Number of the part of the day at a time of the episode."""
    part: int = int((now_s + fixed.begins_s) / fixed.part_s) % fixed.rates.shape[0]
    return part


@inlined
def look(fixed: Fixed, requests: Requests, books: Books, copy: int, seen: Floats) -> None:
    """Write what the home of the request that is due knows of each site and, last, of the cloud ``[S + 1, 11]``."""
    k = books.cursor[copy]
    now_s, home, model = requests.arrival_s[copy, k], requests.home[copy, k], requests.model[copy, k]
    deadline_s, uplink_s = requests.deadline_s[copy, k], requests.more[copy, k, UPLINK]
    full_steps = requests.more[copy, k, ASKED]
    report = int(np.floor(now_s / fixed.report_s))
    if report != books.report[copy] or fixed.forgetful:
        hear(fixed, books, copy, report, now_s)
    plain = books.happens.shape[2] == 0 and fixed.host_s == 0.0
    sites = books.free_s.shape[1]
    least = work_of(fixed, requests, copy, k, min(fixed.least_steps[model], full_steps))
    full = work_of(fixed, requests, copy, k, full_steps)
    for site in range(sites + 1):
        speed, pace, work_price = fixed.model_speed[site, model], 1.0, 0.0
        if site < sites:
            pace = books.own[copy, site, HEARD_PACE]
            going = pace if pace > 0.0 else 1.0
            speed *= going
            backlog = max(books.heard_s[copy, home, site] - now_s, 0.0)
            resident = float(books.resident[copy, site, model])
            load = 0.0 if resident > 0.0 else fixed.load_s[model]
            if load > 0.0 and not plain:
                load = source_time(fixed, books, copy, site, model) / going
            network = fixed.way_s[1, home, site] + fixed.way_s[0, home, site] + uplink_s
            price = 0.0 if site == home else fixed.hop_price
        else:
            backlog, resident, load, network, price = 0.0, 1.0, 0.0, fixed.cloud_s + uplink_s, fixed.cloud_price
            work_price = fixed.cloud_work_price * speed
        if fixed.rates.shape[0] > 0:
            charged = fixed.rates[part_at(fixed, now_s), site]
            price += charged[REQUEST] + charged[BUSY] * load
            if site != home:
                price += charged[AWAY]
            work_price += charged[BUSY]
        seen[site, BACKLOG] = backlog
        seen[site, LOAD] = load
        seen[site, FULL] = full / speed
        seen[site, LEAST] = least / speed
        seen[site, NETWORK] = network
        seen[site, SLACK] = deadline_s - backlog - load - network - least / speed
        seen[site, PRICE] = price
        seen[site, SPEED] = speed
        seen[site, RESIDENT] = resident
        seen[site, PACE] = pace
        seen[site, WORK_PRICE] = work_price


@inlined
def true_backlog_s(requests: Requests, books: Books, copy: int, site: int) -> float:
    """What a site has still to do when the request that is due arrives, as it can know it, s; nothing in the cloud."""
    if site >= books.free_s.shape[1]:
        return 0.0
    now_s, free_s = requests.arrival_s[copy, books.cursor[copy]], books.free_s[copy, site]
    if books.happens.shape[2] == 0:
        queue_s: float = max(free_s - now_s, 0.0)
        return queue_s
    left_s: float = expected_s(books.happens[copy, site], now_s, free_s)
    return left_s


@inlined
def mean_backlog_s(seen: Floats) -> float:
    """Mean backlog of all sites, as the home of a request knows it ``[S + 1, 11]``, s."""
    total, sites = 0.0, seen.shape[0] - 1
    for site in range(sites):
        total += seen[site, BACKLOG]
    mean_s: float = total / sites
    return mean_s


@inlined
def least_quality_of(fixed: Fixed, requests: Requests, books: Books, copy: int) -> float:
    """Quality of the request that is due with the fewest steps."""
    k = books.cursor[copy]
    model, full = requests.model[copy, k], requests.more[copy, k, ASKED]
    least = min(fixed.least_steps[model], full)
    return quality_of(fixed, model, least, least, full)


@inlined
def place(fixed: Fixed, requests: Requests, books: Books, copy: int, site: int, share: float, result: Floats) -> None:
    """Place the request that is due at a site, with a share of the steps between the fewest and all; write ``[11]``.

    Site S is the cloud; S + 1 refuses it. The number of steps is rounded down, so that a deadline that is just kept
    stays kept.
    """
    k = books.cursor[copy]
    now_s, home, model = requests.arrival_s[copy, k], requests.home[copy, k], requests.model[copy, k]
    weight, sites = requests.weight[copy, k], books.free_s.shape[1]
    books.demand[copy, home, model] += 1.0
    books.cursor[copy] = k + 1
    if site > sites:
        result[:] = 0.0
        result[SITE], result[UTILITY] = site, -fixed.refuse_price * weight
        return
    full = requests.more[copy, k, ASKED]
    least = min(fixed.least_steps[model], full)
    steps = least + np.floor(min(max(share, 0.0), 1.0) * (full - least) + 1e-9)
    work = work_of(fixed, requests, copy, k, steps)
    service = work / fixed.model_speed[site, model]
    generation = service * requests.more[copy, k, NOISE]
    wait, load, transfer = 0.0, 0.0, requests.more[copy, k, UPLINK]
    if site == sites:
        transfer, back = transfer + fixed.cloud_s, 0.0
        price = fixed.cloud_price + fixed.cloud_work_price * work
    else:
        transfer, back = transfer + fixed.way_s[0, home, site], fixed.way_s[1, home, site]
        price = 0.0 if site == home else fixed.hop_price
        expected = load
        if books.resident[copy, site, model] == 0:
            expected, load = bring(fixed, books, copy, site, model, False)
        begun_s = max(books.free_s[copy, site], now_s)
        done_s = begun_s + load + generation
        if books.happens.shape[2] > 0:
            begun_s, loaded_s, done_s = served_s(books.happens, copy, site, begun_s, load, generation)
            load, generation = loaded_s - begun_s, done_s - loaded_s
            pace = books.own[copy, site, HEARD_PACE]
            if pace > 0.0:
                expected, service = expected / pace, service / pace
        wait = begun_s - now_s
        books.used_s[copy, site, model] = now_s
        books.free_s[copy, site] = done_s
        books.heard_s[copy, home, site] = max(books.heard_s[copy, home, site], now_s) + expected + service
    if fixed.rates.shape[0] > 0:
        charged = fixed.rates[part_at(fixed, now_s), site]
        price += charged[REQUEST] + charged[BUSY] * (load + generation)
        if site != home:
            price += charged[AWAY]
    delay = transfer + wait + load + generation + back
    late = delay > requests.deadline_s[copy, k] + 1e-9
    quality = quality_of(fixed, model, steps, least, full)
    worth = quality
    if late:
        worth = -fixed.late_penalty
        if fixed.late_decay >= 0.0:
            over = (delay - requests.deadline_s[copy, k]) / requests.deadline_s[copy, k]
            worth += quality * np.exp(-fixed.late_decay * over)
    result[SITE], result[STEPS], result[TRANSFER], result[WAIT] = site, steps, transfer, wait
    result[LOADED], result[GENERATION], result[RETURN], result[DELAY] = load, generation, back, delay
    result[LATE], result[QUALITY] = 1.0 if late else 0.0, quality
    result[UTILITY] = weight * worth - fixed.delay_price * delay - price


@compiled
def keep(fixed: Fixed, books: Books, copy: int, now_s: float, first: bool) -> None:
    """Bring in what the cachers want, as far as memory goes: the most demanded first, then the lowest numbers.

    What else is resident stays where there is room. The loads are work of the site; those of the first frame are free.
    """
    _, sites, models = books.resident.shape
    for site in range(sites):
        forget(fixed, books, copy, site, now_s)
        while True:  # amend: the least demanded of what is wanted goes until the rest fits
            taken_gb, worst = 0.0, -1
            for model in range(models):
                if books.wanted[copy, site, model]:
                    taken_gb += fixed.size_gb[model]
                    if worst < 0 or books.demand[copy, site, model] <= books.demand[copy, site, worst]:
                        worst = model
            if taken_gb <= fixed.memory_gb[site]:
                break
            books.wanted[copy, site, worst] = 0
        for model in range(models):
            if books.wanted[copy, site, model] and not books.resident[copy, site, model]:
                load = bring(fixed, books, copy, site, model, first)[1]
                if not first:
                    begun_s = max(books.free_s[copy, site], now_s)
                    if books.happens.shape[2] > 0:
                        row = books.happens[copy, site]
                        books.free_s[copy, site] = end_s(row, begin_s(row, begun_s), load)
                    else:
                        books.free_s[copy, site] = begun_s + load
        for model in range(models):
            books.demand[copy, site, model] *= FORGETTING


@compiled
def outlook(fixed: Fixed, books: Books, copy: int, now_s: float, load_s: Floats, backlog_s: Floats) -> None:
    """Write how long each site would load each model ``[S, M]``, and what it has to do ``[S]``, s.

    That is what cachers can know. A site that has failed and forgets does so first.
    """
    for site in range(books.resident.shape[1]):
        forget(fixed, books, copy, site, now_s)
        backlog_s[site] = max(books.free_s[copy, site] - now_s, 0.0)
        if books.happens.shape[2] > 0:
            backlog_s[site] = expected_s(books.happens[copy, site], now_s, books.free_s[copy, site])
        for model in range(books.resident.shape[2]):
            load_s[site, model] = source_time(fixed, books, copy, site, model)


@inlined
def is_due(requests: Requests, books: Books, copy: int, end_s: float) -> bool:
    """Whether a request arrives before a time."""
    k = books.cursor[copy]
    arrival_s = requests.arrival_s[copy, min(k, requests.arrival_s.shape[1] - 1)]
    return bool((k < requests.number[copy]) & (arrival_s < end_s))


@compiled
def look_all(
    fixed: Fixed, requests: Requests, books: Books, end_s: float, due: NDArray[np.bool_], seen: Floats
) -> None:
    """Find the copies with a request before the end of the frame, and write what its home knows ``[E, S + 1, 11]``."""
    for copy in range(len(due)):
        due[copy] = is_due(requests, books, copy, end_s)
        if due[copy]:
            look(fixed, requests, books, copy, seen[copy])


@compiled
def backlogs_all(
    requests: Requests,
    books: Books,
    due: NDArray[np.bool_],
    site: Ints,
    seen: Floats,
    backlog_s: Floats,
    mean_s: Floats,
) -> None:
    """Write the true backlog of each copy's chosen site, and the mean of all as its home knows it ``[E]``, s."""
    for copy in range(len(due)):
        backlog_s[copy] = true_backlog_s(requests, books, copy, site[copy]) if due[copy] else 0.0
        mean_s[copy] = mean_backlog_s(seen[copy])


@compiled
def place_all(
    fixed: Fixed, requests: Requests, books: Books, due: NDArray[np.bool_], site: Ints, share: Floats, result: Floats
) -> None:
    """Place the request that is due in each copy; write what became of it ``[E, 11]``."""
    for copy in range(len(due)):
        if due[copy]:
            place(fixed, requests, books, copy, site[copy], share[copy], result[copy])


@compiled
def keep_all(fixed: Fixed, books: Books, now_s: float, first: bool) -> None:
    """Let the cachers of all copies have what they want."""
    for copy in range(len(books.cursor)):
        keep(fixed, books, copy, now_s, first)


@compiled
def outlook_all(fixed: Fixed, books: Books, now_s: float, load_s: Floats, backlog_s: Floats) -> None:
    """Write what the cachers of all copies can know ``[E, S, M]``, ``[E, S]``."""
    for copy in range(len(books.cursor)):
        outlook(fixed, books, copy, now_s, load_s[copy], backlog_s[copy])


@compiled
def grades_all(fixed: Fixed, requests: Requests, books: Books, due: NDArray[np.bool_], grades: Floats) -> None:
    """Write the curve of the request that is due in each copy ``[E, 9]``."""
    for copy in range(len(due)):
        if due[copy]:
            k = books.cursor[copy]
            model, full = requests.model[copy, k], requests.more[copy, k, ASKED]
            grades_of(fixed, model, min(fixed.least_steps[model], full), full, grades[copy])
