# SPDX-License-Identifier: Apache-2.0
"""Kernels of the learned fleet: whole episodes, and what is left of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgegen.algorithms.fleet.decisions import (
    CACHER_FEATURES,
    Asked,
    Brain,
    Placed,
    choose,
    divide,
    plan,
)
from edgegen.envs.core.compiled import allocating, compiled, inlined
from edgegen.envs.fleet.draws import Requests
from edgegen.envs.fleet.physics import (
    BACKLOG,
    CANDIDATE,
    FULL,
    LEAST,
    LOAD,
    RESULT,
    SLACK,
    SPEED,
    UTILITY,
    WORK_PRICE,
    Books,
    Fixed,
    is_due,
    keep,
    least_quality_of,
    look,
    mean_backlog_s,
    outlook,
    place,
    true_backlog_s,
)
from edgegen.envs.fleet.scenario import Floats


class Desk(NamedTuple):
    """Arrays for scratch, one desk for every copy that is played at a time."""

    seen: Floats
    scores: Floats
    latent: Floats
    route: Floats
    allocate: Floats
    share: Floats
    cache_scores: Floats
    cache_latent: Floats
    cache: Floats
    result: Floats
    scratch: Floats


@allocating
def new_desk(brain: Brain, sites: int, models: int) -> Desk:
    """Return scratch arrays."""
    width = max(len(brain.router.bias), len(brain.allocator.bias))
    return Desk(
        np.zeros((sites + 1, CANDIDATE)),
        np.zeros(sites + 1),
        np.zeros(sites + 1),
        np.zeros((sites + 1, brain.router.features.shape[0])),
        np.zeros((1, brain.allocator.features.shape[0])),
        np.zeros(1),
        np.zeros((sites, models)),
        np.zeros((sites, models)),
        np.zeros((sites, models, CACHER_FEATURES)),
        np.zeros(RESULT),
        np.zeros((sites + 1, 2 * width)),
    )


@inlined
def route(brain: Brain, fixed: Fixed, requests: Requests, books: Books, copy: int, desk: Desk) -> int:
    """Look, and choose a site for the request that is due."""
    look(fixed, requests, books, copy, desk.seen)
    k = books.cursor[copy]
    model, replicas = requests.model[copy, k], 0.0
    for site in range(books.resident.shape[1]):
        replicas += books.resident[copy, site, model]
    asked = Asked(
        requests.home[copy, k],
        requests.weight[copy, k],
        requests.deadline_s[copy, k],
        least_quality_of(fixed, requests, books, copy),
        fixed.full_quality[model],
        requests.arrival_s[copy, k] - books.report[copy] * fixed.report_s,
        replicas,
    )
    return choose(brain, desk.seen, asked, desk.scores, desk.latent, desk.route, desk.scratch)


@inlined
def allocate(brain: Brain, fixed: Fixed, requests: Requests, books: Books, copy: int, site: int, desk: Desk) -> float:
    """Choose the share of the steps of the request that is due, which the router has looked at."""
    k, seen = books.cursor[copy], desk.seen[site]
    model = requests.model[copy, k]
    backlog_s = true_backlog_s(requests, books, copy, site)
    slack_s = seen[SLACK] + seen[BACKLOG] - backlog_s
    cloud = site == desk.seen.shape[0] - 1
    mean_s = mean_backlog_s(desk.seen)
    times = (backlog_s, mean_s, seen[LOAD], seen[LEAST], seen[FULL], slack_s)
    placed = Placed(*times, seen[SPEED], cloud, seen[WORK_PRICE])
    return divide(
        brain,
        placed,
        requests.weight[copy, k],
        requests.deadline_s[copy, k],
        least_quality_of(fixed, requests, books, copy),
        fixed.full_quality[model],
        desk.share,
        desk.allocate,
        desk.scratch,
    )


@allocating
def ask_cachers(brain: Brain, fixed: Fixed, books: Books, copy: int, frame: int, desk: Desk) -> None:
    """Let the cachers say what they want at the beginning of a frame."""
    now_s, sites = frame * fixed.frame_s, books.free_s.shape[1]
    load_s, backlog_s = np.zeros(books.resident.shape[1:]), np.zeros(sites)
    outlook(fixed, books, copy, now_s, load_s, backlog_s)
    work_s = fixed.fixed_s + fixed.full_steps * fixed.step_s
    plan(
        brain,
        books.demand[copy],
        books.resident[copy],
        fixed.size_gb,
        load_s,
        work_s,
        fixed.memory_gb,
        fixed.speed[:sites],
        backlog_s,
        desk.cache_scores,
        desk.cache_latent,
        desk.cache,
        books.wanted[copy],
    )


@compiled
def begin_frame(brain: Brain, fixed: Fixed, books: Books, copy: int, frame: int, frames: int, desk: Desk) -> float:
    """Let the cachers have what they want at the beginning of a frame; returns when the frame ends, s."""
    ask_cachers(brain, fixed, books, copy, frame, desk)
    keep(fixed, books, copy, frame * fixed.frame_s, frame == 0)
    return end_of(fixed, frame, frames)


@inlined
def end_of(fixed: Fixed, frame: int, frames: int) -> float:
    """When a frame ends, s; the last one takes in all that is left."""
    end_s: float = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
    return end_s


@inlined
def serve(
    brain: Brain, fixed: Fixed, requests: Requests, books: Books, copy: int, site: int, share: float, desk: Desk
) -> float:
    """Serve the request that is due, at a given site or with a given share unless they are negative; its utility."""
    chosen = route(brain, fixed, requests, books, copy, desk)
    if site >= 0:
        chosen = site
    part = share
    if share < 0.0:
        refused = chosen > books.free_s.shape[1]
        part = 0.0 if refused else allocate(brain, fixed, requests, books, copy, chosen, desk)
    place(fixed, requests, books, copy, chosen, part, desk.result)
    utility: float = desk.result[UTILITY]
    return utility


@compiled
def serve_next(
    brain: Brain, fixed: Fixed, requests: Requests, books: Books, copy: int, site: int, share: float, desk: Desk
) -> float:
    """Do the same, compiled once, for whoever does it rarely."""
    return serve(brain, fixed, requests, books, copy, site, share, desk)


@compiled
def play_on(
    brain: Brain,
    fixed: Fixed,
    requests: Requests,
    books: Books,
    copy: int,
    frame: int,
    frames: int,
    until_s: float,
    desk: Desk,
) -> float:
    """Play on in a frame that has begun; returns the utility of what arrives before a time."""
    total, end_s = 0.0, end_of(fixed, frame, frames)
    while True:
        while is_due(requests, books, copy, min(end_s, until_s)):
            total += serve(brain, fixed, requests, books, copy, -1, -1.0, desk)
        frame += 1
        if frame >= frames or frame * fixed.frame_s >= until_s:
            return total
        end_s = begin_frame(brain, fixed, books, copy, frame, frames, desk)


@allocating
def play_copies(
    brain: Brain, fixed: Fixed, requests: Requests, books: Books, frames: int, first: int, end: int, results: Floats
) -> None:
    """Play whole episodes of some copies; writes what became of each request ``[E, N, 11]``."""
    desk = new_desk(brain, books.resident.shape[1], books.resident.shape[2])
    for copy in range(first, end):
        _play_copy(brain, fixed, requests, books, frames, copy, results, desk)


@compiled
def _play_copy(
    brain: Brain, fixed: Fixed, requests: Requests, books: Books, frames: int, copy: int, results: Floats, desk: Desk
) -> None:
    """Play a whole episode of a copy."""
    for frame in range(frames):
        end_s = begin_frame(brain, fixed, books, copy, frame, frames, desk)
        while is_due(requests, books, copy, end_s):
            k = books.cursor[copy]
            serve(brain, fixed, requests, books, copy, -1, -1.0, desk)
            for column in range(RESULT):
                results[copy, k, column] = desk.result[column]
