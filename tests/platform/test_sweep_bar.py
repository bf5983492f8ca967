# SPDX-License-Identifier: Apache-2.0
"""The bar of a sweep: which rules are tuned, with which budget, and what they are judged on."""

from pathlib import Path

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.platform.engine.doing import run_unit
from edgegen.platform.engine.unit import Evaluation
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.bar import result_of, tunings_of
from edgegen.platform.sweeps.checked import make_sweep

SPEC = {
    "name": "small",
    "algorithm": "ladts",
    "overrides": {"slots": 4, "tasks_per_slot.high": 3},
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "budget": {"trials": 1, "episodes": 12, "report_every": 4},
    "validation": {"episodes": 5, "seed": 3},
    "retrain": {"seeds": [11, 12]},
}


def tunings(**changes):
    sweep = make_sweep({**SPEC, **changes})
    return tunings_of(sweep, Evaluation(sweep.world, 4, 1000))


def test_every_rule_with_constants_is_tuned_with_the_seeds_and_the_budget_of_the_final_training() -> None:
    units = tunings()
    assert [(unit.name, unit.seed, unit.episodes) for unit in units] == [("priced-greedy", n, 12) for n in (11, 12)]
    assert [unit.title for unit in units] == [f"priced-greedy (tuned), seed {n}" for n in (11, 12)]
    both = tunings(algorithm="t2drl", overrides={"frames": 2})
    assert {unit.name for unit in both} == {"history-knapsack", "frame-knapsack"}
    assert tunings(evaluation={"tuned": False}) == []
    tuned = {"settings": {"tune_trials": 10, "tune_episodes": 2}, "space": {"learning_rate": {"uniform": [0.001, 0.1]}}}
    units = tunings(algorithm="fleet", preset="joint", overrides={}, **tuned)
    assert {(unit.episodes, unit.start) for unit in units} == {(12, 10 * 2 + 3 * 16 * 2)}  # its start was tuned, too


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": {"episodes": 6, "seed": 3}},
        {"validation": {"episodes": 5, "seed": 4}},
        {"validation": {"episodes": 5, "seed": 3, "actions": "greedy"}},
        {"metric": "p95_delay_s"},
        {"budget": {"trials": 1, "episodes": 16, "report_every": 4}},
    ],
)
def test_what_decides_its_result_makes_it_another_unit(changes) -> None:
    assert not {unit.identity for unit in tunings(**changes)} & {unit.identity for unit in tunings()}


def test_it_is_judged_on_the_validation_of_the_sweep(tmp_path: Path) -> None:
    unit = tunings()[1]
    run_unit(unit, tmp_path, lambda episodes, recent: None)
    found = result_of(unit, tmp_path)
    assert (found.label, found.seed) == ("priced-greedy (tuned)", 12)
    assert found.spent.played <= 12
    policy = make_policy(str(found.policy), unit.world, 3)
    expected = evaluate(unit.world, policy, 5, 3, True, validation=True)
    assert found.objective == pytest.approx(float(np.mean(expected["mean_delay_s"])))
