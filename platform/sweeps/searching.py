# SPDX-License-Identifier: Apache-2.0
"""The searcher of a sweep: an Optuna study, which a restored search makes anew of the trials that Tune knows.

So nothing of it has to be written while the search goes on. A study in a database is written by Optuna as trials begin
and end; Optuna's dashboard can look at it meanwhile.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.urls import shown
from edgegen.platform.sweeps.history import history_of
from edgegen.platform.sweeps.objectives import Objective
from edgegen.platform.sweeps.space import Domain, in_order
from edgegen.platform.sweeps.state import trials_in
from edgegen.platform.sweeps.training import ALSO, OBJECTIVE

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

TRIAL = "edgegen.trial"
"""Attribute of a trial in the study: Tune's name of it."""


@dataclass(frozen=True)
class StudyPlan:
    """What a study is, in plain values: Tune pickles its searchers.

    Attributes:
        name: Its name, which no other has.
        kind: Who proposes: ``tpe``, ``gp``, ``cmaes`` or ``random``.
        seed: Seed of the proposals.
        startup_trials: Trials drawn at random first.
        mode: ``min`` or ``max``.
        space: What varies.
        storage: URL of the database; in memory if None.
        also: Further objectives.
    """

    name: str
    kind: str
    seed: int
    startup_trials: int
    mode: str
    space: Mapping[str, Domain]
    storage: str | None = None
    also: tuple[Objective, ...] = ()

    def values(self, report: Mapping[str, Any]) -> list[float]:
        """Values of all objectives in a report, or in a result of Tune."""
        return [float(report[OBJECTIVE]), *(float(report[ALSO][each.metric]) for each in self.also)]

    def open(self, known: int) -> Study:
        """Open the study, or make it.

        Args:
            known: Trials that there are; whoever goes on after these must not draw what was drawn first.

        Raises:
            InputError: If the database can not be used.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return optuna.create_study(
                storage=self.storage,
                sampler=self._sampler(self.seed + known),
                study_name=self.name,
                directions=[
                    "maximize" if mode == "max" else "minimize"
                    for mode in (self.mode, *(each.mode for each in self.also))
                ],
                load_if_exists=True,
            )
        except Exception as error:  # whatever a driver or a server can raise
            raise InputError(
                f"searcher.storage is '{shown(str(self.storage))}', which can not be used: {shown(first_line(error))}."
            ) from None

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna import samplers

        if self.kind == "random":
            return samplers.RandomSampler(seed=seed)
        if self.kind == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=self.startup_trials)
        if self.kind == "cmaes":
            return samplers.CmaEsSampler(
                seed=seed, n_startup_trials=self.startup_trials, warn_independent_sampling=False
            )
        # Trials that are still running count as bad ones, so that parallel ones do not all try the same place.
        return samplers.TPESampler(seed=seed, n_startup_trials=self.startup_trials, constant_liar=True)


class StudySearch(Searcher):  # type: ignore[misc]  # Ray has no types
    """Proposes the values of trials.

    Args:
        plan: The study.
    """

    def __init__(self, plan: StudyPlan) -> None:
        super().__init__(metric=OBJECTIVE, mode=plan.mode)
        self.plan = plan
        self._study: Study | None = None
        self._open: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Only the plan: the rest is made again."""
        return {**vars(self), "_study": None, "_open": {}}

    @property
    def study(self) -> Study:
        """The study."""
        if self._study is None:
            self._study = self.plan.open(0)
        return self._study

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """See Tune: the values of a new trial."""
        trial = self._open[trial_id] = self.study.ask()
        if self.plan.storage is not None:
            trial.set_user_attr(TRIAL, trial_id)
        return {"settings": self._drawn(trial)}

    def _drawn(self, trial: Trial) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for name, domain in in_order(self.plan.space):
            if domain.applies(drawn):
                drawn[name] = trial._suggest(name, domain.optuna())
        return drawn

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See Tune: what comes on the way does not matter to those who propose."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Tune: a trial is over."""
        trial = self._open.pop(trial_id, None)
        if trial is not None:
            self._tell(trial, None if error or not result else self.plan.values(result))

    def _tell(self, trial: Any, values: list[float] | None) -> None:
        from optuna.trial import TrialState

        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self.study.tell(trial, values, state, skip_if_finished=True)

    def save(self, checkpoint_path: str) -> None:
        """See Tune: there is nothing to save."""
        Path(checkpoint_path).write_bytes(pickle.dumps({}))

    def restore(self, checkpoint_path: str) -> None:
        """See Tune: there is nothing to restore."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """See Tune: go on with the trials in a folder's state."""
        self.recall(trials_in(Path(checkpoint_dir)))

    def recall(self, trials: list[dict[str, Any]]) -> None:
        """Enter the trials that there are already, as far as the study does not know them.

        Args:
            trials: Plain values of Tune's trials.
        """
        self._study, self._open = self.plan.open(len(trials)), {}
        known = {found.user_attrs.get(TRIAL): found for found in self._study.get_trials(deepcopy=False)}
        for trial in trials:
            name, settings = str(trial["trial_id"]), trial["config"]["settings"]
            if name in known:
                entered = _live(self._study, known.pop(name))
            else:
                self._study.enqueue_trial(settings)
                entered = self._study.ask()
                entered.set_user_attr(TRIAL, name)
                self._drawn(entered)
            if trial["status"] == "TERMINATED":
                reports = history_of(name)
                self._tell(entered, self.plan.values(reports[-1]) if reports else None)
            else:
                self._open[name] = entered
        for left in known.values():  # the driver was killed before anybody heard of these
            if not left.state.is_finished():
                self._tell(left.number, None)


def _live(study: Study, found: Any) -> Trial:
    """A trial of a study that can be told about."""
    from optuna.trial import Trial

    return Trial(study, found._trial_id)
