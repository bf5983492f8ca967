"""Units of a study on Ray: as many side by side as there are cores, each in a process of its own."""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edgegen.platform.files import write_text
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.progress import StudyProgress
from edgegen.platform.studies.unit import is_done, run_unit
from edgegen.platform.studies.work import Unit

ERROR_FILE = "error.txt"
UNITS_FOLDER = "units"
_ATTEMPTS = 2
_POLL_S = 0.5
_UNITS_PER_PROCESS = 10  # a fresh process costs seconds; what libraries keep in memory grows with the units


def unit_folder(runs: Path, identity: str) -> Path:
    """Where a unit lives in the folder of its study."""
    return runs / UNITS_FOLDER / identity


def unfinished(plan: Plan, runs: Path) -> list[Unit]:
    """Units of a plan that are left to do, in order."""
    return [unit for unit in plan.units.values() if not is_done(unit, unit_folder(runs, unit.identity))]


def available_cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class Board:
    """Where units say how far they are; an actor, so that it works across machines."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, float]] = {}

    def report(self, identity: str, episodes: int, recent: float) -> None:
        """Note the finished episodes of a unit and the recent value of what decides."""
        self._rows[identity] = (episodes, recent)

    def rows(self) -> dict[str, tuple[int, float]]:
        """Return what was noted, by unit."""
        return self._rows


def _remote_unit(unit: Unit, folder: str, board: Any) -> str | None:
    """Run a unit in a worker; returns what went wrong, if anything did."""
    try:
        run_unit(
            unit,
            Path(folder),
            lambda episodes, recent: board.report.remote(unit.identity, episodes, recent),
        )
    except Exception:
        return traceback.format_exc()
    return None


def run_units(
    plan: Plan, runs: Path, jobs: int, progress: StudyProgress, on_done: Callable[[Unit], None]
) -> dict[str, str]:
    """Run what is left of a plan; Ray must be running.

    A unit that fails is tried once more, where it was cut off, and then left out.

    Args:
        plan: The plan.
        runs: Folder of the study.
        jobs: Most units at a time.
        progress: Is told what happens.
        on_done: Called with every unit that was finished, in this process.

    Returns:
        By identity, the last line of what went wrong with units that failed.
    """
    waiting = deque((unit, 1) for unit in unfinished(plan, runs))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()  # not where machines come and go
    work = ray.remote(num_cpus=1, max_retries=0, max_calls=_UNITS_PER_PROCESS)(_remote_unit)
    running: dict[Any, tuple[Unit, int]] = {}
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                unit, attempt = waiting.popleft()
                folder = unit_folder(runs, unit.identity).resolve()
                running[work.remote(unit, str(folder), board)] = (unit, attempt)
                progress.started(unit)
            done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
            progress.noted(ray.get(board.rows.remote()))
            for reference in done:
                unit, attempt = running.pop(reference)
                error = _outcome(reference)
                if error is None:
                    (unit_folder(runs, unit.identity) / ERROR_FILE).unlink(missing_ok=True)
                    progress.finished(unit)
                    on_done(unit)
                    continue
                write_text(unit_folder(runs, unit.identity) / ERROR_FILE, error)
                if attempt < _ATTEMPTS:
                    waiting.append((unit, attempt + 1))
                    progress.failed(unit, again=True)
                else:
                    failed[unit.identity] = error.strip().splitlines()[-1]
                    progress.failed(unit, again=False)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    return failed


def _outcome(reference: Any) -> str | None:
    """What went wrong with a task; also if its worker, or its machine, went away."""
    try:
        error: str | None = ray.get(reference)
    except ray.exceptions.RayError as lost:
        return f"{type(lost).__name__}: {str(lost).strip().splitlines()[0]}"
    return error
