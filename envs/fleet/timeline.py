# SPDX-License-Identifier: Apache-2.0
"""An episode of a fleet, moment by moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.timeline import Columns, Record, Timeline
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.books import PASSED, STATE, Books
from edgegen.envs.fleet.draws import ASKED
from edgegen.envs.fleet.memory import bring, forget
from edgegen.envs.fleet.sites import begin_s, changes_of, end_s
from edgegen.envs.fleet.view import ALLOCATOR, CACHER
from edgegen.envs.fleet.world import FleetOutcome, FleetWorld

RESULTS = (
    *("site", "steps", "transfer_s", "wait_s", "load_s", "generation_s", "return_s", "delay_s", "late", "quality"),
    "utility",
)
"""Columns of what became of a request, in the order of the physics."""

Row = tuple[float, ...]
Residents = NDArray[np.uint8]


class FleetTimeline(Timeline):
    """Records an episode of a fleet.

    The books say what is true at the end of the queues. When a model really comes and goes is found by repeating each
    decision on a copy of the books from before it.

    Args:
        world: A freshly reset world of one copy.

    Raises:
        ValueError: If the world has more copies.
    """

    def __init__(self, world: FleetWorld) -> None:
        if world.copies != 1:
            raise ValueError(f"a timeline is of one copy of a world, not of {world.copies}")
        self._world, self._requests = world, world.future
        self._frame = 0
        self._unread = np.zeros_like(world.books.heard_s)  # what is believed of others moves no model
        self._before = self._copied()
        self._since_s: dict[tuple[int, int], float] = {}
        self._results: list[NDArray[np.float64]] = []
        self._loads: list[Row] = []
        self._queues: list[Row] = []
        self._residents: list[Row] = []

    def add(self, role: str, view: Any, outcome: FleetOutcome) -> None:
        """See :meth:`Timeline.add`."""
        del view
        if role == CACHER:
            self._kept()
        elif role == ALLOCATOR and outcome.result is not None:
            self._placed(outcome.result[0].numpy())
        else:
            return
        now = self._world.books  # what a look at the next request adds: sites that have failed forget
        for site in np.flatnonzero((self._before.resident[0] != now.resident[0]).any(1)):
            self._lost(int(site), self._before.resident[0, site], now)
        self._before = self._copied()

    def record(self) -> Record:
        """See :meth:`Timeline.record`."""
        scenario, count = self._world.scenario, len(self._results)
        results = np.array(self._results).reshape(count, physics.RESULT)
        served: dict[str, NDArray[Any]] = dict(zip(RESULTS, results.T, strict=True))
        served["site"], served["late"] = served["site"].astype(np.int64), served["late"] > 0
        names = ("arrival_s", "home", "model", "pictures", "deadline_s", "weight")
        arrivals = {name: getattr(self._requests, name)[0, :count] for name in names}
        staying = [(*place, since_s, np.inf) for place, since_s in sorted(self._since_s.items())]
        sites = zip(scenario.site_speed, scenario.site_memory_gb, strict=True)
        return Record(
            duration_s=scenario.duration_s,
            sites=tuple(f"speed {speed:g}, {memory_gb:g} GB" for speed, memory_gb in sites),
            models=tuple(
                f"{model.size_gb:g} GB, loads in {model.load_s * scenario.load_factor:g} s"
                for model in scenario.kinds_of_models
            ),
            arrivals={**arrivals, "asked": self._requests.more[0, :count, ASKED]},
            served=served,
            loads=_columns("site model request | at_s begun_s done_s", self._loads),
            queues=_columns("site | at_s free_s", self._queues),
            residents=_columns("site model | from_s until_s", [*self._residents, *staying]),
            troubles=_columns("site | from_s until_s pace", self._troubles()),
        )

    def _copied(self) -> Books:
        """A copy of the books, but for what each site believes of the others."""
        books = self._world.books
        own = {name: getattr(books, name).copy() for name in STATE if name != "heard_s"}
        return Books(**own, heard_s=self._unread, happens=books.happens)

    def _kept(self) -> None:
        """Repeat what the sites loaded for a frame, one model after the other."""
        books, fixed = self._before, self._world.fixed
        now_s, first = self._frame * self._world.scenario.frame_s, self._frame == 0
        self._frame += 1
        books.wanted[:] = self._world.books.wanted  # as it was amended
        for site in range(self._world.scenario.sites):
            before = books.resident[0, site].copy()
            forget(fixed, books, 0, site, now_s)
            self._lost(site, before, books)
            for model in np.flatnonzero(books.wanted[0, site]).tolist():
                before = books.resident[0, site].copy()
                if before[model]:
                    continue
                load_s = bring(fixed, books, 0, site, model, first)[1]
                begun_s = done_s = now_s
                if not first:
                    begun_s = max(float(books.free_s[0, site]), now_s)
                    done_s = begun_s + load_s
                    if books.happens.shape[2] > 0:
                        begun_s = begin_s(books.happens[0, site], begun_s)
                        done_s = end_s(books.happens[0, site], begun_s, load_s)
                    books.free_s[0, site] = done_s
                    self._loads.append((site, model, -1, now_s, begun_s, done_s))
                    self._queues.append((site, now_s, done_s))
                self._moved(site, before, books.resident[0, site], begun_s)

    def _placed(self, result: NDArray[np.float64]) -> None:
        """Repeat what a request moved in the memory of the site where it runs."""
        k, site = len(self._results), int(result[physics.SITE])
        self._results.append(result.copy())
        if site >= self._world.scenario.sites:
            return
        books, at_s = self._before, float(self._requests.arrival_s[0, k])
        before, loads = books.resident[0, site].copy(), int(books.loads[0])
        one, nothing = np.ones(1, dtype=np.bool_), np.zeros(1)  # the number of steps moves no model
        scratch = np.zeros((1, physics.RESULT))
        physics.place_all(self._world.fixed, self._requests, books, one, np.array([site]), nothing, scratch)
        begun_s = at_s + float(result[physics.WAIT])
        self._moved(site, before, books.resident[0, site], begun_s)
        if books.loads[0] > loads:
            model, done_s = int(self._requests.model[0, k]), begun_s + float(result[physics.LOADED])
            self._loads.append((site, model, k, at_s, begun_s, done_s))
        self._queues.append((site, at_s, float(self._world.books.free_s[0, site])))

    def _moved(self, site: int, before: Residents, after: Residents, at_s: float) -> None:
        """Note which models came into a site's memory and which left it ``[M]``."""
        for model in np.flatnonzero(before != after):
            place = (site, int(model))
            if after[model]:
                self._since_s[place] = at_s
            else:
                self._residents.append((*place, self._since_s.pop(place), at_s))

    def _lost(self, site: int, before: Residents, books: Books) -> None:
        """Note what a site that failed has forgotten: what was placed before still found it."""
        after = books.resident[0, site]
        if (before == after).all():
            return
        changes_s, pace, _ = changes_of(books.happens[0, site])
        passed = int(books.own[0, site, PASSED])
        failed_s = float(changes_s[:passed][pace[:passed] == 0][-1])
        self._moved(site, before, after, max(failed_s, float(books.free_s[0, site])))

    def _troubles(self) -> list[Row]:
        rows: list[Row] = []
        happens = self._world.books.happens[0]
        for site in range(len(happens) if happens.shape[1] else 0):
            changes_s, pace, _ = changes_of(happens[site])
            until_s = np.append(changes_s[1:], np.inf)
            slow = np.isfinite(changes_s) & (pace < 1)
            columns = zip(changes_s[slow], until_s[slow], pace[slow], strict=True)
            rows += [(site, float(start), float(end), float(share)) for start, end, share in columns]
        return rows


def _columns(names: str, rows: Sequence[Row]) -> Columns:
    """Lay rows out as columns, int64 those that are named before the bar."""
    whole, _, rest = (part.split() for part in names.partition("|"))
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(whole) + len(rest)).T
    return {
        name: values.astype(np.int64) if name in whole else values
        for name, values in zip([*whole, *rest], table, strict=True)
    }
