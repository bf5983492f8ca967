# SPDX-License-Identifier: Apache-2.0
"""Memory of the sites, compiled: what is loaded, from where, and what has to go for it."""

from __future__ import annotations

from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.books import PASSED, STARTED, Books, Fixed
from edgegen.envs.fleet.sites import changes_in, load_factor, place_factor


@compiled
def forget(fixed: Fixed, books: Books, copy: int, site: int, now_s: float) -> None:
    """Empty the memory of a site that has failed since its memory was last looked at, where failures do that.

    The memory is that at the end of the queue: what was placed before the failure has found its model already.
    """
    if not fixed.forgetful:
        return
    row = books.happens[copy, site]
    first, count = changes_in(row)
    at = int(books.own[copy, site, PASSED])
    while at < count and row[first + at] <= now_s:
        if row[first + count + at] == 0.0:
            books.resident[copy, site] = 0
            books.host[copy, site] = 0
        at += 1
    books.own[copy, site, PASSED] = at


@compiled
def source_time(fixed: Fixed, books: Books, copy: int, site: int, model: int) -> float:
    """Time to load a model from the host, where that has it, or from wherever it is, s."""
    if books.host[copy, site, model] > 0:
        return fixed.host_s
    load_s: float = fixed.load_s[model]
    if books.happens.shape[2] > 0:
        load_s *= place_factor(books.happens[copy, site], model)
    return load_s


@compiled
def shelve(fixed: Fixed, books: Books, copy: int, site: int, model: int) -> None:
    """Keep a model that is evicted in the memory of the host, if it fits: those that came first go for it."""
    if fixed.size_gb[model] > fixed.host_gb[site]:
        return
    while True:
        taken_gb, first, latest = fixed.size_gb[model], -1, 0
        for other in range(books.host.shape[2]):
            order = books.host[copy, site, other]
            if order > 0:
                taken_gb += fixed.size_gb[other]
                latest = max(latest, order)
                if first < 0 or order < books.host[copy, site, first]:
                    first = other
        if taken_gb <= fixed.host_gb[site]:
            books.host[copy, site, model] = latest + 1
            return
        books.host[copy, site, first] = 0


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
        shelve(fixed, books, copy, site, worst)


@compiled
def bring(fixed: Fixed, books: Books, copy: int, site: int, model: int, free: bool) -> tuple[float, float]:
    """Load a model that is not resident; returns the time that was to be expected, and that which it takes, s.

    A load that is free is not counted, and takes no time.
    """
    if books.resident[copy, site, model] > 0:
        return 0.0, 0.0
    expected_s = source_time(fixed, books, copy, site, model)
    books.host[copy, site, model] = 0
    make_room(fixed, books, copy, site, model)
    books.resident[copy, site, model] = 1
    if free:
        return 0.0, 0.0
    load_s = expected_s
    if books.happens.shape[2] > 0:
        load_s *= load_factor(books.happens[copy, site], int(books.own[copy, site, STARTED]))
    books.own[copy, site, STARTED] += 1.0
    books.loads[copy] += 1
    return expected_s, load_s
