# SPDX-License-Identifier: Apache-2.0
"""What people see while units run: a live table in a terminal, a line per unit in a log file, and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from edgegen.platform.engine.doing import is_done, read_done, unit_folder
from edgegen.platform.engine.runner import Watcher
from edgegen.platform.engine.unit import Unit
from edgegen.platform.live_table import LiveTable, duration
from edgegen.platform.screen import PlainTable

_FALLBACK_S = 5.0  # for a rule, as long as nothing is known


@dataclass
class _Row:
    unit: Unit
    started: float
    at_start: int | None = None
    at_start_time: float = 0.0
    episodes: int = 0
    recent: float = math.nan


class UnitProgress(LiveTable, Watcher):
    """Shows how units stand; a watcher of the runner.

    Args:
        title: What they are for.
        units: All of them.
        root: The folder they live in.
        jobs: Units side by side.
        console: Where to.
        recent: What the recent value of a unit is, a few words.
    """

    def __init__(
        self, title: str, units: Sequence[Unit], root: Path, jobs: int, console: Console, recent: str = "last 10"
    ) -> None:
        super().__init__(console)
        self.title = title
        self.root = root
        self.jobs = jobs
        self.recent = recent
        self.total = len(units)
        self._began = time.monotonic()
        self._running: dict[str, _Row] = {}
        self._left = {unit.identity: unit for unit in units}
        self._errors = 0
        self._seconds: dict[str, list[tuple[float, int]]] = {}  # by cost key: seconds and episodes of what is known
        for unit in units:
            if is_done(unit, unit_folder(root, unit.identity)):
                del self._left[unit.identity]
            self._learn(unit)

    def _learn(self, unit: Unit) -> None:
        """Note what a unit took, over all its attempts, if it is finished."""
        done = read_done(unit_folder(self.root, unit.identity))
        if done is not None:
            for key in unit.cost_keys:
                self._seconds.setdefault(key, []).append((float(done["wall_s"]), max(1, unit.episodes)))

    def started(self, unit: Unit) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        self._running[unit.identity] = _Row(unit, time.monotonic())

    def noted(self, rows: Mapping[str, tuple[int, float]]) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        now = time.monotonic()
        for identity, (episodes, recent) in rows.items():
            row = self._running.get(identity)
            if row is not None and episodes != row.episodes:
                if row.at_start is None:  # earlier attempts say nothing about the speed of this one
                    row.at_start, row.at_start_time = episodes, now
                row.episodes, row.recent = episodes, recent

    def finished(self, unit: Unit) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        row = self._running.pop(unit.identity)
        self._left.pop(unit.identity, None)
        self._learn(unit)
        recent = "" if math.isnan(row.recent) else f", {self.recent} {row.recent:.4g}"
        self._say(f"{unit.title}: done in {duration(time.monotonic() - row.started)}{recent}")

    def failed(self, unit: Unit, again: bool) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
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
        done = self.total - len(self._left) - self._errors
        parts = [f"{done} of {self.total} units", f"{len(self._running)} running"]
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
        for key in unit.cost_keys:
            if key in self._seconds:
                seconds = sum(spent for spent, _ in self._seconds[key])
                per_episode = seconds / sum(episodes for _, episodes in self._seconds[key])
                spent = 0.0 if row is None else now - row.started
                return max(0.0, per_episode * max(1, unit.episodes) - spent)
        return None if unit.learns else _FALLBACK_S

    def render(self) -> RenderableType:
        """The table of what runs."""
        table = PlainTable(title=self.title)
        for column in ("running", "episodes", self.recent, "time"):
            table.add_column(column, justify="left" if column == "running" else "right")
        for row in self._running.values():
            episodes = f"{row.episodes} of {row.unit.episodes}" if row.unit.learns else ""
            recent = "" if math.isnan(row.recent) else f"{row.recent:.4g}"
            table.add_row(row.unit.title, episodes, recent, duration(time.monotonic() - row.started))
        return Group(table, Text(self.headline()))
