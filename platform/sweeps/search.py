# SPDX-License-Identifier: Apache-2.0
"""Searchers and schedulers of a sweep, as Ray Tune has them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher

from edgegen.algorithms.rllib.private_core import write_state_when_asked
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.history import HistoryKeeper, history_of
from edgegen.platform.sweeps.relay import Relay
from edgegen.platform.sweeps.searching import StudyPlan, StudySearch
from edgegen.platform.sweeps.space import Domain
from edgegen.platform.sweeps.state import TUNER, StateKeeper, written_by
from edgegen.platform.sweeps.storage import ObjectStore
from edgegen.platform.sweeps.training import EPISODES, OBJECTIVE
from edgegen.platform.sweeps.trial import SweepTrial

KEPT_CHECKPOINTS = {"none": 2, "asha": 2, "pbt": 4, "pb2": 4}
"""Of a trial, by scheduler. The last one alone would be too few: a killed driver may remember the one before, and
other trials of a population copy a little late."""

RETRIES = 3
"""How often a trial continues from its checkpoint after it failed, its node was lost, or Ray gave up its process before
it ran; nodes that may be taken away any time make the last two ordinary."""

_ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # at the beginning and the end; in between StateKeeper says when
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow keeps the records
    "RAY_AIR_NEW_OUTPUT": "0",  # the sweep has a display of its own
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_THRESHOLD_S": "5",
}


class _Attended:
    """A scheduler's part that shows whoever keeps Tune's state how it is written."""

    _attends: Any = None

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """See Tune; the first call comes before the first step is over."""
        if self._attends is not tune_controller:
            self._attends = tune_controller
            write_state_when_asked(tune_controller)
            written_by(tune_controller.save_to_dir)
        return super().choose_trial_to_run(tune_controller)  # type: ignore[misc]  # a scheduler's


class PlainScheduler(_Attended, FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """One trial after the other, each to its end."""


class PopulationScheduler(_Attended, PopulationBasedTraining):  # type: ignore[misc]  # Ray has no types
    """Population-based training."""


class BanditScheduler(_Attended, PB2):  # type: ignore[misc]  # Ray has no types
    """Population-based bandits: a Gaussian process of what trials gained proposes the values to go on with."""

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a few points the process tells little, and says so each time
                found: tuple[dict[str, Any], dict[str, Any]] = super()._get_new_config(trial, trial_to_clone)
        except (ValueError, np.linalg.LinAlgError):  # no process fits what there is: Ray's own remedy fails, too
            return dict(trial_to_clone.config), {}
        return found


class RememberingASHA(_Attended, AsyncHyperBandScheduler):  # type: ignore[misc]  # Ray has no types
    """Successive halving that goes on where it was: Tune restores trials and searcher, but not the scheduler.

    What every restored trial reported is entered into the rungs again, in order of the episodes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._remembered = False

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Recall before the first decision, when all restored trials are known."""
        if not self._remembered:
            self._remembered = True
            self.recall([(trial, history_of(trial.trial_id)) for trial in tune_controller.get_trials()])
        return super().choose_trial_to_run(tune_controller)

    def recall(self, trials: Iterable[tuple[Any, Sequence[Mapping[str, Any]]]]) -> None:
        """Enter what trials reported earlier; each with its reports."""
        (bracket,) = self._brackets
        for trial, reports in trials:
            for report in reports:
                bracket.on_result(trial, report[EPISODES], self._metric_op * report[OBJECTIVE])


class ClipToSpace:
    """Keeps the values that population-based training moves inside their ranges."""

    def __init__(self, space: Mapping[str, Domain]) -> None:
        self.space = dict(space)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Clip the settings of a config."""
        settings = {name: self.space[name].clip(value) for name, value in config["settings"].items()}
        return {**config, "settings": settings}


def search_tuner(
    sweep: CheckedSweep, folder: Path, stage: str, name: str, store: ObjectStore | None = None
) -> tune.Tuner:
    """Return the tuner of the search.

    Args:
        sweep: The sweep.
        folder: Its folder.
        stage: Name of the experiment.
        name: What no other sweep is called.
        store: Where trials keep their checkpoints, if not in the folder.

    Raises:
        InputError: If the searcher's database can not be used.
    """
    spec = sweep.spec
    population = spec.scheduler.has_population
    return _tuner(
        sweep,
        folder,
        stage,
        store,
        {"settings": {name: domain.tune() for name, domain in sweep.space.items()}} if population else {},
        tune.TuneConfig(
            search_alg=_searcher(sweep, name),
            scheduler=_scheduler(sweep),
            num_samples=spec.budget.trials,
            max_concurrent_trials=None if population else spec.resources.concurrent,
            time_budget_s=spec.budget.time_s,
            **_common(sweep),
        ),
    )


def restored_tuner(sweep: CheckedSweep, folder: Path, stage: str, store: ObjectStore | None = None) -> tune.Tuner:
    """Return the tuner of a stage that was interrupted."""
    os.environ.update(_ENVIRONMENT)
    if store is not None:  # where Tune looks for its state
        store.replace_files(folder / stage, stage, "state-")
    where = str(folder / stage) if store is None else store.within(stage)
    return tune.Tuner.restore(where, _trainable(sweep), resume_unfinished=True, resume_errored=True)


def _trainable(sweep: CheckedSweep) -> Any:
    resources = sweep.spec.resources
    own = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    return tune.with_resources(SweepTrial, PlacementGroupFactory([own, *[{"CPU": 1.0}] * resources.env_runners]))


def _common(sweep: CheckedSweep) -> dict[str, Any]:
    return {
        "metric": OBJECTIVE,
        "mode": sweep.mode,
        "reuse_actors": True,
        "trial_name_creator": _identity,
        "trial_dirname_creator": _identity,
    }


def _identity(trial: Any) -> str:
    return str(trial.trial_id)


def _tuner(
    sweep: CheckedSweep,
    folder: Path,
    stage: str,
    store: ObjectStore | None,
    space: dict[str, Any],
    config: tune.TuneConfig,
) -> tune.Tuner:
    os.environ.update(_ENVIRONMENT)
    stored = {} if store is None else {"store": store.uri}
    tuner = tune.Tuner(
        _trainable(sweep),
        param_space={"folder": str(folder), "stage": stage, **stored, **space},
        tune_config=config,
        run_config=tune.RunConfig(
            name=stage,
            storage_path=str(folder) if store is None else store.uri,
            callbacks=[HistoryKeeper(), StateKeeper(), Relay()],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=True, num_to_keep=KEPT_CHECKPOINTS[sweep.spec.scheduler.kind]
            ),
            verbose=0,
        ),
    )
    if store is not None:  # where whoever keeps Tune's state finds it
        (folder / stage).mkdir(exist_ok=True)
        store.download(f"{stage}/{TUNER}", folder / stage / TUNER)
    return tuner


def _searcher(sweep: CheckedSweep, name: str) -> Searcher | SearchAlgorithm:
    searcher = sweep.spec.searcher
    if sweep.spec.scheduler.has_population:  # the whole population is drawn at once; Tune allows no other searcher
        return BasicVariantGenerator(random_state=searcher.seed, max_concurrent=sweep.spec.resources.concurrent or 0)
    plan = StudyPlan(
        *(name, searcher.kind, searcher.seed, searcher.startup_trials, sweep.mode, sweep.space, searcher.storage),
        also=sweep.also,
    )
    found = StudySearch(plan)
    _ = found.study  # a database that can not be used is to be found before anything is started
    return found


def _scheduler(sweep: CheckedSweep) -> TrialScheduler:
    scheduler, budget = sweep.spec.scheduler, sweep.spec.budget
    if scheduler.kind == "asha":
        return RememberingASHA(
            time_attr=EPISODES,
            max_t=budget.episodes,
            grace_period=scheduler.grace_episodes or budget.report_every,
            reduction_factor=scheduler.reduction_factor,
        )
    if scheduler.kind == "pbt":
        # A list is a choice; the rest is drawn anew or moved by a fifth.
        moved = {
            name: list(domain.values) if domain.kind == "choice" else domain.tune()
            for name, domain in sweep.space.items()
        }
        return PopulationScheduler(
            time_attr=EPISODES,
            perturbation_interval=scheduler.interval_episodes or budget.report_every,
            hyperparam_mutations={"settings": moved},
            quantile_fraction=scheduler.quantile,
            resample_probability=scheduler.resample,
            custom_explore_fn=ClipToSpace(sweep.space),
            log_config=False,
        )
    if scheduler.kind == "pb2":
        return BanditScheduler(
            time_attr=EPISODES,
            perturbation_interval=scheduler.interval_episodes or budget.report_every,
            hyperparam_bounds={"settings": {name: [domain.low, domain.high] for name, domain in sweep.space.items()}},
            quantile_fraction=scheduler.quantile,
            custom_explore_fn=ClipToSpace(sweep.space),
            log_config=False,
        )
    return PlainScheduler()
