# SPDX-License-Identifier: Apache-2.0
"""What happened in one episode, moment by moment: what a picture of it is made of, whatever the kind of world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgegen.envs.core.world import World

Columns = Mapping[str, NDArray[Any]]
"""Columns of a table by name, of the same length."""


@dataclass(frozen=True)
class Record:
    """One episode at S sites and, number S, a cloud. A request that was refused has the site S + 1.

    Attributes:
        duration_s: Time in which requests arrive, s.
        sites: What is to be said of each site, for people.
        models: What is to be said of each model, for people.
        arrivals: Requests in the order of arrival, the same whoever decides: ``arrival_s``, ``home``, ``model``,
            ``pictures``, ``deadline_s``, ``weight``, and the steps that it ``asked`` for.
        served: What became of them: ``site``, ``steps``, ``transfer_s``, ``wait_s``, ``load_s``, ``generation_s``,
            ``return_s``, ``delay_s``, ``late`` (bool), ``quality``, ``utility``.
        loads: Loads that took time: ``site``, ``model``, ``request`` (the number of the one that it was for, -1 if a
            site wanted the model for itself), ``at_s`` (when that was decided), ``begun_s``, ``done_s``.
        queues: Whenever a site was given something to do: ``site``, ``at_s``, and when it will then have done
            everything, ``free_s``. Its backlog at a time is what is left of that.
        residents: Which ``site`` had which ``model`` in memory, ``from_s``, ``until_s``; infinite at the end.
        troubles: When a ``site`` did not have its full speed, ``from_s``, ``until_s``, and the share of it, ``pace``.
        names: What the sites are called; by their numbers if empty.
    """

    duration_s: float
    sites: tuple[str, ...]
    models: tuple[str, ...]
    arrivals: Columns
    served: Columns
    loads: Columns
    queues: Columns
    residents: Columns
    troubles: Columns
    names: tuple[str, ...] = ()

    @property
    def end_s(self) -> float:
        """When all is done, s; at least the time in which requests arrive."""
        done_s = self.arrivals["arrival_s"] + self.served["delay_s"]
        return max(self.duration_s, float(done_s.max(initial=0.0)), float(self.queues["free_s"].max(initial=0.0)))


class Timeline(ABC):
    """Records the episode of a world of one copy while it is played.

    Args:
        world: A freshly reset world.
    """

    @abstractmethod
    def __init__(self, world: World) -> None: ...

    @abstractmethod
    def add(self, role: str, view: Any, outcome: Any) -> None:
        """Take a turn into account, right after it: whose it was, what was seen, and what came of it."""

    @abstractmethod
    def record(self) -> Record:
        """Return what happened so far."""
