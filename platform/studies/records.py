# SPDX-License-Identifier: Apache-2.0
"""A study in MLflow: what its runs are called, and what is logged of a unit."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from edgegen.envs.core.kinds import kind_of
from edgegen.platform.engine.doing import is_done, read_json, unit_folder
from edgegen.platform.engine.records import FINISHED, Records
from edgegen.platform.engine.runner import Watcher
from edgegen.platform.engine.unit import Unit
from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store
from edgegen.platform.studies.plan import Plan
from edgegen.platform.studies.units import TRAINING_FILE

UNIT = "edgegen.unit"
"""Tag of the run of a unit: its identity."""


class StudyRecords(Records, Watcher):
    """Keeps MLflow's records of a study; a watcher of the runner.

    Args:
        plan: The study.
        runs: Its folder, which remembers what the study is called in MLflow.
        store: Where to.
    """

    def __init__(self, plan: Plan, runs: Path, store: Store) -> None:
        self.runs = runs
        spec = plan.spec
        parameters = {
            "study": spec.name,
            "size": plan.size,
            "experiments": " ".join(planned.experiment.name for planned in plan.experiments),
            "units": len(plan.units),
        }
        identity = _identity(plan, runs / f"mlflow-{plan.size}.json")
        super().__init__(store, "study", identity, f"reproduce-{spec.name}-{plan.size}", parameters, [UNIT])
        for key, child in list(self.children.items()):
            if child.status != FINISHED:  # killed while it was being written: written again
                self.forget(key)

    def catch_up(self, units: Iterable[Unit]) -> None:
        """Record what an earlier call did, and did not live to record."""
        for unit in units:
            if is_done(unit, unit_folder(self.runs, unit.identity)):
                self.finished(unit)

    @property
    def run_ids(self) -> dict[str, str]:
        """Ids of the runs of units by identity."""
        found = {key: self.id_of(key) for key, child in self.children.items() if child.status == FINISHED}
        return {identity: run_id for (identity,), run_id in found.items() if run_id is not None}

    def finished(self, unit: Unit) -> None:
        """Record a finished unit, unless it is recorded already."""
        if (unit.identity,) not in self.children:
            self._record(unit, unit_folder(self.runs, unit.identity))

    def _record(self, unit: Unit, folder: Path) -> None:
        parameters = {
            "kind": unit.kind,
            "name": unit.name,
            "preset": unit.preset,
            "scenario": unit.world.name,
            "seed": unit.seed,
            "episodes": unit.episodes,
            **{f"{unit.name}.{name}": value for name, value in unit.settings.items()},
        }
        child = self.child((unit.identity,), unit.title, "unit", parameters)
        self.store.log_metrics(child.run, _metrics(unit, folder))
        self.end(child, FINISHED, lambda run: self._store_description(run, unit))

    def _store_description(self, run: str, unit: Unit) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "unit.json"
            write_json(file, unit.described())
            self.store.store_file(run, file)


def _identity(plan: Plan, file: Path) -> str:
    try:
        return str(read_json(file)["study"])
    except (OSError, ValueError, KeyError):
        identity = f"{plan.spec.name}-{plan.size}-{uuid.uuid4().hex[:12]}"
        write_json(file, {"study": identity})
        return identity


def _metrics(unit: Unit, folder: Path) -> list[tuple[int, dict[str, float]]]:
    rows: list[tuple[int, dict[str, float]]] = []
    if (folder / TRAINING_FILE).exists():
        curves = read_json(folder / TRAINING_FILE)["episodes"]
        for name, values in curves.items():
            rows += [(n + 1, {f"training/{name}": value}) for n, value in enumerate(values) if value is not None]
    metric = kind_of(unit.world).metric
    for evaluation in unit.evaluations:
        modes = read_json(folder / evaluation.file_name)["modes"]
        for mode, metrics in modes.items():
            name = f"{mode}/{metric}" + ("" if evaluation.world == unit.world else f"/{evaluation.world.name}")
            values = metrics[metric]
            rows.append((unit.episodes, {name.replace(":", "-"): sum(values) / len(values)}))
    return rows
