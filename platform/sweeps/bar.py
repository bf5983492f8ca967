# SPDX-License-Identifier: Apache-2.0
"""The bar of a sweep: rules with constants, tuned with the budget of a final training, as units of the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgegen.algorithms.core.tunable import tuned_name
from edgegen.platform.engine.doing import Effort, read_json
from edgegen.platform.engine.tuning import Spent, Tuning
from edgegen.platform.engine.unit import SAMPLED, Evaluation
from edgegen.platform.files import write_json
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.runs.rule_search import tunable_rules
from edgegen.platform.sweeps.checked import CheckedSweep

VALIDATION_FILE = "validation.json"


@dataclass(frozen=True)
class ValidatedTuning(Tuning):
    """The tuning of a rule that is judged as final trainings are: on the validation of the sweep, too.

    Attributes:
        validated: Episodes and seed of the validation.
        metric: The metric that decides in the sweep.
    """

    kind: ClassVar[str] = "bar"
    validated: tuple[int, int] = (1, 0)
    metric: str = ""

    @property
    def essence(self) -> dict[str, object]:
        """See :meth:`Unit.essence`."""
        return {**super().essence, "validated": list(self.validated), "metric": self.metric}

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        super().work(folder, effort)
        episodes, seed = self.validated
        policy = self.policy(folder, Evaluation(self.world, episodes, seed))
        results = evaluate(self.world, policy, episodes, seed, self.explore, validation=True)
        write_json(folder / VALIDATION_FILE, {"objective": float(np.mean(results[self.metric]))})

    def objective(self, folder: Path) -> float:
        """Return what a finished one achieved on the validation episodes."""
        return float(read_json(folder / VALIDATION_FILE)["objective"])


@dataclass(frozen=True)
class TunedResult:
    """What one tuning of a rule achieved.

    Attributes:
        label: Name of the rule as tuned.
        seed: Training seed.
        objective: The metric on the validation episodes.
        policy: Folder of the policy.
        spent: What the tuning took.
    """

    label: str
    seed: int
    objective: float
    policy: Path
    spent: Spent


def tunings_of(sweep: CheckedSweep, evaluation: Evaluation) -> list[ValidatedTuning]:
    """Return the tunings that final trainings are compared with: each rule with constants, with each of their seeds."""
    spec = sweep.spec
    if not spec.evaluation.tuned:
        return []
    validation, start = spec.validation, sweep.learner.start_episodes(sweep.settings({}))
    return [
        replace(
            ValidatedTuning.of(
                f"{tuned_name(rule)}, seed {seed}",
                sweep.world, rule, seed, spec.budget.episodes, evaluation, validation.actions == SAMPLED, start,
            ),
            validated=(validation.episodes, validation.seed),
            metric=sweep.metric,
        )
        for rule in tunable_rules(sweep.world)
        for seed in spec.retrain.seeds
    ]  # fmt: skip


def result_of(unit: ValidatedTuning, folder: Path) -> TunedResult:
    """Return what a finished tuning achieved."""
    return TunedResult(
        tuned_name(unit.name), unit.seed, unit.objective(folder), unit.policy_folder(folder), unit.spent(folder)
    )
