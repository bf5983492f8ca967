# SPDX-License-Identifier: Apache-2.0
"""A unit in its own folder: done once, resumed where it was cut off, kept as data.

A folder holds ``unit.json``, what the unit is; what the unit itself puts there; ``evaluation-*.json``; ``effort.json``,
what it took so far; and, last of all, ``done.json``. Each appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

import edgegen
from edgegen.platform.engine.unit import Evaluation, Unit
from edgegen.platform.files import write_json
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.runs.evaluation import evaluate

UNITS_FOLDER = "units"
UNIT_FILE, DONE_FILE, EFFORT_FILE, ERROR_FILE = "unit.json", "done.json", "effort.json", "error.txt"
LOCK_FILE = ".lock"
_EFFORT_EVERY_S = 5.0
_NAMES = ("name", "description")  # of a world; they decide nothing

_DECIDING = {
    "envs": "*.py",
    "algorithms": "*.py",
    "platform/studies": "ppo.py",
    "platform/runs": "rule_search.py",
}

OnProgress = Callable[[int, float], None]
"""Called with finished episodes and the recent value of what tells how good they were."""


class StoppedEarlyError(Exception):
    """The process was asked to stop; the unit goes on another time."""


def unit_folder(root: Path, identity: str) -> Path:
    """Where a unit lives in the folder of whoever asks for it."""
    return root / UNITS_FOLDER / identity


def unfinished(units: Iterable[Unit], root: Path) -> list[Unit]:
    """Units that are left to do, in order."""
    return [unit for unit in units if not is_done(unit, unit_folder(root, unit.identity))]


def is_done(unit: Unit, folder: Path) -> bool:
    """Whether nothing is left to do of a unit."""
    done = read_done(folder)
    return (
        done is not None
        and all(evaluation.file_name in done["evaluations"] for evaluation in unit.evaluations)
        and _is_of(unit, folder)
    )


def _is_of(unit: Unit, folder: Path) -> bool:
    """Whether a folder holds this unit: its identity, and no other value where a default has changed since."""
    try:
        found = read_json(folder / UNIT_FILE)
        here = json.loads(json.dumps(unit.described()))
        same = [
            all(found[part].get(name, value) == value for name, value in here[part].items() if name not in _NAMES)
            for part in ("settings", "world")
        ]
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all(same)


def read_done(folder: Path) -> dict[str, Any] | None:
    """Return what a finished unit says of itself, None if it is not finished."""
    try:
        done: dict[str, Any] = read_json(folder / DONE_FILE)
    except (OSError, ValueError):
        return None
    return done


def read_json(path: Path) -> Any:
    """Read a file that this program wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def run_unit(unit: Unit, folder: Path, on_progress: OnProgress) -> None:
    """Do what is left of a unit.

    Another process that works on the same unit is waited for, and what it did is not done again.

    Raises:
        StoppedEarlyError: If the process was asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK_FILE):
        if not is_done(unit, folder):
            prefer_one_thread()
            quiet_libraries()
            _run(unit, folder, on_progress)


def _run(unit: Unit, folder: Path, on_progress: OnProgress) -> None:
    if not _is_of(unit, folder):
        for old in folder.iterdir():
            if old.name != LOCK_FILE:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        write_json(folder / UNIT_FILE, unit.described())
    with Effort(folder, on_progress) as effort:
        unit.work(folder, effort)
        for evaluation in unit.evaluations:
            if not (folder / evaluation.file_name).exists():
                write_json(folder / evaluation.file_name, _judged(unit, folder, evaluation))
        done = {
            "identity": unit.identity,
            "evaluations": [evaluation.file_name for evaluation in unit.evaluations],
            **effort.total(),
            "version": edgegen.__version__,
            "code": code_digest(),
        }
        write_json(folder / DONE_FILE, done)


def _judged(unit: Unit, folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    policy = unit.policy(folder, evaluation)
    results = {
        mode: evaluate(evaluation.world, policy, evaluation.episodes, evaluation.seed, explore)
        for mode, explore in unit.modes.items()
    }
    return {
        "information": policy.information,
        "modes": {
            mode: {name: values.tolist() for name, values in result.values.items()} for mode, result in results.items()
        },
        "decisions": sum(result.decisions for result in results.values()),
        "decision_wall_s": sum(result.decision_wall_s for result in results.values()),
    }


class Effort:
    """What a unit takes over all its attempts, and where each went on.

    Args:
        folder: Folder of the unit.
        on_progress: Is told how far it is.
    """

    def __init__(self, folder: Path, on_progress: OnProgress) -> None:
        self._file = folder / EFFORT_FILE
        self._on_progress = on_progress
        try:
            self._before: dict[str, Any] = read_json(self._file)
        except (OSError, ValueError):
            self._before = {"wall_s": 0.0, "cpu_s": 0.0, "resumed_at": []}

    def __enter__(self) -> Effort:
        self._wall, self._cpu, self._kept = time.perf_counter(), time.process_time(), 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self._keep()

    def resumed(self, episodes: int) -> None:
        """Note that this attempt goes on from a checkpoint after so many episodes."""
        self._before["resumed_at"].append(episodes)

    def note(self, episodes: int, recent: float) -> None:
        """Note finished episodes, and the recent value of what tells how good they were."""
        if time.perf_counter() - self._wall - self._kept > _EFFORT_EVERY_S:  # a kill loses seconds of it only
            self._keep()
        self._on_progress(episodes, recent)

    def total(self) -> dict[str, Any]:
        """Wall time and processor time so far, s, and the episodes at which attempts went on."""
        return {
            "wall_s": self._before["wall_s"] + time.perf_counter() - self._wall,
            "cpu_s": self._before["cpu_s"] + time.process_time() - self._cpu,
            "resumed_at": self._before["resumed_at"],
        }

    def _keep(self) -> None:
        self._kept = time.perf_counter() - self._wall
        write_json(self._file, self.total())


@cache
def code_digest() -> str:
    """Return a short hash of the source that decides results: worlds, learners, PPO, and the search of rules."""
    root = Path(edgegen.__file__).parent
    made = hashlib.sha256()
    for room, files in _DECIDING.items():
        for path in sorted((root / room).rglob(files)):
            made.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return made.hexdigest()[:12]
