"""A study in MLflow: one parent run, and one child for every unit, exactly once, whoever was killed in between."""

from __future__ import annotations

import contextlib
import json
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from edgegen.envs.core.kinds import kind_of
from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.unit import TRAINING_FILE, described
from edgegen.platform.studies.work import Unit

STUDY, ROLE, UNIT = "edgegen.study", "edgegen.role", "edgegen.unit"
"""Tags of the runs of studies."""
PARENT = "mlflow.parentRunId"
_PAGE = 1000


class StudyRecords:
    """Keeps MLflow's records of a study.

    A run is recognised by its tags, so that a driver that is killed at any moment finds its records and adds none.

    Args:
        plan: The study.
        runs: Its folder, which remembers what the study is called in MLflow.
        store: Where to.

    Attributes:
        parent: Id of the parent run.
        children: Ids of finished children by unit.
    """

    def __init__(self, plan: Plan, runs: Path, store: Store) -> None:
        self.plan = plan
        self.store = store
        self.parent: str | None = None
        self.children: dict[str, str] = {}
        self.identity = self._identity(runs / f"mlflow-{plan.size}.json")
        self._monitor: Any = None
        self.store.attempt(self._find)

    def _identity(self, file: Path) -> str:
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["study"])
        except (OSError, ValueError, KeyError):
            identity = f"{self.plan.spec.name}-{self.plan.size}-{uuid.uuid4().hex[:12]}"
            write_json(file, {"study": identity})
            return identity

    def _find(self) -> None:
        """Find what there is of this study, and begin the parent if there is none."""
        client, token = self.store.client, None
        while True:
            page = client.search_runs(
                [self.store.experiment_id],
                filter_string=f"tags.`{STUDY}` = '{self.identity}'",
                max_results=_PAGE,
                page_token=token,
            )
            for run in page:
                if run.data.tags.get(ROLE) == "study":
                    self.parent = run.info.run_id
                elif run.info.status == "FINISHED":
                    self.children[run.data.tags[UNIT]] = run.info.run_id
                else:  # killed while it was being written: written again
                    client.delete_run(run.info.run_id)
            token = page.token
            if not token:
                break
        if self.parent is None:
            spec = self.plan.spec
            parameters = {
                "study": spec.name,
                "size": self.plan.size,
                "experiments": " ".join(plan.experiment.name for plan in self.plan.experiments),
                "units": len(self.plan.units),
            }
            tags = {STUDY: self.identity, ROLE: "study"}
            self.parent = self.store.create_run(f"reproduce-{spec.name}-{self.plan.size}", tags, parameters)
        else:
            client.update_run(self.parent, status="RUNNING")

    def begin(self) -> None:
        """Begin to record the machine."""
        if self.parent is not None:
            parent = self.parent
            self._monitor = self.store.attempt(lambda: self.store.watch_system(parent))

    def record(self, unit: Unit, folder: Path) -> None:
        """Record a finished unit, unless it is recorded already."""
        if unit.identity not in self.children:
            self.store.attempt(lambda: self._record(unit, folder))

    def _record(self, unit: Unit, folder: Path) -> None:
        tags = {STUDY: self.identity, ROLE: "unit", PARENT: str(self.parent), UNIT: unit.identity}
        parameters = {
            "kind": unit.kind,
            "name": unit.name,
            "preset": unit.preset,
            "scenario": unit.world.name,
            "seed": unit.seed,
            "episodes": unit.episodes,
            **{f"{unit.name}.{name}": value for name, value in unit.settings.items()},
        }
        run_id = self.store.create_run(unit.title, tags, parameters)
        rows: list[tuple[int, dict[str, float]]] = []
        if (folder / TRAINING_FILE).exists():
            curves = _read(folder / TRAINING_FILE)["episodes"]
            for name, values in curves.items():
                rows += [(n + 1, {f"training/{name}": value}) for n, value in enumerate(values) if value is not None]
        metric = kind_of(unit.world).metric
        for evaluation in unit.evaluations:
            modes = _read(folder / evaluation.file_name)["modes"]
            for mode, metrics in modes.items():
                name = f"{mode}/{metric}" + ("" if evaluation.world == unit.world else f"/{evaluation.world.name}")
                values = metrics[metric]
                rows.append((unit.episodes, {name.replace(":", "-"): sum(values) / len(values)}))
        try:
            self.store.log_metrics(run_id, rows)
            self.store.client.log_dict(run_id, described(unit), "unit.json")
            self.store.client.set_terminated(run_id, "FINISHED")
        except Exception:  # whoever tries again begins a run of its own
            with contextlib.suppress(Exception):
                self.store.client.delete_run(run_id)
            raise
        self.children[unit.identity] = run_id

    def store_report(self, files: list[Path]) -> None:
        """Store the report, its figures and its data with the parent."""
        if self.parent is None:
            return
        parent = self.parent
        for file in files:
            folder = "report" if file.suffix == ".md" else f"report/{file.parent.name}"
            self.store.attempt(partial(self.store.client.log_artifact, parent, str(file), folder))

    def finish(self, status: str) -> None:
        """End the parent as ``FINISHED``, ``KILLED`` or ``FAILED``."""
        if self._monitor is not None:
            self._monitor.finish()
        if self.parent is not None:
            parent = self.parent
            self.store.attempt(lambda: self.store.client.set_terminated(parent, status))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
