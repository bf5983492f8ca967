"""A sweep in MLflow: one parent run, and one child for every trial and seed, exactly once.

A run is recognised by its tags, never by a list kept elsewhere, and everything here can be done again without doing it
twice. So a driver that is killed at any moment finds its records, completes them and adds none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store
from edgegen.platform.sweeps.progress import best_of
from edgegen.platform.sweeps.relay import FAILED, FINISHED, WAITING, TrialView
from edgegen.platform.sweeps.study import Study

SWEEP, ROLE, STAGE, TRIAL, NUMBER, SEED, STORED = (
    f"edgegen.{name}" for name in ("sweep", "role", "stage", "trial", "trial_number", "seed", "artifacts_stored")
)
"""Tags of the runs of sweeps."""
PARENT = "mlflow.parentRunId"
SEARCH, FINAL = "search", "final"
"""Stages of a sweep."""

_PAGE = 1000
_STATUS = {FINISHED: "FINISHED", FAILED: "FAILED"}


@dataclass
class _Child:
    run_id: str
    status: str
    stored: bool
    described: bool
    logged: int | None = None  # last step; unknown of a run that an earlier process began


class SweepRecords:
    """Keeps MLflow's records of one sweep as its trials stand.

    Args:
        study: The sweep.
        identity: What no other sweep is called.
        store: Where to.

    Attributes:
        entries: What the final training trains, by number; empty while searching.
        parent: Id of the parent run.
    """

    def __init__(self, study: Study, identity: str, store: Store) -> None:
        self.study = study
        self.identity = identity
        self.store = store
        self.entries: list[Mapping[str, Any]] = []
        self._children: dict[tuple[str, str, int], _Child] = {}
        self._best: tuple[int, float | None] | None = None
        self._monitor: Any = None
        self.parent: str | None = None
        self.store.attempt(self._find)

    def _find(self) -> None:
        """Find what there is of this sweep, and begin the parent if there is none."""
        self._children = {}
        for run in self._runs():
            tags = run.data.tags
            if tags.get(ROLE) == "sweep":
                self.parent = run.info.run_id
            else:
                self._children[tags[STAGE], tags[TRIAL], int(tags[SEED])] = _Child(
                    run.info.run_id, run.info.status, STORED in tags, bool(run.data.params)
                )
        if self.parent is None:
            self.parent = self.store.create_run(
                self.study.spec.name, {SWEEP: self.identity, ROLE: "sweep"}, self._parameters()
            )
        else:
            self.store.client.update_run(self.parent, status="RUNNING")

    def _runs(self) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self.store.client.search_runs(
                [self.store.experiment_id],
                filter_string=f"tags.`{SWEEP}` = '{self.identity}'",
                max_results=_PAGE,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _parameters(self) -> dict[str, Any]:
        """What tells sweeps apart in a table; the rest is in the file that is stored with them."""
        spec = self.study.spec
        return {
            "algorithm": spec.algorithm,
            "preset": spec.preset,
            "scenario": self.study.world.name,
            "metric": self.study.metric,
            "mode": self.study.mode,
            "searcher": spec.searcher.kind,
            "scheduler": spec.scheduler.kind,
            "trials": spec.budget.trials,
            "episodes": spec.budget.episodes,
            "seeds": " ".join(map(str, spec.seeds)),
            "retrain_seeds": " ".join(map(str, spec.retrain.seeds)),
            "validation": f"{spec.validation.episodes} episodes, seed {spec.validation.seed}",
            **{f"space.{name}": f"{domain.kind} {list(domain.values)}" for name, domain in self.study.space.items()},
            **{f"fixed.{name}": value for name, value in spec.settings.items()},
            **{f"fixed.scenario.{name}": value for name, value in spec.overrides.items()},
        }

    def begin(self, sweep_file: Path) -> None:
        """Store what the sweep is, and begin to record the machine."""
        if self.parent is not None:
            parent = self.parent
            self.store.attempt(lambda: self.store.client.log_artifact(parent, str(sweep_file)))
            self._monitor = self.store.attempt(lambda: self.store.watch_system(parent))

    def watch(self, trials: Sequence[TrialView]) -> None:
        """Bring the records up to date with the trials of the present stage."""
        for trial in trials:
            self.store.attempt(lambda trial=trial: self._record(trial))  # type: ignore[misc]
        best, ended = best_of(self.study, trials), sum(trial.ended for trial in trials)
        if best is not None and "entry" not in best.config and (ended, best.objective) != self._best:
            self._best = (ended, best.objective)
            self.log_sweep([(ended, {f"best/{self.study.metric}": best.objective or 0.0})])

    def settle(self, stage: str, trials: Sequence[TrialView]) -> None:
        """Complete the records of a stage, and delete those of trials that Tune has no memory of.

        Such a record is left when a driver is killed between hearing of a trial and remembering it.
        """
        known = {trial.identity for trial in trials}
        for key, child in list(self._children.items()):
            if key[0] == stage and key[1] not in known:
                self.store.attempt(lambda child=child: self.store.client.delete_run(child.run_id))  # type: ignore[misc]
                del self._children[key]
        self.watch(trials)

    def _record(self, trial: TrialView) -> None:
        if trial.status == WAITING and not trial.history:
            return
        entry = self.entries[trial.config["entry"]] if "entry" in trial.config else None
        stage = SEARCH if entry is None else FINAL
        for seed in self.study.spec.seeds if entry is None else (int(entry["seed"]),):
            key = (stage, trial.identity, seed)
            child = self._children.get(key)
            if child is None:
                child = self._children[key] = self._create(trial, stage, seed, entry)
            elif not child.described:
                self.store.log_parameters(child.run_id, self._child_parameters(trial, seed, entry))
                child.described = True
            self._log(child, trial, seed)
            self._end(child, trial, seed, stage)

    def _create(self, trial: TrialView, stage: str, seed: int, entry: Mapping[str, Any] | None) -> _Child:
        tags = {
            SWEEP: self.identity,
            ROLE: "trial",
            PARENT: str(self.parent),
            STAGE: stage,
            TRIAL: trial.identity,
            NUMBER: str(trial.number),
            SEED: str(seed),
        }
        label = f"trial-{trial.number}" if entry is None else f"final-{str(entry['label']).replace(' ', '-')}"
        parameters = self._child_parameters(trial, seed, entry)
        run_id = self.store.create_run(f"{self.study.spec.name}-{label}-seed{seed}", tags, parameters)
        return _Child(run_id, "RUNNING", stored=False, described=True, logged=0)

    def _child_parameters(self, trial: TrialView, seed: int, entry: Mapping[str, Any] | None) -> dict[str, Any]:
        """What differs between the runs of a sweep; what they share is with the parent."""
        if entry is None:
            return {"trial": trial.number, "seed": seed, **trial.config["settings"]}
        return {"trained_again": entry["label"], "seed": seed, **dict(entry["schedule"][0][1])}

    def _log(self, child: _Child, trial: TrialView, seed: int) -> None:
        """Log the reports that are not yet there; a trial that went back to a checkpoint repeats some."""
        last = trial.episodes
        if child.logged is None:
            history = self.store.client.get_metric_history(child.run_id, f"validation/{self.study.metric}")
            child.logged = max((metric.step for metric in history), default=0)
        if last <= child.logged:
            return
        rows = [
            (int(report["episodes"]), self._metrics(report, trial, seed))
            for report in trial.history
            if report["episodes"] > child.logged
        ]
        self.store.log_metrics(child.run_id, rows)
        child.logged = last

    def _metrics(self, report: Mapping[str, Any], trial: TrialView, seed: int) -> dict[str, float]:
        own = dict(report["seeds"][str(seed)])
        metrics = {
            f"validation/{self.study.metric}": own.pop("validation"),
            f"training/{self.study.learner.headline}": own.pop("training"),
            **{f"loss/{name.removesuffix('_loss')}": value for name, value in own.items()},
            **{f"process/{name}": value for name, value in report["process"].items()},
        }
        if len(report["seeds"]) > 1:
            metrics["validation/mean_over_seeds"] = report["objective"]
        if self.study.spec.scheduler.kind == "pbt":  # values are no parameters when they move
            held = [values for start, values in trial.schedule if start < report["episodes"]]
            metrics |= {f"setting/{name}": value for name, value in held[-1].items() if isinstance(value, int | float)}
        return metrics

    def _end(self, child: _Child, trial: TrialView, seed: int, stage: str) -> None:
        """Store what is to stay of a trial that is over, and say how it ended."""
        status = _STATUS.get(trial.status, "RUNNING")
        if status == "RUNNING":
            if child.status != "RUNNING":
                self.store.client.update_run(child.run_id, status="RUNNING")
                child.status = "RUNNING"
            return
        if child.status == status and (child.stored or status == "FAILED"):
            return
        if not child.stored:
            self._store_files(child.run_id, trial, seed, stage)
            if status == "FINISHED":
                self.store.client.set_tag(child.run_id, STORED, "yes")
                child.stored = True
        self.store.client.set_terminated(child.run_id, status)
        child.status = status

    def _store_files(self, run_id: str, trial: TrialView, seed: int, stage: str) -> None:
        client = self.store.client
        with tempfile.TemporaryDirectory() as folder:
            described = {
                "trial": trial.number,
                "seed": seed,
                "settings": self.study.settings(trial.values).model_dump(),
                "schedule": trial.schedule,
                "history": trial.history,
            }
            write_json(Path(folder) / "trial.json", described)
            client.log_artifact(run_id, str(Path(folder) / "trial.json"))
            if trial.error is not None and trial.error.is_file():
                client.log_artifact(run_id, str(trial.error))
        own = None if trial.checkpoint is None else trial.checkpoint / f"seed-{seed}"
        if own is not None and own.is_dir():
            # Of the search only policies stay: a thousand replays would fill any store.
            part = own if stage == FINAL else own / "policy"
            client.log_artifacts(run_id, str(part), "checkpoint" if stage == FINAL else "policy")

    def log_sweep(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics of the sweep as a whole."""
        if self.parent is not None:
            parent = self.parent
            self.store.attempt(lambda: self.store.log_metrics(parent, rows))

    def store_report(self, folder: Path) -> None:
        """Store the report with the parent."""
        if self.parent is not None:
            parent = self.parent
            self.store.attempt(lambda: self.store.client.log_artifacts(parent, str(folder), "report"))

    def child_run(self, stage: str, identity: str, seed: int) -> str | None:
        """Id of the run of a trial and seed, if it is recorded."""
        child = self._children.get((stage, identity, seed))
        return child.run_id if child else None

    def finish(self, status: str) -> None:
        """End the parent as ``FINISHED``, ``KILLED`` or ``FAILED``, and with it the trials that are under way."""
        if self._monitor is not None:
            self._monitor.finish()
        for child in self._children.values():
            if child.status == "RUNNING":
                self.store.attempt(lambda child=child: self.store.client.set_terminated(child.run_id, "KILLED"))  # type: ignore[misc]
                child.status = "KILLED"
        if self.parent is not None:
            parent = self.parent
            self.store.attempt(lambda: self.store.client.set_terminated(parent, status))
