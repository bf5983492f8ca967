# SPDX-License-Identifier: Apache-2.0
"""A study from beginning to end: units, data, figures, report; each step is done again only where it is not done."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.threads import available_cpus
from edgegen.platform.defaults import REPORTS, RUNS
from edgegen.platform.engine.doing import unfinished
from edgegen.platform.engine.progress import UnitProgress
from edgegen.platform.engine.records import FAILED, Ending, ending_recorded
from edgegen.platform.engine.runner import Watcher, room_for, run_units
from edgegen.platform.engine.unit import Unit
from edgegen.platform.files import check_writable_folder
from edgegen.platform.live_table import duration
from edgegen.platform.records.tracking import Store
from edgegen.platform.run_folder import take_again
from edgegen.platform.studies.data import DATA_FOLDER, collect, read_data, save_data
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.records import StudyRecords
from edgegen.platform.studies.report import report_paths, write_report
from edgegen.platform.studies.spec import QUICK


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
        pdf: Whether to write figures as PDF, too.
        study: The study as it was asked for, a name or a file; its name if not given.
    """

    plan: Plan
    runs: Path
    out: Path
    address: str | None = None
    jobs: int | None = None
    tracking: bool = True
    report_only: bool = False
    pdf: bool = False
    study: str = ""

    @property
    def command(self) -> str:
        """The command that asks for it, all of its experiments."""
        words = ["edgegen", "reproduce", self.study or self.plan.spec.name]
        words += ["--quick"] if self.plan.size == QUICK else []
        words += ["--out", str(self.out)] if self.out != REPORTS else []
        words += ["--runs", str(self.runs)] if self.runs != RUNS / f"reproduce-{self.plan.spec.name}" else []
        return shlex.join(words)


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
    return _Reproduction(request, notes).go()


class _Reproduction:
    """One call of reproduce."""

    def __init__(self, request: ReproduceRequest, notes: Console) -> None:
        self.request = request
        self.plan = request.plan
        self.units = list(request.plan.units.values())
        self.notes = notes
        self.report, self.folder = report_paths(request.out, self.plan.spec.name, self.plan.size)
        self.records: StudyRecords | None = None
        self.failed: dict[str, str] = {}

    def go(self) -> Reproduced:
        started = time.perf_counter()
        check_writable_folder(self.request.out)
        left: list[Unit] = []
        with ending_recorded() as ending:
            if self.request.report_only:
                drawn = self._report()
            else:
                store = (
                    Store(self.request.runs) if self.request.tracking else None
                )  # a wrong address is to leave no folder behind
                with take_again(self.request.runs, "study"):
                    left = unfinished(self.units, self.request.runs)
                    self._run(left, store, ending)
                    self._save()
                    drawn = self._report()
            if self.failed:
                ending.status = FAILED
            elif self.records is not None:
                for file in self._files():
                    folder = "report" if file.suffix == ".md" else f"report/{file.parent.name}"
                    self.records.store_file(file, folder)
        titles = {self.plan.units[identity].title: reason for identity, reason in self.failed.items()}
        return Reproduced(
            report=None if drawn is None else self.report,
            drawn=tuple(drawn or ()),
            done=len(left) - len(self.failed),
            found=0 if self.request.report_only else len(self.units) - len(left),
            failed=titles,
            seconds=time.perf_counter() - started,
        )

    def _run(self, left: Sequence[Unit], store: Store | None, ending: Ending) -> None:
        if not left:
            self._begin_records(store, ending)
            return
        jobs = self.request.jobs or available_cpus()
        options = {} if self.request.address is not None else {"num_cpus": jobs}
        with ray_session(self.request.address, **options):
            self._begin_records(store, ending)  # a cluster that does not start is to leave no record
            jobs = self.request.jobs or room_for(left)
            progress = UnitProgress(
                f"{self.plan.spec.name}, {self.plan.size}", self.units, self.request.runs, jobs, self.notes
            )
            watchers: list[Watcher] = [progress, *([self.records] if self.records is not None else [])]
            with progress.shown():
                self.failed = run_units(self.units, self.request.runs, watchers, jobs)

    def _begin_records(self, store: Store | None, ending: Ending) -> None:
        if store is not None:
            ending.records = self.records = StudyRecords(self.plan, self.request.runs, store)
            self.records.begin()
            self.records.catch_up(self.units)

    def _save(self) -> None:
        """Save the data of experiments that are complete."""
        mlflow = {}
        if self.records is not None and self.records.store.flush():
            mlflow = {"parent": self.records.parent, "units": self.records.run_ids}
        for experiment in self.plan.experiments:
            wanted = {identity for cell in experiment.cells for identity in (*cell.units, *cell.streams)}
            if wanted & set(self.failed):
                self.notes.print(f"{experiment.experiment.name}: units failed, so its data stay as they were")
                continue
            save_data(collect(self.plan, experiment, self.request.runs, mlflow), self.folder / DATA_FOLDER)

    def _report(self) -> list[str] | None:
        """Write the report; returns names of the figures that were drawn, None if failures left nothing to report."""
        names = [experiment.name for experiment in self.plan.spec.experiments]
        size = self.plan.size
        wanted = [e.name for e in self.plan.spec.experiments if not e.extent(size).skip]
        experiments = read_data(self.folder / DATA_FOLDER, names, self.plan.spec.labels)
        if not experiments and self.failed:
            return None
        if not experiments:
            raise InputError(
                f"There is no data in '{self.folder / DATA_FOLDER}' to report of; run {self.request.command} without "
                "--report-only first, or name its folder with --out."
            )
        have = {data.name for data in experiments}
        missing = [name for name in wanted if name not in have]
        spec = self.plan.spec
        by_name = {planned.experiment.name: planned for planned in self.plan.experiments}
        for data in experiments:  # of an older study
            cells = by_name[data.name].cells if data.name in by_name else ()
            methods = dict.fromkeys(cell.label for cell in cells if cell.learned)
            absent = [f"*{spec.methods[name].title}*" for name in methods if name not in data.labels]
            missing += [f"{title} of {data.name}" for title in absent]
        return write_report(
            spec.title,
            spec.description,
            experiments,
            missing,
            self.report,
            self.folder,
            self.request.pdf,
            self.request.command,
        )

    def _files(self) -> list[Path]:
        return [self.report, *sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name[0] != ".")]


def summary(outcome: Reproduced) -> Sequence[str]:
    """Return what to say at the end, a sentence a line."""
    lines = [
        f"Done in {duration(outcome.seconds)}: {outcome.done} units, {outcome.found} were done before; "
        f"{len(outcome.drawn)} figures drawn"
    ]
    lines += [f"Failed: {title}: {reason}" for title, reason in outcome.failed.items()]
    return lines
