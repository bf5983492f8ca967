# SPDX-License-Identifier: Apache-2.0
"""What a sweep's trials are doing, passed on to whoever watches.

Tune pickles its callbacks with the experiment and brings the pickled ones back when it is resumed. So the callback
here holds nothing; whoever watches belongs to this process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback

from edgegen.platform.sweeps.history import history_of

RUNNING, WAITING, FINISHED, FAILED = "running", "waiting", "finished", "failed"
_STATUS = {"RUNNING": RUNNING, "TERMINATED": FINISHED, "ERROR": FAILED}


@dataclass(frozen=True)
class TrialView:
    """A trial as it stands.

    Attributes:
        identity: Tune's name of it.
        number: Its number in the order of creation, from 0.
        status: :data:`RUNNING`, :data:`WAITING`, :data:`FINISHED` or :data:`FAILED`.
        config: Its config.
        history: Its reports, see :class:`~edgegen.platform.sweeps.trial.SweepTrial`.
        schedule: Its values, as pairs of the episodes after which they hold, and themselves.
        checkpoint: Its latest checkpoint.
        restarts: How often it continued after a failure.
        error: Where its last error is written.
    """

    identity: str
    number: int
    status: str
    config: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    schedule: tuple[tuple[int, dict[str, Any]], ...]
    checkpoint: Path | None
    restarts: int = 0
    error: Path | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The values that hold now."""
        return self.schedule[-1][1] if self.schedule else dict(self.config.get("settings", {}))

    @property
    def episodes(self) -> int:
        """Training episodes so far."""
        return int(self.history[-1]["episodes"]) if self.history else 0

    @property
    def objective(self) -> float | None:
        """The last value of the metric."""
        return float(self.history[-1]["objective"]) if self.history else None

    @property
    def also(self) -> dict[str, float]:
        """The last values of further objectives, by metric."""
        return dict(self.history[-1].get("also", {})) if self.history else {}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> TrialView:
        """Read what :meth:`to_json` wrote."""
        schedule = tuple((start, values) for start, values in data["schedule"])
        paths = {name: None if data[name] is None else Path(data[name]) for name in ("checkpoint", "error")}
        return cls(**{**data, **paths, "history": tuple(data["history"]), "schedule": schedule})

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in (FINISHED, FAILED)


class Watcher(Protocol):
    """Is told how the trials stand whenever something has happened."""

    def watch(self, trials: Sequence[TrialView], changed: Sequence[TrialView]) -> None:
        """Look at all trials, in order of their numbers, and at those that changed since the last time."""


class Stand:
    """A watcher that remembers how the trials stood last.

    Attributes:
        trials: The trials.
    """

    def __init__(self) -> None:
        self.trials: list[TrialView] = []

    def watch(self, trials: Sequence[TrialView], changed: Sequence[TrialView]) -> None:
        """Remember."""
        self.trials = list(trials)


_watchers: list[Watcher] = []


@contextmanager
def watching(watchers: Sequence[Watcher]) -> Iterator[None]:
    """Pass the trials of this process's experiments on to watchers for the length of a block."""
    _watchers.extend(watchers)
    try:
        yield
    finally:
        _watchers.clear()


class Relay(Callback):  # type: ignore[misc]  # Ray has no types
    """Tells the watchers after every step of Tune in which something happened, at no cost for trials it did not."""

    def __init__(self) -> None:
        self._changed: dict[str, Any] = {}
        self._known = 0
        self._first = 1
        self._views: list[TrialView] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note it."""
        self._changed[trial.trial_id] = trial

    on_trial_restore = on_trial_save = on_trial_result = on_trial_start
    on_trial_complete = on_trial_error = on_trial_recover = on_trial_start

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tell what happened; in most steps nothing does."""
        if self._changed or len(trials) != self._known:
            self._tell(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Tell at least once: an experiment that is restored after its last step makes no further one."""
        self._changed = {trial.trial_id: trial for trial in trials}
        self._tell(trials)

    def _tell(self, trials: list[Any]) -> None:
        for trial in trials[self._known :]:
            # Tune numbers the tags of trials as they are created, some searchers from 0 and some from 1.
            self._first = min(self._first, _number(trial))
            self._changed[trial.trial_id] = trial
        self._known = len(trials)
        changed = [view_of(trial, self._first) for trial in self._changed.values()]
        self._changed.clear()
        for view in changed:
            self._put(view)
        for watcher in _watchers:
            watcher.watch(self._views, changed)

    def _put(self, view: TrialView) -> None:
        """Put a view in its place, among the others in order of their numbers."""
        place = bisect_left(self._views, view.number, key=_by_number)
        self._views[place : place + (place < len(self._views) and self._views[place].number == view.number)] = [view]


def view_of(trial: Any, first: int) -> TrialView:
    """Describe one of Tune's trials.

    Args:
        trial: The trial.
        first: Tune's number of the first of all.
    """
    return TrialView(
        identity=trial.trial_id,
        number=_number(trial) - first,
        status=_STATUS.get(trial.status, WAITING),
        config=dict(trial.config),
        history=tuple(history_of(trial.trial_id)),
        schedule=tuple((start, values) for start, values in (trial.last_result or {}).get("schedule", ())),
        checkpoint=Path(trial.checkpoint.path) if trial.checkpoint else None,
        restarts=trial.num_failures,
        error=Path(trial.error_file) if trial.error_file else None,
    )


def _number(trial: Any) -> int:
    return int(str(trial.experiment_tag).split("_")[0].split("@")[0])


def _by_number(view: TrialView) -> int:
    return view.number
