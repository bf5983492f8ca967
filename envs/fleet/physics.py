"""The rules of the fleet, compiled: what is reported, what a request meets at a site, what becomes of it.

Everything happens at arrivals and at the beginnings of frames. Sites serve in the order in which requests are placed, a
load is work like any other, and what a site keeps is what is resident when its queue has been worked off so far: so the
delay of a request is known as soon as it is placed. All functions change the books of one copy, in place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.draws import Ints, Requests
from edgegen.envs.fleet.scenario import FleetScenario, Floats

BACKLOG, LOAD, FULL, LEAST, NETWORK, SLACK, PRICE, SPEED, RESIDENT = range(9)
"""Columns of what is known of a candidate: s, s, s, s, s, s, price, speed, 0 or 1."""
CANDIDATE = 9
SITE, STEPS, TRANSFER, WAIT, LOADED, GENERATION, RETURN, DELAY, LATE, QUALITY, UTILITY = range(11)
"""Columns of what became of a request: site, steps, s, s, s, s, s, s, 0 or 1, quality, utility."""
RESULT = 11
FORGETTING = 0.5
"""What of a frame's demand still counts in the next one."""


class Fixed(NamedTuple):
    """What does not change: sites ``[S]`` (the cloud's speed comes last), models ``[M]``, links, prices."""

    speed: Floats
    memory_gb: Floats
    size_gb: Floats
    load_s: Floats
    step_s: Floats
    fixed_s: Floats
    least_steps: Floats
    full_steps: Floats
    least_quality: Floats
    full_quality: Floats
    hop_s: float
    upload_s: float
    result_s: float
    report_s: float
    frame_s: float
    cloud_s: float
    cloud_price: float
    late_penalty: float
    delay_price: float
    hop_price: float
    refuse_price: float


class Books(NamedTuple):
    """Everything that changes, of E copies; a fork is a copy of these arrays.

    Attributes:
        free_s: When each site has done all that is placed there ``[E, S]``, s.
        heard_s: The same as each site believes of each other one: what was last reported, and what it has placed there
            itself since ``[E, S, S]``, s.
        report: Number of the last report ``[E]``.
        resident: Whether a model is in memory at the end of a site's queue ``[E, S, M]``, 0 or 1.
        wanted: What the cacher wants there ``[E, S, M]``, 0 or 1.
        used_s: When it was last asked for there ``[E, S, M]``, s.
        demand: Requests of a site's users for each model, older frames counting less ``[E, S, M]``.
        cursor: Number of the request that is due ``[E]``.
        loads: Loads so far, those of the first frame excepted ``[E]``.
    """

    free_s: Floats
    heard_s: Floats
    report: Ints
    resident: NDArray[np.uint8]
    wanted: NDArray[np.uint8]
    used_s: Floats
    demand: Floats
    cursor: Ints
    loads: Ints


def fixed_of(scenario: FleetScenario) -> Fixed:
    """Return the constants of a scenario."""
    models = scenario.kinds_of_models

    def column(name: str) -> Floats:
        return np.array([getattr(model, name) for model in models], dtype=np.float64)

    return Fixed(
        np.array([*scenario.site_speed, scenario.cloud.speed]),
        np.array(scenario.site_memory_gb),
        column("size_gb"),
        column("load_s") * scenario.load_factor,
        column("step_s"),
        column("fixed_s"),
        column("least_steps"),
        column("full_steps"),
        column("least_quality"),
        column("full_quality"),
        float(scenario.hop_s),
        scenario.upload_mbit / scenario.rate_mbit_s,
        scenario.result_mbit / scenario.rate_mbit_s,
        float(scenario.report_s),
        float(scenario.frame_s),
        float(scenario.cloud.distance_s),
        float(scenario.cloud.price),
        float(scenario.late_penalty),
        float(scenario.delay_price),
        float(scenario.hop_price),
        np.inf if scenario.refuse_price is None else float(scenario.refuse_price),
    )


def empty_books(copies: int, sites: int, models: int) -> Books:
    """Return the books before anything has happened."""
    per_site, per_model = (copies, sites), (copies, sites, models)
    return Books(
        np.zeros(per_site),
        np.zeros((copies, sites, sites)),
        np.full(copies, -1, dtype=np.int64),
        np.zeros(per_model, dtype=np.uint8),
        np.zeros(per_model, dtype=np.uint8),
        np.zeros(per_model),
        np.zeros(per_model),
        np.zeros(copies, dtype=np.int64),
        np.zeros(copies, dtype=np.int64),
    )


@compiled
def hear(fixed: Fixed, books: Books, copy: int, now_s: float) -> None:
    """Take in the reports of all sites if new ones are due."""
    report = int(np.floor(now_s / fixed.report_s))
    if report != books.report[copy]:
        books.report[copy] = report
        for site in range(books.free_s.shape[1]):
            for other in range(books.free_s.shape[1]):
                books.heard_s[copy, site, other] = books.free_s[copy, other]


@compiled
def look(fixed: Fixed, requests: Requests, books: Books, copy: int, seen: Floats) -> None:
    """Write what the home of the request that is due knows of each site and, last, of the cloud ``[S + 1, 9]``."""
    k = books.cursor[copy]
    now_s, home, model = requests.arrival_s[copy, k], requests.home[copy, k], requests.model[copy, k]
    pictures, deadline_s = requests.pictures[copy, k], requests.deadline_s[copy, k]
    hear(fixed, books, copy, now_s)
    sites = books.free_s.shape[1]
    least = pictures * (fixed.fixed_s[model] + fixed.least_steps[model] * fixed.step_s[model])
    full = pictures * (fixed.fixed_s[model] + fixed.full_steps[model] * fixed.step_s[model])
    for site in range(sites + 1):
        speed = fixed.speed[site]
        if site < sites:
            backlog = max(books.heard_s[copy, home, site] - now_s, 0.0)
            resident = float(books.resident[copy, site, model])
            network = fixed.result_s + (0.0 if site == home else fixed.hop_s + fixed.upload_s)
            price = 0.0 if site == home else fixed.hop_price
        else:
            backlog, resident, network, price = 0.0, 1.0, fixed.cloud_s, fixed.cloud_price
        load = 0.0 if resident > 0 else fixed.load_s[model]
        seen[site, BACKLOG] = backlog
        seen[site, LOAD] = load
        seen[site, FULL] = full / speed
        seen[site, LEAST] = least / speed
        seen[site, NETWORK] = network
        seen[site, SLACK] = deadline_s - backlog - load - network - least / speed
        seen[site, PRICE] = price
        seen[site, SPEED] = speed
        seen[site, RESIDENT] = resident


@compiled
def true_backlog_s(requests: Requests, books: Books, copy: int, site: int) -> float:
    """What a site has still to do when the request that is due arrives, s; nothing in the cloud."""
    if site >= books.free_s.shape[1]:
        return 0.0
    left_s: float = max(books.free_s[copy, site] - requests.arrival_s[copy, books.cursor[copy]], 0.0)
    return left_s


@compiled
def mean_backlog_s(seen: Floats) -> float:
    """Mean backlog of all sites, as the home of a request knows it ``[S + 1, 9]``, s."""
    total, sites = 0.0, seen.shape[0] - 1
    for site in range(sites):
        total += seen[site, BACKLOG]
    mean_s: float = total / sites
    return mean_s


@compiled
def make_room(fixed: Fixed, books: Books, copy: int, site: int, model: int) -> None:
    """Evict until a model fits: first what the cacher does not want, and what was asked for longest ago."""
    models = books.resident.shape[2]
    while True:
        taken_gb, worst = fixed.size_gb[model], -1
        for other in range(models):
            if books.resident[copy, site, other] == 0 or other == model:
                continue
            taken_gb += fixed.size_gb[other]
            if worst < 0:
                worst = other
                continue
            wanted, least = books.wanted[copy, site, other], books.wanted[copy, site, worst]
            if wanted < least or (
                wanted == least and books.used_s[copy, site, other] < books.used_s[copy, site, worst]
            ):
                worst = other
        if taken_gb <= fixed.memory_gb[site] or worst < 0:
            return
        books.resident[copy, site, worst] = 0


@compiled
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
    least, full = fixed.least_steps[model], fixed.full_steps[model]
    steps = least + np.floor(min(max(share, 0.0), 1.0) * (full - least) + 1e-9)
    work = requests.pictures[copy, k] * (fixed.fixed_s[model] + steps * fixed.step_s[model])
    generation = work / fixed.speed[site]
    wait, load, price = 0.0, 0.0, 0.0
    if site == sites:
        transfer, back, price = fixed.cloud_s, 0.0, fixed.cloud_price
    else:
        transfer, back = 0.0, fixed.result_s
        wait = max(books.free_s[copy, site] - now_s, 0.0)
        if site != home:
            transfer, price = fixed.hop_s + fixed.upload_s, fixed.hop_price
        if books.resident[copy, site, model] == 0:
            load = fixed.load_s[model]
            make_room(fixed, books, copy, site, model)
            books.resident[copy, site, model] = 1
            books.loads[copy] += 1
        books.used_s[copy, site, model] = now_s
        books.free_s[copy, site] = max(books.free_s[copy, site], now_s) + load + generation
        books.heard_s[copy, home, site] = max(books.heard_s[copy, home, site], now_s) + load + generation
    delay = transfer + wait + load + generation + back
    late = delay > requests.deadline_s[copy, k] + 1e-9
    rise = 1.0 if full == least else (steps - least) / (full - least)
    quality = fixed.least_quality[model] + rise * (fixed.full_quality[model] - fixed.least_quality[model])
    worth = -fixed.late_penalty if late else quality
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
                make_room(fixed, books, copy, site, model)
                books.resident[copy, site, model] = 1
                if not first:
                    books.free_s[copy, site] = max(books.free_s[copy, site], now_s) + fixed.load_s[model]
                    books.loads[copy] += 1
        for model in range(models):
            books.demand[copy, site, model] *= FORGETTING


@compiled
def is_due(requests: Requests, books: Books, copy: int, end_s: float) -> bool:
    """Whether a request arrives before a time."""
    k = books.cursor[copy]
    return bool(k < requests.number[copy] and requests.arrival_s[copy, k] < end_s)


@compiled
def look_all(
    fixed: Fixed, requests: Requests, books: Books, end_s: float, due: NDArray[np.bool_], seen: Floats
) -> None:
    """Find the copies with a request before the end of the frame, and write what its home knows ``[E, S + 1, 9]``."""
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
