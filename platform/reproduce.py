"""A study from beginning to end: units, data, figures, report; each step is done again only where it is not done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.stop_signals import stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError
from edgegen.platform.files import check_writable_folder
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.records.tracking import Store
from edgegen.platform.run_folder import take_again
from edgegen.platform.studies.data import DATA_FOLDER, collect, read_data, save_data, write_if_changed
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.progress import StudyProgress
from edgegen.platform.studies.records import StudyRecords
from edgegen.platform.studies.report import report_paths, write_report
from edgegen.platform.studies.runner import available_cpus, run_units, unfinished, unit_folder
from edgegen.platform.studies.tables import tables_json
from edgegen.platform.studies.unit import is_done
from edgegen.platform.studies.work import Unit

TABLE_FOLDER = "tables"


@dataclass(frozen=True)
class ReproduceRequest:
    """What to reproduce, and where.

    Attributes:
        plan: The study, or a part of it.
        runs: Folder of the units; with a cluster, one that all machines see under this name.
        out: Folder of the report.
        address: Ray cluster to use; a private one if None.
        jobs: Most units at a time; one per core, or all that a cluster holds, if None.
        tracking: Whether to record the study in MLflow.
        report_only: Whether to leave the units alone and make the report of the saved data.
    """

    plan: Plan
    runs: Path
    out: Path
    address: str | None = None
    jobs: int | None = None
    tracking: bool = True
    report_only: bool = False


@dataclass(frozen=True)
class Reproduced:
    """What came of it.

    Attributes:
        report: The report; None if there was nothing to report.
        drawn: Names of the figures that were drawn.
        done: Units that were done by this call.
        found: Units that had been done before.
        failed: What went wrong with units that failed, by their titles.
        seconds: Wall-clock time, s.
    """

    report: Path | None
    drawn: tuple[str, ...]
    done: int
    found: int
    failed: dict[str, str]
    seconds: float


def reproduce(request: ReproduceRequest, notes: Console) -> Reproduced:
    """Run what is left of a study and report it.

    Args:
        request: What to run.
        notes: Where progress is shown.

    Raises:
        InputError: If a folder can not be written, another process is working on the study, MLflow or the cluster can
            not be used, or there is no data to report of.
        KeyboardInterrupt: If it was asked to stop; the same call goes on.
    """
    with stopping_as_ctrl_c():
        return _Reproduction(request, notes).go()


class _Reproduction:
    """One call of reproduce."""

    def __init__(self, request: ReproduceRequest, notes: Console) -> None:
        self.request = request
        self.plan = request.plan
        self.notes = notes
        self.report, self.folder = report_paths(request.out, self.plan.spec.name, self.plan.size)
        self.records: StudyRecords | None = None
        self.failed: dict[str, str] = {}
        self.done = 0
        self.reported = True

    def go(self) -> Reproduced:
        started = time.perf_counter()
        check_writable_folder(self.request.out)
        prefer_one_thread()
        quiet_libraries()
        status, drawn = "FAILED", []
        found = 0
        try:
            if self.request.report_only:
                drawn = self._report()
            else:
                store = Store() if self.request.tracking else None  # a wrong address is to leave no folder behind
                with take_again(self.request.runs, "study"):
                    found = len(self.plan.units) - len(unfinished(self.plan, self.request.runs))
                    self._run(store)
                    self._save()
                    drawn = self._report()
            status = "FAILED" if self.failed else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if self.records is not None:
                if status == "FINISHED":
                    self.records.store_report(self._files())
                self.records.finish(status)
        titles = {self.plan.units[identity].title: reason for identity, reason in self.failed.items()}
        seconds = time.perf_counter() - started
        return Reproduced(self.report if self.reported else None, tuple(drawn), self.done, found, titles, seconds)

    def _begin_records(self, store: Store | None) -> None:
        if store is None:
            return
        self.records = StudyRecords(self.plan, self.request.runs, store)
        self.records.begin()
        for identity, unit in self.plan.units.items():  # what an earlier call did, and did not live to record
            if is_done(unit, unit_folder(self.request.runs, identity)):
                self._record(unit)

    def _run(self, store: Store | None) -> None:
        if not unfinished(self.plan, self.request.runs):
            self._begin_records(store)
            return
        jobs = self.request.jobs or (available_cpus() if self.request.address is None else None)
        options = {} if self.request.address is not None else {"num_cpus": jobs}
        with ray_session(self.request.address, **options):
            self._begin_records(store)  # a cluster that does not start is to leave no record
            if jobs is None:
                jobs = _cluster_cpus()
            folders = {identity: unit_folder(self.request.runs, identity) for identity in self.plan.units}
            progress = StudyProgress(self.plan, folders, jobs, self.notes)
            with progress.shown():
                self.failed = run_units(self.plan, self.request.runs, jobs, progress, self._finished)

    def _finished(self, unit: Unit) -> None:
        self.done += 1
        self._record(unit)

    def _record(self, unit: Unit) -> None:
        if self.records is not None:
            self.records.record(unit, unit_folder(self.request.runs, unit.identity))

    def _save(self) -> None:
        """Save the data of experiments that are complete."""
        mlflow = {}
        if self.records is not None and not self.records.store.failed:
            mlflow = {"parent": self.records.parent, "units": self.records.children}
        for experiment in self.plan.experiments:
            wanted = {identity for cell in experiment.cells for identity in (*cell.units, *cell.streams)}
            if wanted & set(self.failed):
                self.notes.print(f"{experiment.experiment.name}: units failed, so its data stay as they were")
                continue
            save_data(collect(self.plan, experiment, self.request.runs, mlflow), self.folder / DATA_FOLDER)

    def _report(self) -> list[str]:
        names = [experiment.name for experiment in self.plan.spec.experiments]
        size = self.plan.size
        wanted = [e.name for e in self.plan.spec.experiments if not e.extent(size).skip]
        experiments = read_data(self.folder / DATA_FOLDER, names)
        if not experiments and self.failed:
            self.reported = False
            return []
        if not experiments:
            raise InputError(
                f"There is no data in '{self.folder / DATA_FOLDER}' to report of; run edgegen reproduce "
                f"{self.plan.spec.name} without --report-only first, or name its folder with --out."
            )
        for data in experiments:
            write_if_changed(self.folder / TABLE_FOLDER / f"{data.name}.json", tables_json(data))
        have = {data.name for data in experiments}
        missing = [name for name in wanted if name not in have]
        spec = self.plan.spec
        return write_report(spec.title, spec.description, experiments, missing, self.report, self.folder)

    def _files(self) -> list[Path]:
        return [self.report, *sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name[0] != ".")]


def _cluster_cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def summary(outcome: Reproduced) -> Sequence[str]:
    """Return what to say at the end, a sentence a line."""
    from edgegen.platform.live_table import duration

    lines = [
        f"Done in {duration(outcome.seconds)}: {outcome.done} units, {outcome.found} were done before; "
        f"{len(outcome.drawn)} figures drawn"
    ]
    lines += [f"Failed: {title}: {reason}" for title, reason in outcome.failed.items()]
    return lines
