# SPDX-License-Identifier: Apache-2.0
"""Units on Ray: as many side by side as there is room for, each in a process of its own."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from edgegen.platform.engine.doing import ERROR_FILE, run_unit, unfinished, unit_folder
from edgegen.platform.engine.unit import Unit
from edgegen.platform.files import write_text

ATTEMPTS = 2
_POLL_S = 0.5
_UNITS_PER_PROCESS = 10  # a fresh process costs seconds; what libraries keep in memory grows with the units


class Watcher:
    """Is told what happens to units, in the process that runs them; subclasses listen to what they need."""

    def started(self, unit: Unit) -> None:
        """A unit has begun, or begun again."""

    def noted(self, rows: Mapping[str, tuple[int, float]]) -> None:
        """How far units are, by identity: finished episodes, and the recent value of what tells how good they were."""

    def finished(self, unit: Unit) -> None:
        """A unit is done."""

    def failed(self, unit: Unit, again: bool) -> None:
        """A unit has failed, and whether it will be tried again."""


class Board:
    """Where units say how far they are; an actor, so that it works across machines."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, float]] = {}

    def report(self, identity: str, episodes: int, recent: float) -> None:
        """Note how far a unit is."""
        self._rows[identity] = (episodes, recent)

    def rows(self) -> dict[str, tuple[int, float]]:
        """Return what was noted, by unit."""
        return self._rows


def room_for(units: Sequence[Unit]) -> int:
    """How many units, each as large as the largest, the running Ray holds at a time; at least one."""
    there, needed = ray.cluster_resources(), dict[str, float]()
    for unit in units:
        for name in {name for bundle in unit.bundles for name in bundle}:
            amount = sum(bundle.get(name, 0.0) for bundle in unit.bundles)
            needed[name] = max(amount, needed.get(name, 0.0))
    fitting = (there.get(name, 0.0) / amount for name, amount in needed.items() if amount)
    return max(1, int(min(fitting, default=1.0)))


def run_units(
    units: Sequence[Unit],
    root: Path,
    watchers: Sequence[Watcher],
    jobs: int | None = None,
    attempts: int = ATTEMPTS,
    here: bool = False,
) -> dict[str, str]:
    """Run what is left of some units; Ray must be running.

    A unit that fails is tried again where it was cut off, then left out.

    Args:
        units: The units.
        root: The folder they live in; with a cluster, one that all machines see under this name.
        watchers: Are told what happens.
        jobs: Most units at a time; as many as there is room for if None.
        attempts: How often a unit is tried.
        here: Whether units run on this machine only, because no other one sees the folder.

    Returns:
        By identity, the last line of what went wrong with units that failed.
    """
    waiting = deque((unit, 1) for unit in unfinished(units, root))
    jobs = jobs or room_for(units)
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    pin = {f"node:{ray.util.get_node_ip_address()}": 0.001} if here else {}
    board = ray.remote(num_cpus=0, scheduling_strategy=this_node)(Board).remote()  # not where machines come and go
    running: dict[Any, tuple[Unit, int, Any]] = {}
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                unit, attempt = waiting.popleft()
                task, room = _start(unit, unit_folder(root, unit.identity).resolve(), board, pin)
                running[task] = (unit, attempt, room)
                for watcher in watchers:
                    watcher.started(unit)
            done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
            rows = ray.get(board.rows.remote())
            for watcher in watchers:
                watcher.noted(rows)
            for task in done:
                unit, attempt, room = running.pop(task)
                error = _outcome(task)
                _leave(room)
                file = unit_folder(root, unit.identity) / ERROR_FILE
                if error is None:
                    file.unlink(missing_ok=True)
                    for watcher in watchers:
                        watcher.finished(unit)
                    continue
                write_text(file, error)
                again = attempt < attempts
                if again:
                    waiting.append((unit, attempt + 1))
                else:
                    failed[unit.identity] = error.strip().splitlines()[-1]
                for watcher in watchers:
                    watcher.failed(unit, again)
    finally:
        for task, (_, _, room) in running.items():
            ray.cancel(task, force=True)
            _leave(room)
    return failed


def _start(unit: Unit, folder: Path, board: Any, pin: Mapping[str, float]) -> tuple[Any, Any]:
    """Start a unit, with a resource that only the right machine has.

    Returns:
        Ray's task and, where the unit has processes of its own, what keeps room for all of them.
    """
    own, *more = unit.bundles
    options: dict[str, Any] = {"num_cpus": own.get("CPU", 0.0), "num_gpus": own.get("GPU", 0.0), "resources": {**pin}}
    room = None
    if more:
        room = placement_group([{**own, **pin}, *(dict(bundle) for bundle in more)])
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(room, 0, True)
    work = ray.remote(max_retries=0, max_calls=_UNITS_PER_PROCESS, **options)(_remote_unit)
    return work.remote(unit, str(folder), board), room


def _leave(room: Any) -> None:
    if room is not None:
        remove_placement_group(room)


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


def _outcome(task: Any) -> str | None:
    """What went wrong with a task; also if its worker, or its machine, went away."""
    try:
        error: str | None = ray.get(task)
    except ray.exceptions.RayError as lost:
        return f"{type(lost).__name__}: {str(lost).strip().splitlines()[0]}"
    return error
