"""What people see while a study runs: a live table in a terminal, a line per unit in a log file, and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from edgegen.platform.live_table import LiveTable, duration
from edgegen.platform.screen import PlainTable
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.unit import is_done, read_done
from edgegen.platform.studies.work import TRAINING, Unit

_FALLBACK_S = 5.0  # for a rule, as long as nothing is known


@dataclass
class _Row:
    unit: Unit
    started: float
    at_start: int | None = None
    at_start_time: float = 0.0
    episodes: int = 0
    recent: float = math.nan


class StudyProgress(LiveTable):
    """Shows how the units of a study stand.

    Args:
        plan: The study.
        folder_of: Where each unit lives, by identity.
        jobs: Units side by side.
        console: Where to.
    """

    def __init__(self, plan: Plan, folder_of: Mapping[str, Path], jobs: int, console: Console) -> None:
        self.plan = plan
        self.folder_of = folder_of
        self.jobs = jobs
        super().__init__(console)
        self._began = time.monotonic()
        self._running: dict[str, _Row] = {}
        self._left = dict(plan.units)
        self._errors = 0
        self._seconds: dict[str, list[tuple[float, int]]] = {}  # by cost key: seconds and episodes of what is known
        for identity, unit in plan.units.items():
            if is_done(unit, folder_of[identity]):
                del self._left[identity]
            self._learn(unit)

    def _learn(self, unit: Unit) -> None:
        """Note what a unit took, over all its attempts, if it is finished."""
        done = read_done(self.folder_of[unit.identity])
        if done is not None:
            for key in (unit.cost_key, _family(unit)):
                self._seconds.setdefault(key, []).append((float(done["wall_s"]), max(1, unit.episodes)))

    def started(self, unit: Unit) -> None:
        """A unit has begun."""
        self._running[unit.identity] = _Row(unit, time.monotonic())

    def noted(self, rows: Mapping[str, tuple[int, float]]) -> None:
        """Take note of how far units are: finished episodes and the recent value of what decides."""
        now = time.monotonic()
        for identity, (episodes, recent) in rows.items():
            row = self._running.get(identity)
            if row is not None and episodes != row.episodes:
                if row.at_start is None:  # earlier attempts say nothing about the speed of this one
                    row.at_start, row.at_start_time = episodes, now
                row.episodes, row.recent = episodes, recent

    def finished(self, unit: Unit) -> None:
        """A unit is done."""
        row = self._running.pop(unit.identity)
        self._left.pop(unit.identity, None)
        self._learn(unit)
        self._say(f"{unit.title}: done in {duration(time.monotonic() - row.started)}")

    def failed(self, unit: Unit, again: bool) -> None:
        """A unit has failed."""
        self._running.pop(unit.identity)
        if not again:
            self._left.pop(unit.identity, None)
            self._errors += 1
        self._say(f"{unit.title}: failed{', will be tried again' if again else ''}")

    def _say(self, text: str) -> None:
        if self._live is None:
            self.console.print(f"{text}; {self.headline()}", soft_wrap=True)

    def headline(self) -> str:
        """Units by state, time, and time left."""
        total = len(self.plan.units)
        parts = [f"{total - len(self._left) - self._errors} of {total} units", f"{len(self._running)} running"]
        if self._errors:
            parts.append(f"{self._errors} failed")
        parts.append(f"{duration(time.monotonic() - self._began)} elapsed")
        left = self.seconds_left()
        parts.append("time left unknown" if left is None else f"about {duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Time to the end, from what finished and running units of the same kind took, s; None if nothing is known."""
        costs = [self._cost(unit) for unit in self._left.values()]
        known = [cost for cost in costs if cost is not None]
        if not costs:
            return 0.0
        if not known or (len(known) < len(costs) and not self._seconds):
            return None
        guess = sum(known) / len(known)  # of units of a family that nothing is known of yet
        total = sum(guess if cost is None else cost for cost in costs)
        longest = max(known)
        return max(total / self.jobs, longest if len(costs) <= self.jobs else 0.0)

    def _cost(self, unit: Unit) -> float | None:
        """What is left to spend on a unit, s."""
        row = self._running.get(unit.identity)
        now = time.monotonic()
        if row is not None and row.at_start is not None and row.episodes > row.at_start:
            per_episode = (now - row.at_start_time) / (row.episodes - row.at_start)
            return max(0.0, per_episode * (unit.episodes - row.episodes))
        for key in (unit.cost_key, _family(unit)):
            if key in self._seconds:
                seconds = sum(spent for spent, _ in self._seconds[key])
                per_episode = seconds / sum(episodes for _, episodes in self._seconds[key])
                spent = 0.0 if row is None else now - row.started
                return max(0.0, per_episode * max(1, unit.episodes) - spent)
        return None if unit.kind == TRAINING else _FALLBACK_S

    def render(self) -> RenderableType:
        """The table of what runs."""
        table = PlainTable(title=f"{self.plan.spec.name}, {self.plan.size}")
        for column in ("running", "episodes", "last 10", "time"):
            table.add_column(column, justify="left" if column == "running" else "right")
        for row in self._running.values():
            episodes = f"{row.episodes} of {row.unit.episodes}" if row.unit.kind == TRAINING else ""
            recent = "" if math.isnan(row.recent) else f"{row.recent:.4g}"
            table.add_row(row.unit.title, episodes, recent, duration(time.monotonic() - row.started))
        return Group(table, Text(self.headline()))


def _family(unit: Unit) -> str:
    return f"{unit.kind} {unit.name} {unit.preset}"
