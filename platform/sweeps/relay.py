"""What a sweep's trials are doing, passed on to whoever watches.

Tune pickles its callbacks with the experiment and brings the pickled ones back when it is resumed. So the callback
here holds nothing; whoever watches belongs to this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback

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

    def watch(self, trials: Sequence[TrialView]) -> None:
        """Look at all trials, in order of their numbers."""


class Stand:
    """A watcher that remembers how the trials stood last.

    Attributes:
        trials: The trials.
    """

    def __init__(self) -> None:
        self.trials: list[TrialView] = []

    def watch(self, trials: Sequence[TrialView]) -> None:
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
    """Tells the watchers after every step of Tune in which something changed."""

    def __init__(self) -> None:
        self._seen: list[tuple[Any, ...]] = []

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Compare with the last step; Tune makes ten empty ones a second."""
        if (stand := stand_of(trials)) != self._seen:
            self._tell(trials, stand)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Tell at least once: an experiment that is restored after its last step makes no further one."""
        if not self._seen:
            self._tell(trials, stand_of(trials))

    def _tell(self, trials: list[Any], stand: list[tuple[Any, ...]]) -> None:
        self._seen = stand
        views = views_of(trials)
        for watcher in _watchers:
            watcher.watch(views)


def stand_of(trials: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What changes when something has happened to Tune's trials that is worth remembering."""
    return [
        (
            trial.trial_id,
            trial.status,
            len((trial.last_result or {}).get("history", ())),
            trial.checkpoint.path if trial.checkpoint else None,
        )
        for trial in trials
    ]


def views_of(trials: Sequence[Any]) -> list[TrialView]:
    """Describe Tune's trials, in order of their numbers."""
    # Tune numbers the tags of trials as they are created, some searchers from 0 and some from 1; lists of restored
    # trials are in another order.
    numbers = {trial.trial_id: int(str(trial.experiment_tag).split("_")[0].split("@")[0]) for trial in trials}
    first = min(numbers.values(), default=0)
    views = [
        TrialView(
            identity=trial.trial_id,
            number=numbers[trial.trial_id] - first,
            status=_STATUS.get(trial.status, WAITING),
            config=dict(trial.config),
            history=tuple((trial.last_result or {}).get("history", ())),
            schedule=tuple((start, values) for start, values in (trial.last_result or {}).get("schedule", ())),
            checkpoint=Path(trial.checkpoint.path) if trial.checkpoint else None,
            restarts=trial.num_failures,
            error=Path(trial.error_file) if trial.error_file else None,
        )
        for trial in trials
    ]
    return sorted(views, key=lambda view: view.number)
