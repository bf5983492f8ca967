# SPDX-License-Identifier: Apache-2.0
"""Whole episodes of the learned fleet, played in threads that share the copies: plain, and with labelled decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.fleet import forks, kernel
from edgegen.algorithms.fleet.decisions import CACHER_FEATURES, Brain
from edgegen.algorithms.fleet.forks import GRID, Labels
from edgegen.envs.core.threads import in_threads
from edgegen.envs.fleet.books import Books, books_of, fixed_of
from edgegen.envs.fleet.draws import Requests
from edgegen.envs.fleet.physics import RESULT
from edgegen.envs.fleet.scenario import FleetScenario, Floats


def play_brain(
    scenario: FleetScenario, brain: Brain, requests: Requests, threads: int | None = None
) -> tuple[Requests, Books, Floats]:
    """Play whole episodes; bit for bit what the world and the policy give turn by turn.

    Returns:
        The requests, the books at the end, and what became of each request ``[E, N, 11]``, zeros where there is none.
    """
    fixed, books = fixed_of(scenario), books_of(scenario, requests)
    results = np.zeros((*requests.arrival_s.shape, RESULT))

    def play(first: int, end: int) -> None:
        kernel.play_copies(brain, fixed, requests, books, scenario.frames, first, end, results)

    in_threads(len(requests.number), play, threads)
    return requests, books, results


def label_requests(
    scenario: FleetScenario,
    brain: Brain,
    requests: Requests,
    marked: NDArray[np.uint8],
    horizon_s: float,
    threads: int | None = None,
) -> tuple[Labels, Labels]:
    """Try every candidate of marked requests in forks.

    Args:
        scenario: The world.
        brain: Who plays, and goes on in the forks.
        requests: What arrives.
        marked: What is labelled at each request ``[E, N]``: 1 the router's decision, 2 the allocator's, 0 nothing.
        horizon_s: How long a fork goes on, s.
        threads: Threads that share the copies; as many as there are cores if None.

    Returns:
        Labels of the router and of the allocator, rows without meaning left out.
    """
    sites = scenario.sites
    room = max(1, int(max((marked == 1).sum(1).max(), (marked == 2).sum(1).max())))
    routes = _labels(requests, room, sites + 1, len(brain.router.features), sites + 1)
    shares = _labels(requests, room, 1, len(brain.allocator.features), GRID)
    fixed, books, spare = fixed_of(scenario), books_of(scenario, requests), books_of(scenario, requests)

    def play(first: int, end: int) -> None:
        forks.fork_copies(
            *(brain, fixed, requests, books, spare, scenario.frames, first, end),
            *(marked, horizon_s, room, routes, shares),
        )

    in_threads(len(requests.number), play, threads)
    return _filled(routes, room), _filled(shares, room)


def label_caches(
    scenario: FleetScenario,
    brain: Brain,
    requests: Requests,
    marked: NDArray[np.uint8],
    horizon_s: float,
    threads: int | None = None,
) -> Labels:
    """Try every model kept and not kept at marked sites and frames ``[E, frames, S]``, in forks; as above."""
    models, room = len(scenario.kinds_of_models), max(1, int(marked.sum((1, 2)).max()))
    caches = _labels(requests, room, models, CACHER_FEATURES, models)
    fixed, books, spare = fixed_of(scenario), books_of(scenario, requests), books_of(scenario, requests)

    def play(first: int, end: int) -> None:
        forks.fork_caches(
            brain, fixed, requests, books, spare, scenario.frames, first, end, marked, horizon_s, room, caches
        )

    in_threads(len(requests.number), play, threads)
    return _filled(caches, room)


def _labels(requests: Requests, room: int, candidates: int, features: int, values: int) -> Labels:
    copies = len(requests.number)
    rows = copies * room
    return Labels(
        np.zeros((rows, candidates, features)),
        np.zeros((rows, candidates)),
        np.zeros((rows, values)),
        np.ones(rows),
        np.zeros(copies, dtype=np.int64),
    )


def _filled(labels: Labels, room: int) -> Labels:
    filled = (np.arange(room) < labels.filled[:, None]).ravel()
    return labels._replace(
        features=labels.features[filled],
        scores=labels.scores[filled],
        value=labels.value[filled],
        limit=labels.limit[filled],
    )
