# SPDX-License-Identifier: Apache-2.0
"""A sweep from beginning to end: search, final training, comparison, registration; each step resumes where it was."""

from __future__ import annotations

import re
import shutil
import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.stop_signals import own_handlers_kept
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.platform.engine.doing import read_json, unit_folder
from edgegen.platform.engine.progress import UnitProgress
from edgegen.platform.engine.records import Ending, ending_recorded
from edgegen.platform.engine.runner import room_for, run_units
from edgegen.platform.engine.unit import Evaluation, Play, Unit
from edgegen.platform.files import check_writable_folder, write_json
from edgegen.platform.records.model_registry import Registration, register
from edgegen.platform.records.tracking import Store
from edgegen.platform.run_folder import is_abandoned, take_again, take_new
from edgegen.platform.runs.comparison import Comparison, comparison_of
from edgegen.platform.runs.evaluation import Results
from edgegen.platform.screen import activity
from edgegen.platform.sweeps.bar import TunedResult, result_of, tunings_of
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.final import FinalStand, final_training
from edgegen.platform.sweeps.history import remember
from edgegen.platform.sweeps.progress import SweepProgress, ranking
from edgegen.platform.sweeps.records import FINAL, SEARCH, TUNED, SweepRecords
from edgegen.platform.sweeps.registering import candidate_of, model_of
from edgegen.platform.sweeps.relay import FAILED, FINISHED, Stand, TrialView, Watcher, watching
from edgegen.platform.sweeps.report import CONTROL, FinalResult, SweepOutcome, choose, write_report
from edgegen.platform.sweeps.search import RETRIES, restored_tuner, search_tuner
from edgegen.platform.sweeps.state import forget, put_state_back, states_folder
from edgegen.platform.sweeps.status import StatusLog
from edgegen.platform.sweeps.storage import ObjectStore
from edgegen.platform.sweeps.trial import SWEEP_FILE

ENTRIES_FILE = "entries.json"
"""In the sweep's folder: what the final training trains."""
SEARCH_FILE = f"{SEARCH}.json"
"""In the sweep's folder: the trials of a search that is over."""
REPORT_FOLDER = "report"
POLICY_FOLDER = "policy"


@dataclass(frozen=True)
class SweepRequest:
    """What to run, and where.

    Attributes:
        sweep: The sweep.
        out: Its folder; with a cluster, one that all machines see under this name.
        resume: Whether to continue what the folder holds.
        address: Ray cluster to use; a private one if None.
        tracking: Whether to record the sweep in MLflow and register its policy.
        storage: URI of an object store in which trials keep their checkpoints; a resumed sweep knows it.
    """

    sweep: CheckedSweep
    out: Path
    resume: bool = False
    address: str | None = None
    tracking: bool = True
    storage: str | None = None


def run_sweep(request: SweepRequest, notes: Console) -> SweepOutcome:
    """Run a sweep, or what is left of it.

    Args:
        request: What to run.
        notes: Where progress is shown.

    Raises:
        InputError: If the folder holds a sweep and is not to be resumed, or holds another one; if another process is
            working on it; if MLflow or the cluster can not be used; if every trial failed.
        KeyboardInterrupt: If it was asked to stop; it can be resumed.
    """
    return _Sweep(request, notes).go()


class _Sweep:
    """One call of run_sweep."""

    def __init__(self, request: SweepRequest, notes: Console) -> None:
        self.request = request
        self.sweep = request.sweep
        self.notes = notes
        self.folder = request.out.resolve()
        self.records: SweepRecords | None = None
        self.objects: ObjectStore | None = None

    def go(self) -> SweepOutcome:
        with ending_recorded() as ending:
            is_new = self._find() is None
            if is_new and self.request.storage is not None:
                ObjectStore(self.request.storage).check()
            store = (
                Store(self.folder) if self.request.tracking else None
            )  # a wrong address is to leave no folder behind
            with take_new(self.folder, "sweep") if is_new else take_again(self.folder, "sweep") as taken:
                try:
                    return self._run(store, ending)
                except BaseException:
                    if is_new and is_abandoned(self.folder, [SWEEP_FILE]):  # there is nothing to resume
                        taken.give_back([SWEEP_FILE])
                    raise

    def _run(self, store: Store | None, ending: Ending) -> SweepOutcome:
        started = time.perf_counter()
        identity = self._find()  # again: whoever was at work in it a moment ago may have begun it, or ended
        if identity is None:
            identity = self._begin()
        self._open_objects(identity)
        with ray_session(self.request.address):
            if store is not None:  # a cluster that does not start is to leave no record
                ending.records = self.records = SweepRecords(self.sweep, identity, store, self.objects)
                self.records.store_file(self.folder / SWEEP_FILE)
                self.records.begin()
            trials = self._search()
            finals, tuned, comparison = self._final(self._entries(trials))
        return self._conclude(identity, trials, finals, tuned, comparison, started)

    def _begin(self) -> str:
        """Take the folder for this sweep; returns what it will be called in its records."""
        if self.request.resume:
            self.notes.print(f"There is nothing to resume in {self.request.out}; beginning", soft_wrap=True)
        identity = f"{self.sweep.spec.name}-{uuid.uuid4().hex[:12]}"
        about = {"format": "edgegen-sweep-2", "identity": identity, **self.sweep.described()}
        if self.request.storage is not None:
            about["storage"] = self.request.storage
        write_json(self.folder / SWEEP_FILE, about)
        return identity

    def _open_objects(self, identity: str) -> None:
        """Open the sweep's own folder in the object store, if it has one, and say there what the trials are of."""
        about = read_json(self.folder / SWEEP_FILE)
        if (uri := about.get("storage")) is not None:
            self.objects = ObjectStore(ObjectStore(uri).within(identity))
            self.objects.check()
            self.objects.write_json(SWEEP_FILE, about)

    def _find(self) -> str | None:
        """Find this sweep in its folder; returns what it is called in its records, None if the folder is free."""
        file = self.folder / SWEEP_FILE
        if not file.exists():
            if self.folder.exists() and (not self.folder.is_dir() or self._holds_something()):
                raise InputError(f"'{self.request.out}' holds something that is no sweep; choose another --out.")
            check_writable_folder(self.folder)
            return None
        if not self.request.resume:
            raise InputError(
                f"'{self.request.out}' holds a sweep already; continue it with --resume, or choose another --out."
            )
        try:
            found = read_json(file)
            identity, before = str(found["identity"]), {**found["spec"], "world": found["world"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The sweep in '{self.request.out}' is damaged: {SWEEP_FILE} can not be read ({error!r})."
            ) from None
        if self.request.storage not in (None, found.get("storage")):
            raise InputError(
                f"The sweep in '{self.request.out}' keeps its checkpoints "
                f"{'in its folder' if found.get('storage') is None else 'in ' + found['storage']}; resume it without "
                "--storage."
            )
        about = self.sweep.described()
        now = {**about["spec"], "world": about["world"]}
        changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
        if changed:
            raise InputError(
                f"The sweep in '{self.request.out}' was begun with other values of {', '.join(changed)}; resume it "
                "with the file it began with, or choose another --out."
            )
        return identity

    def _holds_something(self) -> bool:
        return any(self.folder.iterdir()) and not is_abandoned(self.folder, [])

    def _search(self) -> list[TrialView]:
        """Let Ray Tune search to the end; returns its trials."""
        done = self.folder / SEARCH_FILE
        if done.exists():
            trials = [TrialView.of(data) for data in read_json(done)]
            self._settle(SEARCH, trials)
            return trials
        budget = self.sweep.spec.budget
        title = f"{self.sweep.spec.name}: search"
        progress, stand = SweepProgress(self.sweep, self.notes, title, budget.trials), Stand()
        watchers: list[Watcher] = [stand, progress, StatusLog(self.folder, SEARCH)]
        watchers += [self.records] if self.records is not None else []
        began = time.monotonic()
        with watching(watchers), progress.shown(), own_handlers_kept(), warnings.catch_warnings():
            # Optuna is told again what a trial reports again after going back to a checkpoint.
            warnings.filterwarnings("ignore", message="The reported value is ignored")
            self._tuner(read_json(self.folder / SWEEP_FILE)["identity"]).fit()
        timed_out = budget.time_s is not None and time.monotonic() - began >= budget.time_s
        trials = stand.trials
        if not timed_out and (len(trials) < budget.trials or not all(trial.ended for trial in trials)):
            raise KeyboardInterrupt  # Tune catches Ctrl-C and returns what there is
        self._settle(SEARCH, trials)
        if all(trial.objective is None or trial.status == FAILED for trial in trials):
            raise InputError(f"Every trial of the {title} failed{_first_error(trials)}.")
        write_json(done, [trial.to_json() for trial in trials])
        return trials

    def _tuner(self, identity: str) -> Any:
        folder = self.folder / SEARCH
        if put_state_back(folder):
            remember(states_folder(folder))
            return restored_tuner(self.sweep, self.folder, SEARCH, self.objects)
        forget(folder)  # whatever there is was killed before its first step
        remember(states_folder(folder))
        return search_tuner(self.sweep, self.folder, SEARCH, identity, self.objects)

    def _settle(self, stage: str, trials: Sequence[TrialView]) -> None:
        if self.records is not None:
            self.records.settle(stage, trials)

    def _entries(self, trials: Sequence[TrialView]) -> list[dict[str, Any]]:
        """What the final training trains: decided once, for a resumed sweep must not decide otherwise."""
        file = self.folder / ENTRIES_FILE
        if not file.exists():
            retrain = self.sweep.spec.retrain
            sound = [trial for trial in trials if trial.status != FAILED]
            finalists = ranking(self.sweep, sound)[: retrain.finalists]
            plans = {f"trial {trial.number}": trial.schedule for trial in finalists}
            if retrain.control:
                plans[CONTROL] = ((0, {}),)
            entries = [
                {"name": f"{label}, seed {seed}", "label": label, "seed": seed, "schedule": schedule}
                for label, schedule in plans.items()
                for seed in retrain.seeds
            ]
            write_json(file, entries)
        entries = read_json(file)
        if self.records is not None:
            self.records.entries = entries
        return list(entries)

    def _final(self, entries: Sequence[dict[str, Any]]) -> tuple[list[FinalResult], list[TunedResult], Comparison]:
        """Train what is to be trained anew, tune rules as long, and let all play the evaluation; returns all three."""
        spec, world = self.sweep.spec, self.sweep.world
        evaluation = Evaluation(world, spec.evaluation.episodes, spec.evaluation.seed)
        units = [final_training(self.sweep, e["label"], e["seed"], e["schedule"], evaluation) for e in entries]
        explore, known, reference = spec.validation.actions == "sampled", rules_for(world), kind_of(world).reference
        rules = spec.evaluation.rules or [rule for rule in self.sweep.learner.rivals if rule in known]
        plays = [
            Play(rule, world, rule, evaluations=(evaluation,), explore=explore)
            for rule in dict.fromkeys((*rules, reference))
        ]
        watchers: list[Watcher] = [StatusLog(self.folder, FINAL)]
        watchers += [self.records] if self.records is not None else []
        stand = FinalStand(units, self.folder, watchers)
        tunings = tunings_of(self.sweep, evaluation)
        everything: list[Unit] = [*units, *tunings, *plays]
        jobs = spec.resources.concurrent or room_for(everything)
        title = f"{spec.name}: final training"
        progress = UnitProgress(title, everything, self.folder, jobs, self.notes, self.sweep.metric)
        with progress.shown():
            here = self.objects is not None  # then nobody else sees the folder
            failed = run_units(everything, self.folder, [progress, stand], jobs, RETRIES + 1, here)
        self._settle(FINAL, stand.views)
        if broken := next((rule for rule in (*tunings, *plays) if rule.identity in failed), None):
            raise InputError(f"The rule {broken.name} can not be compared with: {failed[broken.identity].rstrip('.')}.")
        finals = [
            FinalResult(
                entry["label"], entry["seed"], view.objective, unit.policy_folder(self._of(unit)), view.identity
            )
            for entry, unit, view in zip(entries, units, stand.views, strict=True)
            if view.status == FINISHED and view.objective is not None
        ]
        if all(final.label == CONTROL for final in finals):
            raise InputError(f"Every final training of the best trials failed{_first_error(stand.views)}.")
        tuned = [result_of(unit, self._of(unit)) for unit in tunings]
        if self.records is not None:
            for unit, result in zip(tunings, tuned, strict=True):
                self.records.tuned(unit, result)
        played = [*(unit for unit in units if unit.identity not in failed), *tunings, *plays]
        return finals, tuned, self._comparison(played, evaluation, explore, reference)

    def _of(self, unit: Unit) -> Path:
        return unit_folder(self.folder, unit.identity)

    def _comparison(self, units: Sequence[Unit], evaluation: Evaluation, explore: bool, reference: str) -> Comparison:
        """Compare what units found in the evaluation."""
        results, information = {}, {}
        for unit in units:
            found = read_json(self._of(unit) / evaluation.file_name)
            (values,) = found["modes"].values()
            information[unit.title] = found["information"]
            results[unit.title] = Results(
                policy=unit.title,
                scenario=evaluation.world,
                seed=evaluation.seed,
                explore=explore,
                decision_wall_s=found["decision_wall_s"],
                values={name: np.array([np.nan if v is None else v for v in row]) for name, row in values.items()},
            )
        return comparison_of(results, information, reference)

    def _conclude(
        self,
        identity: str,
        trials: Sequence[TrialView],
        finals: Sequence[FinalResult],
        tuned: Sequence[TunedResult],
        comparison: Comparison,
        started: float,
    ) -> SweepOutcome:
        """Choose, register and report."""
        chosen = choose(self.sweep, finals)
        shutil.copytree(chosen.policy, self.folder / POLICY_FOLDER, dirs_exist_ok=True)
        registration = self._register(identity, chosen, choose(self.sweep, tuned) if tuned else None)
        outcome = SweepOutcome(
            sweep=self.sweep,
            trials=tuple(trials),
            finals=tuple(finals),
            tuned=tuple(tuned),
            chosen=chosen,
            comparison=comparison,
            registration=registration,
            seconds=time.perf_counter() - started,
        )
        write_report(outcome, self.folder / REPORT_FOLDER)
        if self.records is not None:
            metrics = {
                f"final/{_as_metric(label)}": sum(values) / len(values)
                for label in outcome.labels
                if (values := outcome.of(label))
            }
            self.records.log([(len(trials), metrics)])
            self.records.store_file(self.folder / REPORT_FOLDER, "report")
        return outcome

    def _register(self, identity: str, chosen: FinalResult, bar: TunedResult | None) -> Registration | None:
        if self.records is None:
            return None
        records = self.records
        if not records.store.flush():  # runs are to be there; whoever resumes the sweep registers its policy
            return None
        run_id = records.child_run(FINAL, chosen.identity, chosen.seed)
        if run_id is None:  # somebody has deleted it
            return None
        what = f"{self.sweep.spec.algorithm} on {self.sweep.world.name}, settings of {chosen.label}"
        candidate = candidate_of(self.sweep, identity, chosen, run_id, what)
        bar_run = None if bar is None else records.child_run(TUNED, bar.label, bar.seed)
        rival = (
            candidate_of(self.sweep, identity, bar, bar_run, f"rule {bar.label} on {self.sweep.world.name}")
            if bar is not None and bar_run is not None
            else None
        )
        with activity(self.notes, "Registering the policy"):
            return records.store.attempt(lambda: register(records.store, model_of(self.sweep), candidate, rival))


def _as_metric(label: str) -> str:
    """A label as part of a metric's name; MLflow allows few characters there."""
    return re.sub(r"[^\w.-]+", "_", label).strip("_")


def _first_error(trials: Sequence[TrialView]) -> str:
    """The last line of the first error, as the end of a sentence."""
    for trial in trials:
        if trial.error is not None and trial.error.is_file():
            lines = trial.error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"; the first error is: {lines[-1].rstrip('.')}" if lines else ""
    return ""
