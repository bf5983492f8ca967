"""Kernels of the learned fleet: whole episodes, and counterfactual forks of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.fleet.decisions import (
    ALLOCATOR_FEATURES,
    CACHER_FEATURES,
    LADDER_SHARE,
    ROUTER_FEATURES,
    TIMELY_SHARE,
    Asked,
    Brain,
    Placed,
    choose,
    divide,
    plan,
)
from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.books import take_over
from edgegen.envs.fleet.draws import Ints, Requests
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


@compiled
def new_desk(sites: int, models: int) -> Desk:
    """Return scratch arrays."""
    return Desk(
        np.zeros((sites + 1, CANDIDATE)),
        np.zeros(sites + 1),
        np.zeros(sites + 1),
        np.zeros((sites + 1, ROUTER_FEATURES)),
        np.zeros((1, ALLOCATOR_FEATURES)),
        np.zeros(1),
        np.zeros((sites, models)),
        np.zeros((sites, models)),
        np.zeros((sites, models, CACHER_FEATURES)),
        np.zeros(RESULT),
    )


@compiled
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
    return choose(brain, desk.seen, asked, desk.scores, desk.latent, desk.route)


@compiled
def allocate(brain: Brain, fixed: Fixed, requests: Requests, books: Books, copy: int, site: int, desk: Desk) -> float:
    """Choose the share of the steps of the request that is due, which the router has looked at."""
    k, seen = books.cursor[copy], desk.seen[site]
    model = requests.model[copy, k]
    backlog_s = true_backlog_s(requests, books, copy, site)
    slack_s = seen[SLACK] + seen[BACKLOG] - backlog_s
    cloud = site == desk.seen.shape[0] - 1
    mean_s = mean_backlog_s(desk.seen)
    placed = Placed(backlog_s, mean_s, seen[LOAD], seen[LEAST], seen[FULL], slack_s, seen[SPEED], cloud)
    return divide(
        brain,
        placed,
        requests.weight[copy, k],
        requests.deadline_s[copy, k],
        least_quality_of(fixed, requests, books, copy),
        fixed.full_quality[model],
        desk.share,
        desk.allocate,
    )


@compiled
def begin_frame(brain: Brain, fixed: Fixed, books: Books, copy: int, frame: int, desk: Desk) -> None:
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
def serve_next(
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
    total = 0.0
    while True:
        end_s = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
        while is_due(requests, books, copy, min(end_s, until_s)):
            total += serve_next(brain, fixed, requests, books, copy, -1, -1.0, desk)
        frame += 1
        if frame >= frames or frame * fixed.frame_s >= until_s:
            return total
        begin_frame(brain, fixed, books, copy, frame, desk)
        keep(fixed, books, copy, frame * fixed.frame_s, False)


@compiled
def play_copies(
    brain: Brain, fixed: Fixed, requests: Requests, books: Books, frames: int, first: int, end: int, results: Floats
) -> None:
    """Play whole episodes of some copies; writes what became of each request ``[E, N, 11]``."""
    sites, models = books.resident.shape[1], books.resident.shape[2]
    desk = new_desk(sites, models)
    for copy in range(first, end):
        for frame in range(frames):
            begin_frame(brain, fixed, books, copy, frame, desk)
            keep(fixed, books, copy, frame * fixed.frame_s, frame == 0)
            end_s = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
            while is_due(requests, books, copy, end_s):
                k = books.cursor[copy]
                serve_next(brain, fixed, requests, books, copy, -1, -1.0, desk)
                results[copy, k] = desk.result


class Labels(NamedTuple):
    """Labelled decisions of one role: rows ``[L, ...]``, as many of each copy as it has room for.

    Attributes:
        features: What each candidate's network sees ``[L, n, F]``.
        scores: Latents that the chain begins with ``[L, n]``.
        value: Utility until the horizon if this candidate were taken ``[L, n]``.
        limit: Upper bound of the choice, where there is one ``[L]``.
        filled: Labels of each copy so far ``[E]``.
    """

    features: Floats
    scores: Floats
    value: Floats
    limit: Floats
    filled: Ints


GRID = 5
"""Shares that an allocator's fork tries."""


@compiled
def fork_copies(
    brain: Brain,
    fixed: Fixed,
    requests: Requests,
    books: Books,
    spare: Books,
    frames: int,
    first: int,
    end: int,
    marked: NDArray[np.uint8],
    horizon_s: float,
    room: int,
    routes: Labels,
    shares: Labels,
) -> None:
    """Play whole episodes of some copies, and try every candidate of marked decisions in a fork.

    All forks of a decision meet the same requests, and go on as the policy would.

    Args:
        brain: Who decides.
        fixed: What does not change.
        requests: What arrives.
        books: Books of the copies.
        spare: Books for the forks.
        frames: Frames of an episode.
        first: First copy.
        end: Copy after the last.
        marked: What is labelled at each request ``[E, N]``: 1 the router's decision, 2 the allocator's, 0 nothing.
        horizon_s: How long a fork goes on, s.
        room: Labels of each role that a copy has room for.
        routes: Where the router's labels are written.
        shares: Where the allocator's labels are written.
    """
    sites, models = books.resident.shape[1], books.resident.shape[2]
    desk, other = new_desk(sites, models), new_desk(sites, models)
    last_s = frames * fixed.frame_s - horizon_s
    for copy in range(first, end):
        for frame in range(frames):
            begin_frame(brain, fixed, books, copy, frame, desk)
            keep(fixed, books, copy, frame * fixed.frame_s, frame == 0)
            end_s = (frame + 1) * fixed.frame_s if frame + 1 < frames else np.inf
            while is_due(requests, books, copy, end_s):
                k = books.cursor[copy]
                what, now_s = marked[copy, k], requests.arrival_s[copy, k]
                if what > 0 and now_s <= last_s:
                    site = route(brain, fixed, requests, books, copy, desk)
                    if site > sites:  # refused; it has no steps
                        what = min(what, 1)
                    else:
                        allocate(brain, fixed, requests, books, copy, site, desk)
                    until_s = now_s + horizon_s
                    if what == 1 and routes.filled[copy] < room:
                        row = copy * room + routes.filled[copy]
                        routes.filled[copy] += 1
                        routes.features[row] = desk.route
                        routes.scores[row] = desk.scores
                        for c in range(sites + 1):
                            take_over(books, spare, copy)
                            total = serve_next(brain, fixed, requests, spare, copy, c, -1.0, other)
                            total += play_on(brain, fixed, requests, spare, copy, frame, frames, until_s, other)
                            routes.value[row, c] = total
                    if what == 2 and shares.filled[copy] < room:
                        row = copy * room + shares.filled[copy]
                        shares.filled[copy] += 1
                        shares.features[row] = desk.allocate
                        shares.scores[row, 0] = desk.allocate[0, LADDER_SHARE]
                        shares.limit[row] = desk.allocate[0, TIMELY_SHARE]
                        for c in range(GRID):
                            take_over(books, spare, copy)
                            part = c / (GRID - 1) * shares.limit[row]
                            total = serve_next(brain, fixed, requests, spare, copy, site, part, other)
                            total += play_on(brain, fixed, requests, spare, copy, frame, frames, until_s, other)
                            shares.value[row, c] = total
                serve_next(brain, fixed, requests, books, copy, -1, -1.0, desk)


@compiled
def fork_caches(
    brain: Brain,
    fixed: Fixed,
    requests: Requests,
    books: Books,
    spare: Books,
    frames: int,
    first: int,
    end: int,
    marked: NDArray[np.uint8],
    horizon_s: float,
    room: int,
    caches: Labels,
) -> None:
    """Play whole episodes of some copies, and try each model kept and not kept at marked sites, in forks.

    Arguments are those of :func:`fork_copies`; ``marked`` is by copy, frame and site ``[E, frames, S]``. The value of
    a model is what is gained by keeping it; ``scores`` holds latents before the chain, and ``limit`` is not used.
    """
    sites, models = books.resident.shape[1], books.resident.shape[2]
    desk, other = new_desk(sites, models), new_desk(sites, models)
    for copy in range(first, end):
        for frame in range(frames):
            now_s = frame * fixed.frame_s
            begin_frame(brain, fixed, books, copy, frame, desk)
            until_s = now_s + horizon_s
            if frame > 0 and until_s <= frames * fixed.frame_s:
                for site in range(sites):
                    if marked[copy, frame, site] == 0 or caches.filled[copy] >= room:
                        continue
                    row = copy * room + caches.filled[copy]
                    caches.filled[copy] += 1
                    caches.features[row] = desk.cache[site]
                    caches.scores[row] = desk.cache_scores[site]
                    take_over(books, spare, copy)
                    keep(fixed, spare, copy, now_s, False)
                    usual = play_on(brain, fixed, requests, spare, copy, frame, frames, until_s, other)
                    for model in range(models):
                        take_over(books, spare, copy)
                        kept = spare.wanted[copy, site, model] == 1
                        spare.wanted[copy, site, model] = 0 if kept else 1
                        keep(fixed, spare, copy, now_s, False)
                        changed = play_on(brain, fixed, requests, spare, copy, frame, frames, until_s, other)
                        caches.value[row, model] = usual - changed if kept else changed - usual
            keep(fixed, books, copy, now_s, frame == 0)
            play_on(brain, fixed, requests, books, copy, frame, frames, min((frame + 1) * fixed.frame_s, np.inf), desk)
