"""Tuning of rules: a search of their constants on training episodes, with a budget as a learner has one.

Trial after trial a sampler of Optuna proposes constants, and the rule plays the same episodes of the training stream
with them. The best few and the defaults then play other training episodes, and the best of those is kept: what won by
the luck of its episodes does not win again. Evaluation episodes are never seen.

Every trial draws from a sampler of its own seed that is told all trials before, so a search that was interrupted goes
on as if it had not been.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from edgegen.algorithms.core.play import metered
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.algorithms.core.tunable import Constants, Tunable, save_tuned
from edgegen.algorithms.stop_signals import noting_stops, stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_named, kind_of
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import World, WorldScenario
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.platform.files import write_json
from edgegen.platform.records.tracking import Store, Tracker
from edgegen.platform.run_folder import RunFolder, is_abandoned, take_again, take_new
from edgegen.platform.runs.episodes import play_in_chunks
from edgegen.platform.studies.streams import training_arrivals_seed

TUNE_FILE, TRIALS_FILE, SCENARIO_FILE, POLICY_FOLDER = "tune.json", "trials.json", "scenario.yaml", "policy"
FORMAT = "edgegen-tuning-1"
FINALISTS = 5
"""Best trials that play other episodes, beside the defaults."""
_FINAL = 2  # times as many episodes


@dataclass(frozen=True)
class TuneRequest:
    """What is to be tuned.

    Attributes:
        rule: Name of the rule.
        scenario: The world.
        trials: Sets of constants to try; the first is the defaults.
        episodes: Training episodes that each plays.
        seed: Of the training stream and of the proposals.
    """

    rule: str
    scenario: WorldScenario
    trials: int = 200
    episodes: int = 16
    seed: int = 0

    @property
    def tunable(self) -> Tunable:
        """The rule.

        Raises:
            InputError: If the kind of the world has no such rule, or it has no constants.
        """
        book = rule_book(self.scenario.kind)
        if self.rule in book.tunable:
            return book.tunable[self.rule]
        known = ", ".join(book.tunable) or "none"
        if self.rule in book.makers:
            raise InputError(f"The rule '{self.rule}' has no constants to tune; rules with constants are {known}.")
        raise InputError(
            f"Unknown rule '{self.rule}'; rules with constants for scenario '{self.scenario.name}' are {known}."
            f"{did_you_mean(self.rule, book.tunable)}"
        )


@dataclass(frozen=True)
class Trial:
    """Constants that were tried.

    Attributes:
        constants: By name.
        value: Mean of what decides; less is better.
        requests: Requests that were simulated.
    """

    constants: dict[str, float]
    value: float
    requests: int


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


OnTrial = Callable[[list[Trial]], None]


def tune(request: TuneRequest, out: Path, numbered: bool, tracking: bool, on_trial: OnTrial) -> TuneResult:
    """Tune a rule from the beginning.

    Args:
        request: What to tune.
        out: Run folder.
        numbered: Whether to take the name with the first free number behind it if the folder is there.
        tracking: Whether to record it in MLflow.
        on_trial: Is told all trials after every one.

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
        write_json(folder.path / TUNE_FILE, described)
        return _Tuning(request, folder, [], tracking, on_trial).go()


def resume_tuning(out: Path, trials: int | None, tracking: bool, on_trial: OnTrial) -> TuneResult:
    """Go on with a tuning that was interrupted, or add trials to one that ended.

    Raises:
        InputError: If the folder holds no tuning.
    """
    with take_again(out, "tuning") as folder:
        described, request = read_tuning(out)
        done = _read_trials(out / TRIALS_FILE)
        wanted = request.trials if trials is None else trials
        if wanted < len(done):
            raise InputError(
                f"budget is {wanted}, but '{out}' has {len(done)} trials already; ask for as many or more."
            )
        write_json(out / TUNE_FILE, {**described, "trials": wanted})
        return _Tuning(replace(request, trials=wanted), folder, done, tracking, on_trial).go()


def read_tuning(out: Path) -> tuple[dict[str, Any], TuneRequest]:
    """Read what a folder's tuning was asked for, as plain data and checked.

    Raises:
        InputError: If the folder holds no tuning, or its file is damaged.
    """
    described = _read(out / TUNE_FILE)
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise InputError(f"'{out}' holds no tuning to continue: {TUNE_FILE} is missing or damaged.")
    kinds = {"rule": str, "trials": int, "episodes": int, "seed": int, "scenario": dict}
    for field, kind in kinds.items():
        if not isinstance(described.get(field), kind):
            raise InputError(f"'{out}' can not be continued: {TUNE_FILE} has a bad field '{field}'.")
    kind_named(described["scenario"].get("kind"), f"'{out}': the kind of the scenario")
    scenario = build_scenario(dict(described["scenario"]))
    return described, TuneRequest(scenario=scenario, **{name: described[name] for name in kinds if name != "scenario"})


def _read_trials(path: Path) -> list[Trial]:
    """Trials so far; none where there is no file.

    Raises:
        InputError: If the file is damaged: what it held would be lost.
    """
    if not path.exists():
        return []
    found = _read(path)
    try:
        return [Trial(**trial) for trial in found]
    except TypeError:
        raise InputError(f"'{path}' is damaged; remove it to begin anew.") from None


class _Tuning:
    def __init__(
        self, request: TuneRequest, folder: RunFolder, trials: list[Trial], tracking: bool, on_trial: OnTrial
    ) -> None:
        self.request, self.folder, self.trials, self.on_trial = request, folder.path, trials, on_trial
        self.tunable = request.tunable
        self.tracker = self._tracker() if tracking else None
        self._world: World | None = None

    def go(self) -> TuneResult:
        """Try, and choose."""
        started, status = time.perf_counter(), "FAILED"
        try:
            with stopping_as_ctrl_c(), noting_stops() as stop:
                while len(self.trials) < self.request.trials and not stop.asked:
                    self._try_one()
                result = self._interrupted(started) if stop.asked else self._chosen(started)
            status = "KILLED" if result.interrupted else "FINISHED"
            return result
        finally:
            if self.tracker is not None:
                self.tracker.finish(status)

    def _try_one(self) -> None:
        number = len(self.trials)
        constants = self.tunable.constants() if number == 0 else self._proposed(number)
        value, requests = self._play(constants, 0, self.request.episodes)
        self.trials.append(Trial(constants.model_dump(), value, requests))
        write_json(self.folder / TRIALS_FILE, [vars(trial) for trial in self.trials])
        if self.tracker is not None:
            best = min(trial.value for trial in self.trials)
            self.tracker.log_metrics([(number + 1, {"value": value, "best": best})])
        self.on_trial(self.trials)

    def _proposed(self, number: int) -> Constants:
        """Constants that the sampler would try after all trials so far."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(np.random.SeedSequence((self.request.seed, number)).generate_state(1)[0])
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=12)
        )
        ranges = self.tunable.constants.ranges()
        space: dict[str, Any] = {
            name: optuna.distributions.FloatDistribution(r.low, r.high, log=r.log) for name, r in ranges.items()
        }
        study.add_trials(
            [
                optuna.trial.create_trial(params=trial.constants, distributions=space, value=trial.value)
                for trial in self.trials
            ]
        )
        return self.tunable.constants(**study.ask(space).params)

    def _play(self, constants: Constants, first: int, episodes: int) -> tuple[float, int]:
        """Mean of what decides over training episodes, and the requests in them."""
        scenario, kind = self.request.scenario, kind_of(self.request.scenario)
        policy = self.tunable.make(scenario, constants, self.request.seed)
        policy.seed(self.request.seed)
        root = training_arrivals_seed(self.request.seed)

        def measured(begin: int, copies: int) -> dict[str, Any]:
            if self._world is None or self._world.copies != copies:
                self._world = kind.world(scenario, copies)
            self._world.reset(root, first + begin)  # the same episodes again and again: a world need not draw them anew
            return metered(self._world, policy).values()

        values = play_in_chunks(episodes, kind.entries(scenario), measured)
        counted = values.get(kind.counted)
        each = kind.constant(scenario).get(kind.counted, 0) * episodes
        return float(values[kind.metric].mean()), int(counted.sum()) if counted is not None else each

    def _chosen(self, started: float) -> TuneResult:
        """Let the best few and the defaults play other training episodes, and keep the best."""
        request, defaults = self.request, self.tunable.constants()
        ranked = sorted(self.trials, key=lambda trial: trial.value)[:FINALISTS]
        candidates = {self.tunable.constants(**trial.constants) for trial in ranked} | {defaults}
        again = {one: self._play(one, request.episodes, _FINAL * request.episodes) for one in candidates}
        best = min(again, key=lambda one: (again[one][0], str(one)))
        requests = sum(trial.requests for trial in self.trials) + sum(count for _, count in again.values())
        tuning = {
            "trials": len(self.trials),
            "episodes": request.episodes,
            "seed": request.seed,
            "simulated_requests": requests,
            "value": again[best][0],
            "default_value": again[defaults][0],
        }
        policy = self.folder / POLICY_FOLDER
        if policy.exists():  # more trials were added
            shutil.rmtree(policy)
        made = self.tunable.make(request.scenario, best, request.seed)
        save_tuned(policy, request.rule, made, best, request.scenario, tuning)
        if self.tracker is not None:
            self.tracker.log_metrics([(len(self.trials), {"tuned": again[best][0], "default": again[defaults][0]})])
            self.tracker.log_folder(policy, "policy")
        return self._result(started, policy, best, again[defaults][0], again[best][0], requests)

    def _interrupted(self, started: float) -> TuneResult:
        requests = sum(trial.requests for trial in self.trials)
        return self._result(started, None, None, float("nan"), float("nan"), requests)

    def _result(
        self, started: float, policy: Path | None, best: Constants | None, default: float, tuned: float, requests: int
    ) -> TuneResult:
        uri = None if self.tracker is None else self.tracker.uri
        seconds = time.perf_counter() - started
        return TuneResult(self.folder, policy, self.trials, best, default, tuned, requests, seconds, uri)

    def _tracker(self) -> Tracker:
        request = self.request
        parameters = {
            "rule": request.rule,
            "scenario": request.scenario.name,
            "trials": request.trials,
            "episodes": request.episodes,
            "seed": request.seed,
        }
        name = f"tune {request.rule}, {request.scenario.name}"
        return Tracker(name, parameters, {"edgegen.command": "tune"}, store=Store())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
