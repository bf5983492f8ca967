"""A sweep from beginning to end: search, final training, comparison, registration; each step resumes where it was."""

from __future__ import annotations

import shutil
import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.stop_signals import own_handlers_kept, stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.platform.files import check_writable_folder, write_json
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.records.tracking import Store
from edgegen.platform.run_folder import is_abandoned, take_again, take_new
from edgegen.platform.runs.comparison import Comparison, compare
from edgegen.platform.screen import activity
from edgegen.platform.sweeps.progress import SweepProgress, ranking
from edgegen.platform.sweeps.records import FINAL, SEARCH, SweepRecords
from edgegen.platform.sweeps.relay import FAILED, Stand, TrialView, Watcher, watching
from edgegen.platform.sweeps.report import CONTROL, FinalResult, SweepOutcome, choose, write_report
from edgegen.platform.sweeps.state import forget, put_state_back
from edgegen.platform.sweeps.study import Study
from edgegen.platform.sweeps.trial import ENTRIES_FILE, SWEEP_FILE, read_json, seed_folder

if TYPE_CHECKING:
    from edgegen.platform.records.model_registry import Registration

REPORT_FOLDER = "report"
POLICY_FOLDER = "policy"


@dataclass(frozen=True)
class SweepRequest:
    """What to run, and where.

    Attributes:
        study: The sweep.
        out: Its folder; with a cluster, one that all machines see under this name.
        resume: Whether to continue what the folder holds.
        address: Ray cluster to use; a private one if None.
        tracking: Whether to record the sweep in MLflow and register its policy.
    """

    study: Study
    out: Path
    resume: bool = False
    address: str | None = None
    tracking: bool = True


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
    with stopping_as_ctrl_c():
        return _Sweep(request, notes).go()


class _Sweep:
    """One call of run_sweep."""

    def __init__(self, request: SweepRequest, notes: Console) -> None:
        self.request = request
        self.study = request.study
        self.notes = notes
        self.folder = request.out.resolve()
        self.records: SweepRecords | None = None

    def go(self) -> SweepOutcome:
        is_new = self._find() is None
        store = Store() if self.request.tracking else None  # a wrong address is to leave no folder behind
        with take_new(self.folder, "sweep") if is_new else take_again(self.folder, "sweep") as taken:
            try:
                return self._run(store)
            except BaseException:
                if is_new and is_abandoned(self.folder, [SWEEP_FILE]):  # there is nothing to resume
                    taken.give_back([SWEEP_FILE])
                raise

    def _run(self, store: Store | None) -> SweepOutcome:
        started = time.perf_counter()
        identity = self._find()  # again: whoever was at work in it a moment ago may have begun it, or ended
        if identity is None:
            identity = self._begin()
        prefer_one_thread()
        quiet_libraries()
        status = "FAILED"
        try:
            with ray_session(self.request.address):
                if store is not None:  # a cluster that does not start is to leave no record
                    self.records = SweepRecords(self.study, identity, store)
                    self.records.begin(self.folder / SWEEP_FILE)
                trials = self._stage(SEARCH, self.study.spec.budget.trials)
                entries = self._entries(trials)
                finals = self._finals(entries, self._stage(FINAL, len(entries)))
            outcome = self._conclude(identity, trials, finals, started)
            status = "FINISHED"
            return outcome
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if self.records is not None:
                self.records.finish(status)

    def _begin(self) -> str:
        """Take the folder for this sweep; returns what it will be called in its records."""
        if self.request.resume:
            self.notes.print(f"There is nothing to resume in {self.request.out}; beginning", soft_wrap=True)
        identity = f"{self.study.spec.name}-{uuid.uuid4().hex[:12]}"
        spec = self.study.spec.model_dump(mode="json")
        write_json(self.folder / SWEEP_FILE, {"format": "edgegen-sweep-1", "identity": identity, "spec": spec})
        return identity

    def _find(self) -> str | None:
        """Find this sweep in its folder; returns what it is called in its records, None if the folder is free."""
        spec = self.study.spec.model_dump(mode="json")
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
            identity, before = str(found["identity"]), dict(found["spec"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The sweep in '{self.request.out}' is damaged: {SWEEP_FILE} can not be read ({error!r})."
            ) from None
        changed = sorted(name for name in {*spec, *before} if spec.get(name) != before.get(name))
        if changed:
            raise InputError(
                f"The sweep in '{self.request.out}' was begun with other values of {', '.join(changed)}; resume it "
                "with the file it began with, or choose another --out."
            )
        return identity

    def _holds_something(self) -> bool:
        return any(self.folder.iterdir()) and not is_abandoned(self.folder, [])

    def _stage(self, stage: str, total: int) -> list[TrialView]:
        """Run one of Tune's experiments to its end; returns its trials."""
        done = self.folder / f"{stage}.json"
        if done.exists():
            trials = [TrialView.of(data) for data in read_json(done)]
            self._settle(stage, trials)
            return trials
        labels = [entry["name"] for entry in read_json(self.folder / ENTRIES_FILE)] if stage == FINAL else []
        title = f"{self.study.spec.name}: {'search' if stage == SEARCH else 'final training'}"
        progress = SweepProgress(self.study, self.notes, title, total, labels)
        stand = Stand()
        watchers: list[Watcher] = [stand, progress, *([self.records] if self.records is not None else [])]
        began = time.monotonic()
        with watching(watchers), progress.shown(), own_handlers_kept(), warnings.catch_warnings():
            # Optuna is told again what a trial reports again after going back to a checkpoint.
            warnings.filterwarnings("ignore", message="The reported value is ignored")
            self._tuner(stage, total).fit()
        limit = self.study.spec.budget.time_s if stage == SEARCH else None
        timed_out = limit is not None and time.monotonic() - began >= limit
        trials = stand.trials
        if not timed_out and (len(trials) < total or not all(trial.ended for trial in trials)):
            raise KeyboardInterrupt  # Tune catches Ctrl-C and returns what there is
        self._settle(stage, trials)
        if all(trial.objective is None or trial.status == FAILED for trial in trials):
            raise InputError(f"Every trial of the {title} failed{_first_error(trials)}.")
        write_json(done, [trial.to_json() for trial in trials])
        return trials

    def _tuner(self, stage: str, total: int) -> Any:
        from edgegen.platform.sweeps.search import final_tuner, restored_tuner, search_tuner

        if put_state_back(self.folder / stage):
            return restored_tuner(self.study, self.folder, stage)
        forget(self.folder / stage)  # whatever there is was killed before its first step
        if stage == SEARCH:
            return search_tuner(self.study, self.folder, stage)
        return final_tuner(self.study, self.folder, stage, total)

    def _settle(self, stage: str, trials: Sequence[TrialView]) -> None:
        if self.records is not None:
            self.records.settle(stage, trials)

    def _entries(self, trials: Sequence[TrialView]) -> list[dict[str, Any]]:
        """What the final training trains: decided once, for a resumed sweep must not decide otherwise."""
        file = self.folder / ENTRIES_FILE
        if not file.exists():
            retrain = self.study.spec.retrain
            sound = [trial for trial in trials if trial.status != FAILED]
            finalists = ranking(self.study, sound)[: retrain.finalists]
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

    def _finals(self, entries: Sequence[dict[str, Any]], trials: Sequence[TrialView]) -> list[FinalResult]:
        finals = []
        for trial in trials:
            entry = entries[trial.config["entry"]]
            if trial.status == FAILED or trial.checkpoint is None or trial.objective is None:
                continue
            policy = seed_folder(trial.checkpoint, entry["seed"]) / "policy"
            finals.append(FinalResult(entry["label"], entry["seed"], trial.objective, policy, trial.identity))
        if all(final.label == CONTROL for final in finals):
            raise InputError(f"Every final training of the best trials failed{_first_error(trials)}.")
        return finals

    def _conclude(
        self, identity: str, trials: Sequence[TrialView], finals: Sequence[FinalResult], started: float
    ) -> SweepOutcome:
        """Compare, choose, register and report."""
        with activity(self.notes, "Comparing on evaluation arrivals"):
            comparison = self._compare(finals)
        chosen = choose(self.study, finals)
        shutil.copytree(chosen.policy, self.folder / POLICY_FOLDER, dirs_exist_ok=True)
        registration = self._register(identity, chosen)
        outcome = SweepOutcome(
            study=self.study,
            trials=tuple(trials),
            finals=tuple(finals),
            chosen=chosen,
            comparison=comparison,
            registration=registration,
            seconds=time.perf_counter() - started,
        )
        write_report(outcome, self.folder / REPORT_FOLDER)
        if self.records is not None:
            metrics = {
                f"final/{label}": sum(values) / len(values) for label in outcome.labels if (values := outcome.of(label))
            }
            self.records.log_sweep([(len(trials), {name.replace(" ", "_"): value for name, value in metrics.items()})])
            self.records.store_report(self.folder / REPORT_FOLDER)
        return outcome

    def _compare(self, finals: Sequence[FinalResult]) -> Comparison:
        spec, world = self.study.spec, self.study.world
        evaluation = spec.evaluation
        known = rules_for(world)
        rules = evaluation.rules or [rule for rule in self.study.learner.rivals if rule in known]
        reference = kind_of(world).reference
        names = {f"{final.label}, seed {final.seed}": str(final.policy) for final in finals}
        names |= {rule: rule for rule in dict.fromkeys((*rules, reference))}
        policies = {label: make_policy(name, world, evaluation.seed) for label, name in names.items()}
        explore = spec.validation.actions == "sampled"
        return compare(world, policies, evaluation.episodes, evaluation.seed, reference, explore)

    def _register(self, identity: str, chosen: FinalResult) -> Registration | None:
        if self.records is None:
            return None
        from edgegen.platform.records.model_registry import register

        records = self.records
        run_id = records.child_run(FINAL, chosen.identity, chosen.seed)
        if run_id is None:  # tracking broke off
            return None
        tags = {"edgegen.sweep": identity, "edgegen.settings_of": chosen.label, "edgegen.seed": str(chosen.seed)}
        description = (
            f"{self.study.spec.algorithm} on {self.study.world.name}, sweep {self.study.spec.name}, settings of "
            f"{chosen.label}, training seed {chosen.seed}: {self.study.metric} {chosen.objective:.4g} in validation."
        )
        with activity(self.notes, "Registering the policy"):
            return records.store.attempt(
                lambda: register(records.store, self.study, chosen.policy, run_id, tags, description)
            )


def _first_error(trials: Sequence[TrialView]) -> str:
    """The last line of the first error, as the end of a sentence."""
    for trial in trials:
        if trial.error is not None and trial.error.is_file():
            lines = trial.error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"; the first error is: {lines[-1].rstrip('.')}" if lines else ""
    return ""
