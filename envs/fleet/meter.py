# SPDX-License-Identifier: Apache-2.0
"""What becomes of the requests of a fleet, episode by episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Array, Meter, Values
from edgegen.envs.core.objectives import TERM_PREFIX, Objective
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.draws import Ints, Requests
from edgegen.envs.fleet.scenario import Floats
from edgegen.envs.fleet.terms import Facts, amounts_of
from edgegen.envs.fleet.world import FleetOutcome, FleetWorld

PERCENTILES = {"p50_delay_s": 50, "p95_delay_s": 95, "p99_delay_s": 99}
"""Metrics of the delay, with the share of the requests that had at most so much, %."""


class _Table(NamedTuple):
    """Requests in order ``[N, E]``: whether there is one, its home, what became of it, its bound and its number."""

    due: NDArray[np.bool_]
    home: Ints
    result: Floats
    bound: Floats
    number: Ints


class UtilityMeter(Meter):
    """Utilities and what they are made of: means over requests where nothing else is said.

    - ``lost_utility``: What is lost against an idle fleet that has every model everywhere, so that nobody waits or
      loads; never below 0. A policy that loses a quarter less has closed a quarter of the gap.
    - ``utility``: w·Q(steps) if in time, else −λ·w, minus the costs of delay, of ways and of the cloud.
    - ``late_share``: Share of late requests. ``refused_share``: Share of refused ones.
    - ``quality``: Quality of those in time, not-a-number without any.
    - ``delay_s``, and its parts ``network_s``, ``wait_s``, ``loading_s`` and ``generation_s``; ``p50_delay_s``,
      ``p95_delay_s`` and ``p99_delay_s``: of those that were not refused, not-a-number without any.
    - ``goodput_per_s``: Requests answered in time, per second of the episode.
    - ``loads``: Loads per request. ``cloud_share``: Share of requests that ran in the cloud.
    - ``fairness``: Jain's index of the shares in time over the homes that had requests; 1 is fair.
    - ``requests``: Their number, int64.

    Where the objective names terms, what each adds to ``utility``, and the amounts of those that are named.
    """

    def __init__(self, world: FleetWorld) -> None:
        self._scenario, self._copies = world.scenario, world.copies
        self._world = world
        self._outcomes: list[FleetOutcome] = []
        self._table: _Table | None = None
        self._loads: Ints = np.zeros(world.copies, dtype=np.int64)

    def add(self, role: str, view: Any, outcome: FleetOutcome) -> None:
        """See :meth:`Meter.add`."""
        if outcome.loads is not None:
            self._loads = outcome.loads.numpy()
        if outcome.result is not None:
            self._outcomes.append(outcome)

    def take(self, requests: Requests, results: Floats, loads: Ints) -> None:
        """Take whole episodes into account: what became of each request ``[E, N, 11]``, and the loads ``[E]``."""
        due = np.arange(results.shape[1])[:, None] < requests.number
        bound, number = np.where(due, self._world.bounds.T, 0.0), np.arange(results.shape[1])[:, None]
        table = (due, requests.home.T, results.transpose(1, 0, 2), bound, np.broadcast_to(number, due.shape))
        self._table = _Table(*table)
        self._loads = loads

    def headline(self) -> Array:
        """Mean utilities of a request."""
        utility: Array = self.values()["utility"]
        return utility

    def values(self) -> Values:
        """See :meth:`Meter.values`.

        Raises:
            InputError: If an episode has no requests.
        """
        due, homes, result, bound, number = self._table or self._stacked()
        requests = due.sum(0)
        if not requests.all():
            raise InputError(
                f"An episode of scenario '{self._scenario.name}' has no requests, so its mean utility is undefined; "
                "raise load, frames or frame_s."
            )
        late, sites = result[..., physics.LATE] > 0, self._scenario.sites
        served = due & (result[..., physics.SITE] <= sites)

        def mean(values: np.ndarray, over: np.ndarray = due) -> Array:
            # One after the other: padding then changes no last bit.
            with np.errstate(invalid="ignore"):
                averaged: Array = np.where(over, values, 0.0).cumsum(0)[-1] / over.sum(0)
            return averaged

        delay = result[..., physics.DELAY]
        utility, timely = mean(result[..., physics.UTILITY]), served & ~late
        network_s = result[..., physics.TRANSFER] + result[..., physics.RETURN]
        percentiles = np.array([_percentiles(delay[served[:, e], e]) for e in range(self._copies)]).T
        return {
            "lost_utility": mean(bound) - utility,
            "utility": utility,
            "late_share": mean(late),
            "refused_share": mean(due & ~served),
            "quality": mean(result[..., physics.QUALITY], timely),
            "delay_s": mean(delay, served),
            "network_s": mean(network_s, served),
            "wait_s": mean(result[..., physics.WAIT], served),
            "loading_s": mean(result[..., physics.LOADED], served),
            "generation_s": mean(result[..., physics.GENERATION], served),
            **dict(zip(PERCENTILES, percentiles, strict=True)),
            "goodput_per_s": timely.sum(0) / self._scenario.duration_s,
            "loads": self._loads / requests,
            "cloud_share": mean(result[..., physics.SITE] == sites),
            "fairness": _fairness(due, timely, homes, sites),
            "requests": requests.astype(np.int64),
            **self._terms(_Table(due, homes, result, bound, number), mean),
        }

    def _terms(self, table: _Table, mean: Callable[[Floats], Array]) -> Values:
        """What each term adds to the utility, and amounts of those that the objective names, if it names any."""
        objective = Objective.of(self._scenario)
        if objective is None:
            return {}
        requests, result = self._world.future, table.result
        copies = np.broadcast_to(np.arange(self._copies), table.number.shape)
        asked = {name: getattr(requests, name)[copies, table.number] for name in ("arrival_s", "deadline_s", "weight")}
        facts = Facts(
            home=table.home,
            site=result[..., physics.SITE].astype(np.int64),
            delay_s=result[..., physics.DELAY],
            busy_s=result[..., physics.LOADED] + result[..., physics.GENERATION],
            late=result[..., physics.LATE] > 0,
            quality=result[..., physics.QUALITY],
            utility=result[..., physics.UTILITY],
            **asked,
        )
        parts = {TERM_PREFIX + name: mean(values) for name, values in amounts_of(objective, facts).items()}
        named = [term for term, _ in objective.terms if term.metric and term.name in self._scenario.objective]
        return parts | {term.metric: mean(term.measure(self._scenario, facts)) for term in named}

    def _stacked(self) -> _Table:
        """What the outcomes of all turns say."""
        if not self._outcomes:
            nothing = np.zeros((0, self._copies))
            none = nothing.astype(np.int64)
            return _Table(nothing > 0, none, np.zeros((*nothing.shape, physics.RESULT)), nothing, none)
        names = ("due", "home", "result", "bound", "number")
        return _Table(*(np.stack([getattr(one, name).numpy() for one in self._outcomes]) for name in names))


def _percentiles(values: np.ndarray) -> Array:
    wanted = list(PERCENTILES.values())
    found: Array = np.percentile(values, wanted) if len(values) else np.full(len(wanted), np.nan)
    return found


def _fairness(due: np.ndarray, timely: np.ndarray, homes: np.ndarray, sites: int) -> Array:
    """Jain's index (Σx)²/(n·Σx²) of the shares in time of the homes ``[E]``; 1 where nobody was served in time."""
    copies = due.shape[1]
    place = homes + np.arange(copies) * sites
    asked, met = (np.bincount(place[which], minlength=copies * sites).reshape(copies, sites) for which in (due, timely))
    share = met / np.maximum(asked, 1)
    squares = (asked > 0).sum(1) * (share**2).sum(1)
    index: Array = np.where(squares > 0, share.sum(1) ** 2 / np.where(squares > 0, squares, 1.0), 1.0)
    return index
