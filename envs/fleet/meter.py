"""What becomes of the requests of a fleet, episode by episode."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Array, Meter, Values
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.world import FleetOutcome, FleetWorld


class UtilityMeter(Meter):
    """Utilities and what they are made of: means over requests where nothing else is said.

    Values:
        ``lost_utility``: What is lost against a service at once, for nothing and with all steps; lower is better.
        ``utility``: w·Q(steps) if in time, else −λ·w, minus the costs of delay, of ways and of the cloud.
        ``late_share``: Share of late requests. ``quality``: Quality of those in time, not-a-number without any.
        ``delay_s``, and its parts ``network_s``, ``wait_s``, ``loading_s`` and ``generation_s``; ``p95_delay_s``.
        ``loads``: Loads per request. ``cloud_share``: Share of requests that ran in the cloud.
        ``fairness``: Jain's index of the shares in time over the homes that had requests; 1 is fair.
        ``requests``: Their number, int64.
    """

    def __init__(self, world: FleetWorld) -> None:
        self._scenario, self._copies = world.scenario, world.copies
        self._outcomes: list[FleetOutcome] = []
        self._loads = np.zeros(world.copies)

    def add(self, role: str, view: Any, outcome: FleetOutcome) -> None:
        """See :meth:`Meter.add`."""
        if outcome.loads is not None:
            self._loads = outcome.loads.numpy()
        if outcome.result is not None:
            self._outcomes.append(outcome)

    def headline(self) -> Array:
        """Mean utilities of a request."""
        utility: Array = self.values()["utility"]
        return utility

    def values(self) -> Values:
        """See :meth:`Meter.values`.

        Raises:
            InputError: If an episode has no requests.
        """

        def stacked(name: str) -> np.ndarray:
            return np.stack([getattr(outcome, name).numpy() for outcome in self._outcomes])

        due = stacked("due") if self._outcomes else np.zeros((0, self._copies), dtype=np.bool_)
        requests = due.sum(0)
        if not requests.all():
            raise InputError(
                f"An episode of scenario '{self._scenario.name}' has no requests, so its mean utility is undefined; "
                "raise load, frames or frame_s."
            )
        result, homes = stacked("result"), stacked("home")
        late = result[..., physics.LATE] > 0

        def mean(values: np.ndarray) -> Array:
            # One after the other: padding then changes no last bit.
            averaged: Array = np.where(due, values, 0.0).cumsum(0)[-1] / requests
            return averaged

        delay = result[..., physics.DELAY]
        utility = mean(result[..., physics.UTILITY])
        timely = due & ~late
        with np.errstate(invalid="ignore"):
            quality = np.where(timely, result[..., physics.QUALITY], 0.0).cumsum(0)[-1] / timely.sum(0)
        return {
            "lost_utility": mean(stacked("bound")) - utility,
            "utility": utility,
            "late_share": mean(late),
            "quality": quality,
            "delay_s": mean(delay),
            "network_s": mean(result[..., physics.TRANSFER] + result[..., physics.RETURN]),
            "wait_s": mean(result[..., physics.WAIT]),
            "loading_s": mean(result[..., physics.LOADED]),
            "generation_s": mean(result[..., physics.GENERATION]),
            "p95_delay_s": np.array([np.percentile(delay[due[:, e], e], 95) for e in range(self._copies)]),
            "loads": self._loads / requests,
            "cloud_share": mean(result[..., physics.SITE] == self._scenario.sites),
            "fairness": _fairness(due, timely, homes, self._scenario.sites),
            "requests": requests.astype(np.int64),
        }


def _fairness(due: np.ndarray, timely: np.ndarray, homes: np.ndarray, sites: int) -> Array:
    """Jain's index (Σx)²/(n·Σx²) of the shares in time of the homes ``[E]``; 1 where nobody was served in time."""
    copies = due.shape[1]
    place = homes + np.arange(copies) * sites
    asked, met = (np.bincount(place[which], minlength=copies * sites).reshape(copies, sites) for which in (due, timely))
    share = met / np.maximum(asked, 1)
    squares = (asked > 0).sum(1) * (share**2).sum(1)
    index: Array = np.where(squares > 0, share.sum(1) ** 2 / np.where(squares > 0, squares, 1.0), 1.0)
    return index
