# SPDX-License-Identifier: Apache-2.0
"""A sweep in MLflow: what its runs are called, and what is logged of a trial while it is under way."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgegen.platform.engine.records import FAILED as FAILED_RUN
from edgegen.platform.engine.records import FINISHED as FINISHED_RUN
from edgegen.platform.engine.records import RUNNING, Child, Records
from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store
from edgegen.platform.sweeps.bar import TunedResult, ValidatedTuning
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.progress import best_of, rank
from edgegen.platform.sweeps.relay import FAILED, FINISHED, WAITING, TrialView
from edgegen.platform.sweeps.storage import ObjectStore
from edgegen.platform.sweeps.training import seed_folder

STAGE, TRIAL, NUMBER, SEED = (f"edgegen.{name}" for name in ("stage", "trial", "trial_number", "seed"))
"""Tags of the runs of trials."""
SEARCH, FINAL, TUNED = "search", "final", "tuned"
"""Stages of a sweep; the last are rules that are tuned beside the final training."""

_STATUS = {FINISHED: FINISHED_RUN, FAILED: FAILED_RUN}


class SweepRecords(Records):
    """Keeps MLflow's records of one sweep as its trials stand: a child for every trial and seed.

    Args:
        sweep: The sweep.
        identity: What no other sweep is called.
        store: Where to.
        objects: Where the trials of the search keep their checkpoints, if not in the sweep's folder.

    Attributes:
        entries: What the final training trains, by number; empty while searching.
    """

    def __init__(self, sweep: CheckedSweep, identity: str, store: Store, objects: ObjectStore | None = None) -> None:
        self.sweep, self._objects = sweep, objects
        self.entries: list[Mapping[str, Any]] = []
        self._best: tuple[int, float | None] | None = None
        self._leader: TrialView | None = None
        self._ended: set[str] = set()
        self._seen: dict[str, tuple[Any, ...]] = {}
        super().__init__(
            *(store, "sweep", identity, sweep.spec.name, _parameters(sweep), [STAGE, TRIAL, SEED]),
            witness=f"validation/{sweep.metric}",
        )
        with store.loudly():
            best = store.client.get_metric_history(self.parent, f"best/{sweep.metric}")
        if best:  # what an earlier process logged last is not logged again
            last = max(best, key=lambda metric: (metric.timestamp, metric.step))
            self._best = (last.step, last.value)

    def watch(self, trials: Sequence[TrialView], changed: Sequence[TrialView] | None = None) -> None:
        """Bring the records up to date with the trials of the present stage, all of them or those that changed."""
        for trial in trials if changed is None else changed:
            if self._seen.get(trial.identity) != (seen := (trial.status, len(trial.history), trial.checkpoint)):
                self._record(trial)
                self._seen[trial.identity] = seen
        if changed is None or self._leader is None or any(self._matters(trial) for trial in changed):
            self._leader = best_of(self.sweep, trials)
        self._ended.update(trial.identity for trial in (trials if changed is None else changed) if trial.ended)
        best, ended = self._leader, len(self._ended)
        if best is not None and "entry" not in best.config and (ended, best.objective) != self._best:
            self._best = (ended, best.objective)
            self.log([(ended, {f"best/{self.sweep.metric}": best.objective or 0.0})])

    def _matters(self, trial: TrialView) -> bool:
        """Whether another trial may lead now that this one has changed."""
        leader = self._leader
        if leader is None or trial.identity == leader.identity:
            return True
        return trial.objective is not None and rank(self.sweep, trial) < rank(self.sweep, leader)

    def settle(self, stage: str, trials: Sequence[TrialView]) -> None:
        """Complete the records of a stage, and delete those of trials that Tune has no memory of.

        Such a record is left when a driver is killed between hearing of a trial and remembering it.
        """
        known = {trial.identity for trial in trials}
        for key in list(self.children):
            if key[0] == stage and key[1] not in known:
                self.forget(key)
        self.watch(trials)

    def _record(self, trial: TrialView) -> None:
        if trial.status == WAITING and not trial.history:
            return
        entry = self.entries[trial.config["entry"]] if "entry" in trial.config else None
        stage = SEARCH if entry is None else FINAL
        for seed in self.sweep.spec.seeds if entry is None else (int(entry["seed"]),):
            label = f"trial-{trial.number}" if entry is None else f"final-{str(entry['label']).replace(' ', '-')}"
            child = self.child(
                (stage, trial.identity, str(seed)),
                f"{self.sweep.spec.name}-{label}-seed{seed}",
                "trial",
                self._child_parameters(trial, seed, entry),
                {NUMBER: str(trial.number)},
            )
            self._log(child, trial, seed)
            status = _STATUS.get(trial.status, RUNNING)
            self.end(child, status, partial(self._store_files, trial=trial, seed=seed, stage=stage))

    def _child_parameters(self, trial: TrialView, seed: int, entry: Mapping[str, Any] | None) -> dict[str, Any]:
        """What differs between the runs of a sweep; what they share is with the parent."""
        if entry is None:
            return {"trial": trial.number, "seed": seed, **trial.config["settings"]}
        return {"trained_again": entry["label"], "seed": seed, **dict(entry["schedule"][0][1])}

    def _log(self, child: Child, trial: TrialView, seed: int) -> None:
        """Log the reports that are not yet there; a trial that went back to a checkpoint repeats some."""
        rows = [(int(report["episodes"]), self._metrics(report, trial, seed)) for report in trial.history]
        self.log_new(child, rows)

    def _metrics(self, report: Mapping[str, Any], trial: TrialView, seed: int) -> dict[str, float]:
        own = dict(report["seeds"][str(seed)])
        also = own.pop("also", {})
        metrics = {
            **{f"validation/{name}": value for name, value in also.items()},
            f"validation/{self.sweep.metric}": own.pop("validation"),
            f"training/{self.sweep.learner.headline_in(self.sweep.world)[0]}": own.pop("training"),
            **{f"loss/{name.removesuffix('_loss')}": value for name, value in own.items()},
            **{f"process/{name}": value for name, value in report["process"].items()},
        }
        if len(report["seeds"]) > 1:
            metrics["validation/mean_over_seeds"] = report["objective"]
        if self.sweep.spec.scheduler.has_population:  # values are no parameters when they move
            held = [values for start, values in trial.schedule if start < report["episodes"]]
            metrics |= {f"setting/{name}": value for name, value in held[-1].items() if isinstance(value, int | float)}
        return metrics

    def _store_files(self, run: str, trial: TrialView, seed: int, stage: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            described = {
                "trial": trial.number,
                "seed": seed,
                "settings": self.sweep.settings(trial.values).model_dump(),
                "schedule": trial.schedule,
                "history": trial.history,
            }
            write_json(Path(folder) / "trial.json", described)
            self.store.store_file(run, Path(folder) / "trial.json")
            if trial.error is not None and trial.error.is_file():
                self.store.store_file(run, trial.error)
        own = None if trial.checkpoint is None else seed_folder(trial.checkpoint, seed)
        if own is not None and stage == SEARCH and self._objects is not None:
            with self._objects.fetched(f"{self._objects.relative(str(own))}/policy") as here:
                self.store.store_file(run, here, "policy")
            return
        if own is not None and own.is_dir():
            # Of the search only policies stay: a thousand replays would fill any store.
            part = own if stage == FINAL else own / "policy"
            self.store.store_file(run, part, "checkpoint" if stage == FINAL else "policy")

    def tuned(self, unit: ValidatedTuning, result: TunedResult) -> None:
        """Record a rule that was tuned, unless it is recorded already."""
        parameters = {"rule": unit.name, "seed": unit.seed, "budget_episodes": unit.episodes, **vars(result.spent)}
        child = self.child(
            (TUNED, result.label, str(unit.seed)),
            f"{self.sweep.spec.name}-tuned-{unit.name}-seed{unit.seed}",
            "tuning",
            parameters,
        )
        witness = f"validation/{self.sweep.metric}"
        self.log_new(child, [(result.spent.played, {witness: result.objective})])
        self.end(child, FINISHED_RUN, lambda run: self.store.store_file(run, result.policy, "policy"))

    def child_run(self, stage: str, identity: str, seed: int) -> str | None:
        """Id of the run of a trial, or of a rule by the name it has as tuned, and seed, if it is recorded."""
        return self.id_of((stage, identity, str(seed)))


def _parameters(sweep: CheckedSweep) -> dict[str, Any]:
    """What tells sweeps apart in a table; the rest is in the file that is stored with them."""
    spec = sweep.spec
    return {
        "algorithm": spec.algorithm,
        "preset": spec.preset,
        "scenario": sweep.world.name,
        "metric": sweep.metric,
        "mode": sweep.mode,
        **({"also": " ".join(each.metric for each in sweep.also)} if sweep.also else {}),
        "searcher": spec.searcher.kind,
        "scheduler": spec.scheduler.kind,
        "trials": spec.budget.trials,
        "episodes": spec.budget.episodes,
        "seeds": " ".join(map(str, spec.seeds)),
        "retrain_seeds": " ".join(map(str, spec.retrain.seeds)),
        "validation": f"{spec.validation.episodes} episodes, seed {spec.validation.seed}",
        **{f"space.{name}": f"{domain.kind} {list(domain.values)}" for name, domain in sweep.space.items()},
        **{f"fixed.{name}": value for name, value in spec.settings.items()},
        **{f"fixed.scenario.{name}": value for name, value in spec.overrides.items()},
    }
