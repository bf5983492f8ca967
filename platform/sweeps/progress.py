# SPDX-License-Identifier: Apache-2.0
"""What people see while a sweep runs: a live table in a terminal, a line per trial in a log file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from edgegen.platform.live_table import LiveTable, duration
from edgegen.platform.screen import PlainTable
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, WAITING, TrialView

_ROWS = 15
_ORDER = {RUNNING: 0, WAITING: 1, FINISHED: 2, FAILED: 3}


class SweepProgress(LiveTable):
    """Shows how the trials of the search stand.

    Args:
        sweep: The sweep.
        console: Where to.
        title: What the stage is.
        total: Trials there will be.
    """

    def __init__(self, sweep: CheckedSweep, console: Console, title: str, total: int) -> None:
        self.sweep = sweep
        super().__init__(console)
        self.title = title
        self.total = total
        self._started = time.monotonic()
        self._at_start: float | None = None
        self._trials: list[TrialView] = []
        self._told: set[str] = set()

    def watch(self, trials: Sequence[TrialView], changed: Sequence[TrialView]) -> None:
        """Take note of how the trials stand."""
        if self._at_start is None:  # what an earlier process did says nothing about the speed of this one
            self._at_start = self._done(trials)
        self._trials = list(trials)
        if self._live is not None:
            return
        for trial in changed:
            if trial.ended and trial.identity not in self._told:
                self._told.add(trial.identity)
                self.console.print(f"{self._line(trial)}  {self.headline()}", soft_wrap=True)

    def headline(self) -> str:
        """Trials by state, the best so far, time, and time left."""
        counts = Counter(trial.status for trial in self._trials)
        ended = counts[FINISHED] + counts[FAILED]
        parts = [f"{ended} of {self.total} trials", f"{counts[RUNNING]} running"]
        if counts[FAILED]:
            parts.append(f"{counts[FAILED]} failed")
        if (best := best_of(self.sweep, self._trials)) is not None:
            parts.append(f"best {self.sweep.metric} {best.objective:.4g} (trial {best.number})")
        parts.append(f"{duration(time.monotonic() - self._started)} elapsed")
        left = self.seconds_left()
        parts.append("time left unknown" if left is None else f"at most {duration(left)} left")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """Time to the end if no further trial is stopped early, s; None as long as nothing is known."""
        done = self._done(self._trials)
        gained = done - (self._at_start or 0.0)
        elapsed = time.monotonic() - self._started
        if gained <= 0:
            return None
        left = elapsed * (self.total - done) / gained
        limit = self.sweep.spec.budget.time_s
        return left if limit is None else min(left, max(0.0, limit - elapsed))

    def _done(self, trials: Sequence[TrialView]) -> float:
        """Work behind us, in whole trials: one that was stopped early saves the rest."""
        episodes = self.sweep.spec.budget.episodes
        return sum(1.0 if trial.ended else min(1.0, trial.episodes / episodes) for trial in trials)

    def _line(self, trial: TrialView) -> str:
        value = "no result" if trial.objective is None else f"{self.sweep.metric} {trial.objective:.4g}"
        values = "  ".join(f"{name}={short(value)}" for name, value in trial.values.items())
        return f"trial {trial.number} {trial.status} after {trial.episodes} episodes, {value}; {values}"

    def render(self) -> RenderableType:
        """The table: what runs, then the best of what is over."""
        table = PlainTable(title=self.title)
        names = list(self.sweep.space)
        for column in ("trial", "state", "episodes", *(each.metric for each in self.sweep.objectives), *names):
            table.add_column(column, justify="left" if column in ("trial", "state") else "right")
        sign = 1 if self.sweep.mode == "min" else -1
        ranked = sorted(
            self._trials,
            key=lambda trial: (
                _ORDER[trial.status],
                sign * trial.objective if trial.objective is not None else float("inf"),
            ),
        )
        for trial in ranked[:_ROWS]:
            shown = "" if trial.objective is None else f"{trial.objective:.4g}"
            values = [short(trial.values.get(name, "")) for name in names]
            also = [short(trial.also.get(each.metric, "")) for each in self.sweep.also]
            table.add_row(f"trial {trial.number}", trial.status, str(trial.episodes), shown, *also, *values)
        more = len(ranked) - _ROWS
        return Group(table, Text(self.headline() + (f"; {more} trials not shown" if more > 0 else "")))


def best_of(sweep: CheckedSweep, trials: Sequence[TrialView]) -> TrialView | None:
    """Return the trial with the best last value among those that trained the longest; None without any value."""
    known = (trial for trial in trials if trial.history)
    return min(known, key=lambda trial: rank(sweep, trial), default=None)


def ranking(sweep: CheckedSweep, trials: Sequence[TrialView]) -> list[TrialView]:
    """Return trials that have a value, longest trained first and best first among those.

    Values after different amounts of training can not be compared, and those that were stopped were stopped for a
    reason.
    """
    known = [trial for trial in trials if trial.objective is not None]
    return sorted(known, key=lambda trial: rank(sweep, trial))


def rank(sweep: CheckedSweep, trial: TrialView) -> tuple[float, ...]:
    """What trials with a value are ranked by; less is better."""
    sign = 1 if sweep.mode == "min" else -1
    return -min(trial.episodes, sweep.spec.budget.episodes), sign * (trial.objective or 0.0), trial.number


def short(value: object) -> str:
    """Return a value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
