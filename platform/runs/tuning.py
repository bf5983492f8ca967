# SPDX-License-Identifier: Apache-2.0
"""Tuning of a rule as a run: its folder, its record, and stopping and going on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgegen.algorithms.core.tunable import Constants
from edgegen.algorithms.stop_signals import noting_stops, stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_named
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store, Tracker
from edgegen.platform.run_folder import RunFolder, is_abandoned, take_again, take_new
from edgegen.platform.runs.rule_search import TRIALS_FILE, RuleSearch, Trial, TuneRequest

TUNE_FILE, SCENARIO_FILE = "tune.json", "scenario.yaml"
FORMAT = "edgegen-tuning-1"


@dataclass(frozen=True)
class TuneResult:
    """What came of it.

    Attributes:
        out: Run folder.
        policy: Folder of the tuned rule; None if it was asked to stop.
        trials: All trials so far.
        best: The constants that were kept; None if it was asked to stop.
        default: Mean of what decides with the defaults, on the finalists' episodes.
        tuned: Likewise with the constants that were kept.
        requests: Requests that were simulated in all.
        seconds: Wall time of this call, s.
        mlflow_uri: Where the record is, if tracked.
    """

    out: Path
    policy: Path | None
    trials: list[Trial]
    best: Constants | None
    default: float
    tuned: float
    requests: int
    seconds: float
    mlflow_uri: str | None

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stop early."""
        return self.policy is None


OnTrial = Callable[[list[Trial], int], None]
"""Is told all trials so far and how many there will be, after every one."""


def tune(request: TuneRequest, out: Path, numbered: bool, tracking: bool, on_trial: OnTrial) -> TuneResult:
    """Tune a rule from the beginning.

    Args:
        request: What to tune.
        out: Run folder.
        numbered: Whether to take the name with the first free number behind it if the folder is there.
        tracking: Whether to record it in MLflow.
        on_trial: Is told how far it is.

    Raises:
        InputError: If the request is impossible, or the folder holds something already.
    """
    _ = request.tunable
    for name in ("trials", "episodes"):
        if getattr(request, name) < 1:
            raise InputError(f"{name} is {getattr(request, name)}, but must be at least 1.")
    with take_new(out, "tuning", numbered) as folder:
        if any(path.name != ".lock" for path in folder.path.iterdir()) and not is_abandoned(folder.path, ()):
            raise InputError(f"'{folder.path}' is not empty; choose another folder, or continue with --resume.")
        (folder.path / SCENARIO_FILE).write_text(dump_yaml(request.scenario.model_dump()), encoding="utf-8")
        described = {
            "format": FORMAT,
            "rule": request.rule,
            "trials": request.trials,
            "episodes": request.episodes,
            "seed": request.seed,
            "scenario": request.scenario.model_dump(),
        }
        try:
            return _Tuning(request, described, folder, tracking, on_trial).go()
        except BaseException:
            if not (folder.path / TRIALS_FILE).exists():  # there is nothing to resume
                folder.give_back([TUNE_FILE, SCENARIO_FILE])
            raise


def resume_tuning(out: Path, trials: int | None, tracking: bool, on_trial: OnTrial) -> TuneResult:
    """Go on with a tuning that was interrupted, or add trials to one that ended.

    Raises:
        InputError: If the folder holds no tuning.
    """
    if not (out / TUNE_FILE).exists():
        raise _no_tuning(out)  # before a lock is left there
    with take_again(out, "tuning") as folder:
        described, request = _read_tuning(out)
        wanted = request.trials if trials is None else trials
        return _Tuning(
            replace(request, trials=wanted), {**described, "trials": wanted}, folder, tracking, on_trial
        ).go()


def _read_tuning(out: Path) -> tuple[dict[str, Any], TuneRequest]:
    """Read what a folder's tuning was asked for, as plain data and checked.

    Raises:
        InputError: If the folder holds no tuning, or its file is damaged.
    """
    try:
        described = json.loads((out / TUNE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        described = None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise _no_tuning(out)
    kinds = {"rule": str, "trials": int, "episodes": int, "seed": int, "scenario": dict}
    for field, kind in kinds.items():
        if not isinstance(described.get(field), kind):
            raise _bad_field(out, field)
    if not isinstance(described.get("mlflow_run_id"), str | None):
        raise _bad_field(out, "mlflow_run_id")
    kind_named(described["scenario"].get("kind"), f"'{out}': the kind of the scenario")
    scenario = build_scenario(dict(described["scenario"]))
    return described, TuneRequest(scenario=scenario, **{name: described[name] for name in kinds if name != "scenario"})


def _no_tuning(out: Path) -> InputError:
    return InputError(f"'{out}' holds no tuning to continue: {TUNE_FILE} is missing or damaged.")


def _bad_field(out: Path, field: str) -> InputError:
    return InputError(f"'{out}' can not be continued: {TUNE_FILE} has a bad field '{field}'.")


class _Tuning:
    """One call of tune or resume."""

    def __init__(
        self, request: TuneRequest, described: dict[str, Any], folder: RunFolder, tracking: bool, on_trial: OnTrial
    ) -> None:
        self.request, self.folder, self.on_trial = request, folder.path, on_trial
        self.search = RuleSearch(request, folder.path)
        done = len(self.search.trials)
        if request.trials < done:
            raise InputError(
                f"budget is {request.trials}, but '{folder.path}' has {done} trials already; ask for as many or more."
            )
        self.tracker = self._tracker(described.get("mlflow_run_id")) if tracking else None
        if self.tracker is not None:
            described = {**described, "mlflow_run_id": self.tracker.run_id}
        write_json(folder.path / TUNE_FILE, described)

    def go(self) -> TuneResult:
        """Try, and choose."""
        started, status = time.perf_counter(), "FAILED"
        try:
            with stopping_as_ctrl_c(), noting_stops() as stop:
                while not self.search.over and not stop.asked:
                    before = len(self.search.trials)
                    self.search.step()
                    if len(self.search.trials) > before:
                        self._tell()
                result = self._result(started, self._kept() if self.search.over else None)
            status = "KILLED" if result.interrupted else "FINISHED"
            return result
        finally:
            if self.tracker is not None:
                self.tracker.finish(status)

    def _tell(self) -> None:
        trials = self.search.trials
        if self.tracker is not None:
            best = min(trial.value for trial in trials)
            self.tracker.log_metrics([(len(trials), {"value": trials[-1].value, "best": best})])
        self.on_trial(trials, self.request.trials)

    def _kept(self) -> Path:
        """Write the policy, and record it."""
        search = self.search
        policy = search.save()
        if self.tracker is not None:
            found = {
                "tuned": search.best.value,
                "default": search.default.value,
                "simulated_requests": float(search.requests),
            }
            self.tracker.log_metrics([(len(search.trials), found)])
            self.tracker.log_folder(policy, "policy")
        return policy

    def _result(self, started: float, policy: Path | None) -> TuneResult:
        search, nothing = self.search, float("nan")
        return TuneResult(
            out=self.folder,
            policy=policy,
            trials=search.trials,
            best=None if policy is None else search.tunable.constants(**search.best.constants),
            default=nothing if policy is None else search.default.value,
            tuned=nothing if policy is None else search.best.value,
            requests=search.requests,
            seconds=time.perf_counter() - started,
            mlflow_uri=None if self.tracker is None else self.tracker.uri,
        )

    def _tracker(self, run_id: str | None) -> Tracker:
        request = self.request
        parameters = {
            "rule": request.rule,
            "scenario": request.scenario.name,
            "trials": request.trials,
            "episodes": request.episodes,
            "seed": request.seed,
        }
        name = f"tune {request.rule}, {request.scenario.name}"
        return Tracker(name, parameters, {"edgegen.command": "tune"}, run_id, Store(self.folder))
