"""A job in MLflow: one parent run, and one child for every unit, exactly once.

A run is recognised by its tags, never by a list kept elsewhere, and everything here can be done again without doing it
twice. So a driver that is killed at any moment finds its records, completes them and adds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
        run_id: Its id.
        status: Its status.
        stored: Whether its files are stored.
        described: Whether its parameters are.
        logged: Last step of its metrics; None if an earlier process began it.
    """

    run_id: str
    status: str = RUNNING
    stored: bool = False
    described: bool = True
    logged: int | None = 0


class Records:
    """Keeps MLflow's records of one job.

    Args:
        store: Where to.
        job: What it is: ``study``, ``sweep``; the runs have the tag ``edgegen.JOB``.
        identity: What no other job is called.
        name: Name of the parent run.
        parameters: Parameters of the parent run.
        keys: Tags that tell children apart.

    Attributes:
        parent: Id of the parent run; None if the store went away.
        children: Runs of units by the values of those tags.
    """

    def __init__(
        self, store: Store, job: str, identity: str, name: str, parameters: Mapping[str, Any], keys: Sequence[str]
    ) -> None:
        self.store = store
        self.job = job
        self.identity = identity
        self.keys = tuple(keys)
        self.parent: str | None = None
        self.children: dict[Key, Child] = {}
        self._monitor: Any = None
        self.store.attempt(lambda: self._find(name, parameters))

    @property
    def _tags(self) -> dict[str, str]:
        return {f"edgegen.{self.job}": self.identity}

    def _find(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Find what there is of this job, and begin the parent if there is none."""
        self.children = {}
        for run in self._runs():
            tags = run.data.tags
            if tags.get(ROLE) == self.job:
                self.parent = run.info.run_id
            else:
                child = Child(run.info.run_id, run.info.status, STORED in tags, bool(run.data.params), None)
                self.children[tuple(tags[key] for key in self.keys)] = child
        if self.parent is None:
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
        """Begin to record the machine."""
        self._of_parent(lambda parent: setattr(self, "_monitor", self.store.watch_system(parent)))

    def child(
        self, key: Key, name: str, role: str, parameters: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Child:
        """Return the run of a unit, made if there is none, with its parameters."""
        child = self.children.get(key)
        if child is None:
            own = dict(zip(self.keys, key, strict=True))
            all_tags = {**self._tags, ROLE: role, PARENT: str(self.parent), **own, **(tags or {})}
            child = self.children[key] = Child(self.store.create_run(name, all_tags, parameters))
        elif not child.described:
            self.store.log_parameters(child.run_id, parameters)
            child.described = True
        return child

    def log_new(self, child: Child, rows: Rows, witness: str) -> None:
        """Log the rows of later steps than the last that is there.

        Args:
            child: The run.
            rows: The rows, in order of their steps.
            witness: A metric of every row.
        """
        if child.logged is None:
            history = self.store.client.get_metric_history(child.run_id, witness)
            child.logged = max((metric.step for metric in history), default=0)
        logged = child.logged
        new = [(step, metrics) for step, metrics in rows if step > logged]
        if new:
            self.store.log_metrics(child.run_id, new)
            child.logged = new[-1][0]

    def end(self, child: Child, status: str, store_files: Callable[[str], None]) -> None:
        """Say how a unit ended, and store its files; doing it again does nothing.

        Args:
            child: Its run.
            status: ``FINISHED``, ``FAILED``, or ``RUNNING`` if it is under way (again).
            store_files: Stores them, given the id of the run.
        """
        if child.status == status and (child.stored or status in (RUNNING, FAILED)):
            return
        if status == RUNNING:
            self.store.client.update_run(child.run_id, status=RUNNING)
            child.status = status
            return
        if not child.stored:
            store_files(child.run_id)
            if status == FINISHED:
                self.store.client.set_tag(child.run_id, STORED, "yes")
                child.stored = True
        self.store.client.set_terminated(child.run_id, status)
        child.status = status

    def forget(self, key: Key) -> None:
        """Delete the run of a unit."""
        child = self.children.pop(key)
        self.store.attempt(lambda: self.store.client.delete_run(child.run_id))

    def log(self, rows: Rows) -> None:
        """Log metrics of the job as a whole."""
        self._of_parent(lambda parent: self.store.log_metrics(parent, rows))

    def store_file(self, file: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, with the parent."""
        client = self.store.client
        log = client.log_artifacts if file.is_dir() else client.log_artifact
        self._of_parent(lambda parent: log(parent, str(file), folder))

    def finish(self, status: str) -> None:
        """End the parent as ``FINISHED``, ``KILLED`` or ``FAILED``, and with it the units that are under way."""
        if self._monitor is not None:
            self._monitor.finish()
        for child in self.children.values():
            if child.status == RUNNING:
                self.store.attempt(partial(self.store.client.set_terminated, child.run_id, KILLED))
                child.status = KILLED
        self._of_parent(lambda parent: self.store.client.set_terminated(parent, status))

    def _of_parent(self, action: Callable[[str], object]) -> None:
        parent = self.parent
        if parent is not None:
            self.store.attempt(lambda: action(parent))


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
