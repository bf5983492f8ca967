# SPDX-License-Identifier: Apache-2.0
"""The tuning of a rule as a unit: a learner's budget, training episodes only, and no trace of being cut off."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.rules.priced_greedy import Prices
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.engine.doing import is_done, read_done, run_unit
from edgegen.platform.engine.tuning import budget_text
from edgegen.platform.engine.unit import Evaluation
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.studies.streams import play_training_stream
from edgegen.platform.studies.units import TRAINING_FILE, TunedRule

WORLD = load_scenario("demo", {"slots": 8})
JUDGED = Evaluation(WORLD, 3, 5)
UNIT = TunedRule.of("priced-greedy (tuned), demo, seed 4", WORLD, "priced-greedy", 4, 30, JUDGED)
FILES = ("trials.json", "final.json", "policy/policy.json", TRAINING_FILE, JUDGED.file_name)


def quiet(episodes: int, recent: float) -> None: ...


def found(folder: Path) -> dict[str, Any]:
    read = {name: json.loads((folder / name).read_text()) for name in FILES}
    read[JUDGED.file_name].pop("decision_wall_s")
    return read


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("whole")
    run_unit(UNIT, folder, quiet)
    return folder


def test_it_simulates_no_more_than_a_training_and_says_how_much(whole: Path) -> None:
    spent = UNIT.spent(whole)
    assert (spent.trials, spent.episodes) == (18, 1)
    assert 18 < spent.played <= 30
    trials, finals = (json.loads((whole / name).read_text()) for name in FILES[:2])
    assert spent.played == len(trials) + 2 * len(finals)
    assert spent.requests == sum(trial["requests"] for trial in (*trials, *finals))


def test_what_a_learner_plays_for_its_start_is_in_the_budget(tmp_path: Path) -> None:
    unit = TunedRule.of("priced-greedy (tuned)", WORLD, "priced-greedy", 4, 6, JUDGED, start=24)
    assert unit.changed == UNIT.changed  # 30 episodes in all, too
    shown: list[int] = []
    run_unit(unit, tmp_path, lambda episodes, recent: shown.append(episodes))
    spent = unit.spent(tmp_path)
    assert 6 < spent.played <= 30
    assert shown == sorted(shown)  # progress is told in the episodes that are learned from
    assert max(shown) <= 6
    (curve,) = json.loads((tmp_path / TRAINING_FILE).read_text())["episodes"].values()
    assert len(curve) == 6
    assert budget_text([spent], 6).endswith("no more than the 30 episodes of a training, 24 of them for its start")


def test_what_is_judged_is_the_tuned_rule_on_evaluation_episodes(whole: Path) -> None:
    policy = make_policy(str(whole / "policy"), WORLD, JUDGED.seed)
    judged = found(whole)[JUDGED.file_name]
    expected = evaluate(WORLD, policy, JUDGED.episodes, JUDGED.seed, True)
    assert judged["modes"]["rule"]["mean_delay_s"] == expected["mean_delay_s"].tolist()
    assert judged["information"] == policy.information


def test_its_level_on_the_training_episodes_of_its_seed_is_kept(whole: Path) -> None:
    (curve,) = found(whole)[TRAINING_FILE]["episodes"].values()
    policy = make_policy(str(whole / "policy"), WORLD)
    assert np.array_equal(curve, play_training_stream(WORLD, policy, 4, 30))


@pytest.mark.parametrize("after", [7, 20])
def test_cut_off_among_trials_or_in_the_final_round_it_ends_as_if_it_had_not_been(
    whole: Path, tmp_path: Path, after: int
) -> None:
    steps = 0

    def pulling_the_plug(episodes: int, recent: float) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_unit(UNIT, tmp_path, pulling_the_plug)
    assert not is_done(UNIT, tmp_path)
    run_unit(UNIT, tmp_path, quiet)
    assert found(tmp_path) == found(whole)
    done = read_done(tmp_path)
    assert done is not None
    assert done["resumed_at"] == [7 if after == 7 else 18 + 2 * 2]


def test_identity_is_world_rule_seed_and_budget(whole: Path) -> None:
    assert UNIT.identity == replace(UNIT, title="other", evaluations=()).identity
    for other in (
        TunedRule.of("", WORLD, "priced-greedy", 5, 30, JUDGED),
        TunedRule.of("", WORLD, "priced-greedy", 4, 31, JUDGED),
        TunedRule.of("", load_scenario("demo", {"slots": 9}), "priced-greedy", 4, 30, JUDGED),
    ):
        assert other.identity != UNIT.identity
    assert is_done(UNIT, whole)
    assert not is_done(replace(UNIT, settings={**UNIT.settings, next(iter(Prices.ranges())): -1.0}), whole)
