# SPDX-License-Identifier: Apache-2.0
"""A job in MLflow: one parent run, and one child for every unit, exactly once.

A run is recognised by its tags, never by a list kept elsewhere, and everything here can be done again without doing it
twice. So a driver that is killed at any moment finds its records, completes them and adds none. MLflow is asked how
things stand once, at the beginning; from then on records are only handed over (see
:mod:`edgegen.platform.records.tracking`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegen.algorithms.stop_signals import stopping_as_ctrl_c
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.records.tracking import Store

ROLE, STORED = "edgegen.role", "edgegen.artifacts_stored"
"""Tags of runs: the job's own name for the parent, another for children; whether the files of a child are stored."""
PARENT = "mlflow.parentRunId"
FINISHED, FAILED, KILLED, RUNNING = "FINISHED", "FAILED", "KILLED", "RUNNING"
"""Status of runs."""

Key = tuple[str, ...]
Rows = Sequence[tuple[int, Mapping[str, float]]]
"""Pairs of step and metrics by name."""

_PAGE = 1000


@dataclass
class Child:
    """The run of a unit.

    Attributes:
        run: What it is called, see :class:`~edgegen.platform.records.tracking.Store`.
        status: Its status.
        stored: Whether its files are stored.
        described: Whether its parameters are.
        logged: Last step of its metrics.
    """

    run: str
    status: str = RUNNING
    stored: bool = False
    described: bool = True
    logged: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to record."""
        return self.stored and self.described and self.status == FINISHED


class Records:
    """Keeps MLflow's records of one job.

    Args:
        store: Where to.
        job: What it is: ``study``, ``sweep``; the runs have the tag ``edgegen.JOB``.
        identity: What no other job is called.
        name: Name of the parent run.
        parameters: Parameters of the parent run.
        keys: Tags that tell children apart.
        witness: A metric of every row of a child that is recorded as it goes.

    Attributes:
        parent: Id of the parent run.
        children: Runs of units by the values of those tags.

    Raises:
        InputError: If MLflow can not be used.
    """

    def __init__(
        self,
        store: Store,
        job: str,
        identity: str,
        name: str,
        parameters: Mapping[str, Any],
        keys: Sequence[str],
        witness: str | None = None,
    ) -> None:
        self.store = store
        self.job = job
        self.identity = identity
        self.keys = tuple(keys)
        self.parent = ""
        self.children: dict[Key, Child] = {}
        with store.loudly():
            store.begin()
            self._find(name, parameters, witness)

    @property
    def _tags(self) -> dict[str, str]:
        return {f"edgegen.{self.job}": self.identity}

    def _find(self, name: str, parameters: Mapping[str, Any], witness: str | None) -> None:
        """Find what there is of this job, and begin the parent if there is none."""
        for run in self._runs():
            tags = run.data.tags
            if tags.get(ROLE) == self.job:
                self.parent = run.info.run_id
            else:
                child = Child(run.info.run_id, run.info.status, STORED in tags, bool(run.data.params))
                if witness is not None and not child.complete:
                    history = self.store.client.get_metric_history(child.run, witness)
                    child.logged = max((metric.step for metric in history), default=0)
                self.children[tuple(tags[key] for key in self.keys)] = child
        if not self.parent:
            self.parent = self.store.create_run(name, {**self._tags, ROLE: self.job}, parameters)
        else:
            self.store.client.update_run(self.parent, status=RUNNING)

    def _runs(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self.store.client.search_runs(
                [self.store.experiment_id],
                filter_string=f"tags.`edgegen.{self.job}` = '{self.identity}'",
                max_results=_PAGE,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def begin(self) -> None:
        """Begin to record the machine.

        Raises:
            InputError: If MLflow can not be used.
        """
        with self.store.loudly():
            self.store.watch(self.parent)

    def child(
        self, key: Key, name: str, role: str, parameters: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Child:
        """Return the run of a unit, made if there is none, with its parameters."""
        child = self.children.get(key)
        if child is None:
            own = dict(zip(self.keys, key, strict=True))
            all_tags = {**self._tags, ROLE: role, PARENT: self.parent, **own, **(tags or {})}
            child = self.children[key] = Child(self.store.make_run(name, all_tags, parameters))
        elif not child.described:
            self.store.log_parameters(child.run, parameters)
            child.described = True
        return child

    def log_new(self, child: Child, rows: Rows) -> None:
        """Log the rows of later steps than the last that is there.

        Args:
            child: The run.
            rows: The rows, in order of their steps.
        """
        if child.complete:
            return
        new = [(step, metrics) for step, metrics in rows if step > child.logged]
        if new:
            self.store.log_metrics(child.run, new)
            child.logged = new[-1][0]

    def end(self, child: Child, status: str, store_files: Callable[[str], None]) -> None:
        """Say how a unit ended, and store its files; doing it again does nothing.

        Args:
            child: Its run.
            status: ``FINISHED``, ``FAILED``, or ``RUNNING`` if it is under way (again).
            store_files: Stores them, given what the run is called.
        """
        if child.status == status and (child.stored or status in (RUNNING, FAILED)):
            return
        if status == RUNNING:
            self.store.go_on(child.run)
            child.status = status
            return
        if not child.stored:
            store_files(child.run)
            if status == FINISHED:
                self.store.set_tags(child.run, {STORED: "yes"})
                child.stored = True
        self.store.end_run(child.run, status)
        child.status = status

    def forget(self, key: Key) -> None:
        """Delete the run of a unit."""
        self.store.delete_run(self.children.pop(key).run)

    def log(self, rows: Rows) -> None:
        """Log metrics of the job as a whole."""
        self.store.log_metrics(self.parent, rows)

    def store_file(self, file: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, with the parent."""
        self.store.store_file(self.parent, file, folder)

    def id_of(self, key: Key) -> str | None:
        """Id of the run of a unit, after :meth:`~edgegen.platform.records.tracking.Store.flush`; None without one."""
        child = self.children.get(key)
        return None if child is None else self.store.id_of(child.run)

    def finish(self, status: str) -> None:
        """End the parent as ``FINISHED``, ``KILLED`` or ``FAILED``, and with it the units that are under way."""
        self.store.stop_watching()
        for child in self.children.values():
            if child.status == RUNNING:
                self.store.end_run(child.run, KILLED)
                child.status = KILLED
        self.store.end_run(self.parent, status)
        self.store.flush()
        self.store.close()


@dataclass
class Ending:
    """How a job ends.

    Attributes:
        records: Its records, as soon as there are any.
        status: What is recorded if nothing goes wrong.
    """

    records: Records | None = None
    status: str = FINISHED


@contextmanager
def ending_recorded() -> Iterator[Ending]:
    """Record how the block ends, and treat whatever asks to stop in it as Ctrl-C."""
    prefer_one_thread()
    quiet_libraries()
    ending = Ending()
    with stopping_as_ctrl_c():
        try:
            yield ending
        except KeyboardInterrupt:
            ending.status = KILLED
            raise
        except BaseException:
            ending.status = FAILED
            raise
        finally:
            if ending.records is not None:
                ending.records.finish(ending.status)
