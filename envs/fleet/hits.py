# SPDX-License-Identifier: Apache-2.0
"""How often one memory would have had what is asked for: the rule most use, and the best there can be."""

from __future__ import annotations

import numpy as np

from edgegen.envs.core.compiled import allocating
from edgegen.envs.fleet.traces import Floats, Ints

NEVER = 2**62
"""More than any memory has room for."""


def lru_hits(model: Ints, rooms: Ints) -> Floats:
    """Share of requests that find their model, if what was asked for longest ago is evicted.

    Args:
        model: Model of each request in their order ``[N]``, from 0.
        rooms: Numbers of models that a memory has room for ``[R]``.

    Returns:
        Hit ratios ``[R]``; the memory is empty at first.
    """
    depth = np.empty(len(model), dtype=np.int64)
    _depths(model, int(model.max()) + 1, depth)
    return np.asarray((depth[:, None] < rooms).mean(0))


def belady_hits(model: Ints, rooms: Ints) -> Floats:
    """Share of requests that find their model, if what is asked for latest is evicted: no rule has more hits.

    What is asked for later than all that is kept is not kept itself; it is served all the same.

    Args:
        model: Model of each request in their order ``[N]``, from 0.
        rooms: Numbers of models that a memory has room for ``[R]``.

    Returns:
        Hit ratios ``[R]``; the memory is empty at first.
    """
    following = np.empty(len(model), dtype=np.int64)
    models = int(model.max()) + 1
    _following(model, models, following)
    return np.array([_best(model, models, following, int(room)) / len(model) for room in rooms])


@allocating
def _depths(model: Ints, models: int, depth: Ints) -> None:
    """Write how many other models were asked for since each request's own was; :data:`NEVER` if it never was."""
    stack = np.full(models, -1, dtype=np.int64)
    known = 0
    for k in range(len(model)):
        own = model[k]
        at = 0
        while at < known and stack[at] != own:
            at += 1
        depth[k] = at
        if at == known:
            depth[k] = NEVER
            known += 1
        for place in range(at, 0, -1):
            stack[place] = stack[place - 1]
        stack[0] = own


@allocating
def _following(model: Ints, models: int, following: Ints) -> None:
    """Write the number of the next request for the same model; N if there is none."""
    nearest = np.full(models, len(model), dtype=np.int64)
    for k in range(len(model) - 1, -1, -1):
        following[k] = nearest[model[k]]
        nearest[model[k]] = k


@allocating
def _best(model: Ints, models: int, following: Ints, room: int) -> int:
    """Most hits of a memory with room for some models."""
    due = np.full(models, -1, dtype=np.int64)  # next request of what is kept; -1 is not kept
    kept, hits = 0, 0
    for k in range(len(model)):
        own = model[k]
        if due[own] >= 0:
            hits += 1
            due[own] = following[k]
            continue
        if kept < room:
            due[own] = following[k]
            kept += 1
            continue
        latest = own
        latest_due = following[k]
        for other in range(models):
            if due[other] > latest_due:
                latest, latest_due = other, due[other]
        if latest != own:
            due[latest] = -1
            due[own] = following[k]
    return hits
