"""Tune's memory of an experiment, kept so that a killed driver loses nothing.

Tune overwrites its state files in place, over and over: a driver that is killed at that moment leaves half a file, and
the experiment can not be restored. Here every state worth remembering is copied as a whole into a folder of its own,
which appears in one step; restoring begins with putting the newest one back.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback

from edgegen.platform.sweeps.relay import stand_of

_TRIALS = "experiment_state-"
_TUNER = "tuner.pkl"
_STATES = "states"
_KEPT = 2


class StateKeeper(Callback):  # type: ignore[misc]  # Ray has no types
    """Keeps Tune's state after every step in which something changed; Tune must write it in every step."""

    def __init__(self) -> None:
        self._seen: list[tuple[Any, ...]] = []

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Copy the state that Tune has just written, before anybody else hears of what it says."""
        if (stand := stand_of(trials)) == self._seen:
            return
        storage = trials[0].storage
        keep_state(Path(storage.experiment_driver_staging_path), Path(storage.experiment_fs_path))
        self._seen = stand


def keep_state(staging: Path, experiment: Path) -> Path | None:
    """Copy the newest state in Tune's staging folder to where it survives.

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
    states = _folder(experiment)
    states.mkdir(exist_ok=True)
    if not (states / _TUNER).exists():
        # Written before the first step and never changed, but in later sessions copied onto itself all the time.
        _copy(experiment / _TUNER, states / _TUNER)
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


def put_state_back(experiment: Path) -> bool:
    """Replace whatever state files an experiment has by the newest that was kept whole.

    Returns:
        Whether there was one; if not, no trial had begun.
    """
    kept = _kept(experiment)
    if not kept:
        return False
    sessions = {path.stem.rpartition("state-")[2] for path in experiment.glob("*state-*")}
    for session in sessions:
        for path in experiment.glob(f"*{session}*"):
            if path.is_file():
                path.unlink()
    for path in (_folder(experiment) / _TUNER, *kept[-1].iterdir()):
        _copy(path, experiment / path.name)
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file, which appears in one step."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def forget(experiment: Path) -> None:
    """Remove an experiment in which no trial had begun, or that is over and recorded."""
    shutil.rmtree(experiment, ignore_errors=True)
    shutil.rmtree(_folder(experiment), ignore_errors=True)


def _folder(experiment: Path) -> Path:
    # Beside the experiment: Tune copies all files it finds in its own folder whenever it restores.
    return experiment.with_name(f"{experiment.name}-{_STATES}")


def _kept(experiment: Path) -> list[Path]:
    folder = _folder(experiment)
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []
