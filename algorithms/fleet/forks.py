# SPDX-License-Identifier: Apache-2.0
"""Counterfactual forks of the learned fleet: what would become of an episode if one decision were another one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.fleet.decisions import LADDER_SHARE, TIMELY_SHARE, Brain
from edgegen.algorithms.fleet.kernel import (
    Desk,
    allocate,
    ask_cachers,
    begin_frame,
    new_desk,
    play_on,
    route,
    serve_next,
)
from edgegen.envs.core.compiled import allocating, compiled
from edgegen.envs.fleet.books import Books, Fixed, take_over
from edgegen.envs.fleet.draws import Ints, Requests
from edgegen.envs.fleet.physics import is_due, keep
from edgegen.envs.fleet.scenario import Floats


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
def try_it(
    brain: Brain,
    fixed: Fixed,
    requests: Requests,
    books: Books,
    spare: Books,
    copy: int,
    frame: int,
    frames: int,
    site: int,
    share: float,
    until_s: float,
    desk: Desk,
) -> float:
    """Serve the request that is due in a fork, as :func:`serve_next`, and play on there; returns the utility."""
    take_over(books, spare, copy)
    total = serve_next(brain, fixed, requests, spare, copy, site, share, desk)
    return total + play_on(brain, fixed, requests, spare, copy, frame, frames, until_s, desk)


@allocating
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
    desk, other = new_desk(brain, sites, models), new_desk(brain, sites, models)
    last_s = frames * fixed.frame_s - horizon_s
    for copy in range(first, end):
        for frame in range(frames):
            end_s = begin_frame(brain, fixed, books, copy, frame, frames, desk)
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
                            routes.value[row, c] = try_it(
                                brain, fixed, requests, books, spare, copy, frame, frames, c, -1.0, until_s, other
                            )
                    if what == 2 and shares.filled[copy] < room:
                        row = copy * room + shares.filled[copy]
                        shares.filled[copy] += 1
                        shares.features[row] = desk.allocate
                        shares.scores[row, 0] = desk.allocate[0, LADDER_SHARE]
                        shares.limit[row] = desk.allocate[0, TIMELY_SHARE]
                        for c in range(GRID):
                            part = c / (GRID - 1) * shares.limit[row]
                            shares.value[row, c] = try_it(
                                brain, fixed, requests, books, spare, copy, frame, frames, site, part, until_s, other
                            )
                serve_next(brain, fixed, requests, books, copy, -1, -1.0, desk)


@allocating
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
    desk, other = new_desk(brain, sites, models), new_desk(brain, sites, models)
    for copy in range(first, end):
        for frame in range(frames):
            now_s = frame * fixed.frame_s
            ask_cachers(brain, fixed, books, copy, frame, desk)
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
            play_on(brain, fixed, requests, books, copy, frame, frames, (frame + 1) * fixed.frame_s, desk)
