# SPDX-License-Identifier: Apache-2.0
"""Tune's memory of an experiment, kept so that a killed driver loses nothing and a thousand trials cost little.

Tune's own state holds every trial: at a thousand it is megabytes, too much to write with every report. And Tune
overwrites it in place: a driver that is killed at that moment leaves half a file. Here a state is kept as a whole in a
folder of its own, which appears in one step, and so rarely that it costs a fixed number of bytes per change. In
between, the trials that change are appended to a journal in that folder. Restoring begins with putting the newest state
back, with what the journal says of its trials.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

_TRIALS, _GENERATOR = "experiment_state-", "search_gen_state-"
_LIMITER = "name:ConcurrencyLimiter"
_ENDED = ("TERMINATED", "ERROR")
TUNER = "tuner.pkl"
"""In the folder of an experiment: Tune's own description of it."""
_STATES = "states"
_JOURNAL = "journal.jsonl"
_KEPT = 2
BYTES_PER_CHANGE = 2_000
"""What whole states may cost, per change of a trial; the journal costs about as much again."""

_Write = Callable[[], None]


class _Present:
    """How Tune writes its state in this process; callbacks can not hold it, because Tune pickles them."""

    write: _Write | None = None


def written_by(write: _Write) -> None:
    """Say how Tune's state is written."""
    _Present.write = write


class StateKeeper(Callback):  # type: ignore[misc]  # Ray has no types
    """Keeps Tune's state after every step in which something changed, as a whole or by the trials that did."""

    def __init__(self) -> None:
        self._changed: dict[str, Any] = {}
        self._known = 0
        self._changes = 0  # since the last whole state
        self._size = 0
        self._told: dict[str, str] = {}  # what the journal holds of a trial that hardly ever changes

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note it."""
        self._changed[trial.trial_id] = trial

    # Not results: every report is followed by a checkpoint, and what it said is in the history.
    on_trial_restore = on_trial_save = on_trial_start
    on_trial_complete = on_trial_error = on_trial_recover = on_trial_start

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Write down what changed, before anybody else hears of it."""
        for trial in trials[self._known :]:
            self._changed[trial.trial_id] = trial
        self._known = len(trials)
        if not self._changed:
            return
        experiment = experiment_of(trials[0])
        self._changes += len(self._changed)
        if self._changes * BYTES_PER_CHANGE >= self._size and self._keep_whole(trials[0], experiment):
            self._changes = 0
            self._told.clear()
        else:
            append_changes(experiment, [self._entry(trial) for trial in self._changed.values()])
        self._changed.clear()

    def _keep_whole(self, trial: Any, experiment: Path) -> bool:
        if _Present.write is not None:
            _Present.write()
        kept = keep_state(Path(trial.storage.experiment_driver_staging_path), experiment)
        if kept is None:
            return False
        self._size = sum(path.stat().st_size for path in kept.iterdir())
        return True

    def _entry(self, trial: Any) -> dict[str, Any]:
        what, how = trial.get_json_state()
        entry = {"trial": trial.trial_id, "what": None if self._told.get(trial.trial_id) == what else what, "how": how}
        self._told[trial.trial_id] = what
        return entry


def experiment_of(trial: Any) -> Path:
    """Folder in which the driver keeps an experiment; where the trials keep theirs may be elsewhere."""
    return Path(trial.config["folder"]) / str(trial.config["stage"])


def keep_state(staging: Path, experiment: Path) -> Path | None:
    """Keep the newest state in Tune's staging folder where it survives.

    Args:
        staging: Where Tune writes first.
        experiment: Folder of the experiment.

    Returns:
        The copy; None if Tune has not written any yet.
    """
    written = sorted(staging.glob(f"{_TRIALS}*.json"))
    if not written:
        return None
    session = written[-1].stem.removeprefix(_TRIALS)
    states = states_folder(experiment)
    states.mkdir(parents=True, exist_ok=True)
    if not (states / TUNER).exists() and (experiment / TUNER).exists():
        # Written before the first step and never changed, but in later sessions copied onto itself all the time.
        _copy(experiment / TUNER, states / TUNER)
    kept = _kept(experiment)
    number = int(kept[-1].name) + 1 if kept else 0
    temporary = states / f".{number:09d}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for path in staging.iterdir():
        if path.is_file() and session in path.name and not path.name.startswith("."):
            shutil.copyfile(path, temporary / path.name)
    target = states / f"{number:09d}"
    temporary.replace(target)
    for old in kept[: 1 - _KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def append_changes(experiment: Path, entries: list[dict[str, Any]]) -> None:
    """Append trials that changed to the journal of the newest state; without one there is nothing to restore yet."""
    kept = _kept(experiment)
    if kept:
        with (kept[-1] / _JOURNAL).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))


def put_state_back(experiment: Path) -> bool:
    """Replace whatever state files an experiment has by the newest that was kept, as its journal says it went on.

    Returns:
        Whether there was one; if not, no trial had begun.
    """
    kept = _kept(experiment)
    if not kept:
        return False
    experiment.mkdir(exist_ok=True)
    sessions = {path.stem.rpartition("state-")[2] for path in experiment.glob("*state-*")}
    for session in sessions:
        for path in experiment.glob(f"*{session}*"):
            if path.is_file():
                path.unlink()
    for path in (states_folder(experiment) / TUNER, *kept[-1].iterdir()):
        if path.name != _JOURNAL:
            _copy(path, experiment / path.name)
    changes = _journal(kept[-1])
    if changes:
        _apply(experiment, changes)
    return True


def _journal(state: Path) -> dict[str, tuple[str, str]]:
    """What became of trials since a state: what each is, and how it stands."""
    found: dict[str, tuple[str, str]] = {}
    with contextlib.suppress(FileNotFoundError):
        data = (state / _JOURNAL).read_bytes()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            entry = json.loads(line)
            what = entry["what"] or found[entry["trial"]][0]
            found[entry["trial"]] = (what, entry["how"])
    return found


def _apply(experiment: Path, changes: dict[str, tuple[str, str]]) -> None:
    (file,) = experiment.glob(f"{_TRIALS}*.json")
    state = json.loads(file.read_text(encoding="utf-8"))
    trials: dict[str, list[str]] = {}
    status: dict[str, str] = {}
    for what, how in (*state["trial_data"], *changes.values()):
        about = json.loads(what)
        trials[about["trial_id"]], status[about["trial_id"]] = [what, how], about["status"]
    state["trial_data"] = list(trials.values())
    file.write_text(json.dumps(state), encoding="utf-8")
    for generator in experiment.glob(f"{_GENERATOR}*.json"):  # how many trials were made; a pickle by any other name
        made = pickle.loads(generator.read_bytes())  # our own
        made["counter"] = max(made["counter"], len(trials))
        limiter = made.get(_LIMITER)
        if limiter is not None:  # a trial that has ended since would take a place for ever
            live = {trial for trial, how in status.items() if how not in _ENDED}
            limiter |= {"live_trials": live, "num_unfinished_live_trials": len(live)}
        generator.write_bytes(pickle.dumps(made))


def trials_in(experiment: Path) -> list[dict[str, Any]]:
    """Plain values of the trials in a state that was put back, in order of their creation."""
    files = list(experiment.glob(f"{_TRIALS}*.json"))
    if not files:
        return []
    state = json.loads(max(files).read_text(encoding="utf-8"))
    return [json.loads(what) for what, _ in state["trial_data"]]


def _copy(source: Path, target: Path) -> None:
    """Copy a file, which appears in one step."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def forget(experiment: Path) -> None:
    """Remove an experiment in which no trial had begun, or that is over and recorded."""
    shutil.rmtree(experiment, ignore_errors=True)
    shutil.rmtree(states_folder(experiment), ignore_errors=True)


def states_folder(experiment: Path) -> Path:
    """Where the states of an experiment are kept."""
    # Beside the experiment: Tune copies all files it finds in its own folder whenever it restores.
    return experiment.with_name(f"{experiment.name}-{_STATES}")


def _kept(experiment: Path) -> list[Path]:
    folder = states_folder(experiment)
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []
