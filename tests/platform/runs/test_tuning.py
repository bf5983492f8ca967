# SPDX-License-Identifier: Apache-2.0
"""Tuning of rules: what is searched, that a stopped search goes on as if it had not been, and what comes out."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.rules.fleet_families import ROUTERS, Families
from edgegen.algorithms.rules.priced_greedy import Prices
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.runs.rule_search import RuleSearch, Trial, TuneRequest, within_budget
from edgegen.platform.runs.tuning import TUNE_FILE, resume_tuning, tune


def stored(found: Any) -> bytes:
    """The file of the policy that a tuning has written."""
    path: Path = found.policy / "policy.json"
    return path.read_bytes()


def quiet(trials: list[Trial], wanted: int) -> None: ...


def request(trials: int = 8) -> TuneRequest:
    return TuneRequest("priced-greedy", load_scenario("demo", {"slots": 12}), trials, episodes=3, seed=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tune(request(), tmp_path_factory.mktemp("tuned") / "whole", False, False, quiet)


def test_the_first_trial_is_the_defaults_and_all_are_within_their_ranges(whole: Any) -> None:
    assert whole.trials[0].constants == Prices().model_dump()
    ranges = Prices.ranges()
    for trial in whole.trials:
        assert all(ranges[name].low <= value <= ranges[name].high for name, value in trial.constants.items())
    assert len({str(trial.constants) for trial in whole.trials}) == 8


def test_what_is_kept_is_not_worse_than_the_defaults_on_the_episodes_it_is_chosen_by(whole: Any) -> None:
    assert whole.tuned <= whole.default


def test_trials_play_the_same_training_episodes(whole: Any) -> None:
    assert len({trial.requests for trial in whole.trials}) == 1
    manifest = read_manifest(whole.policy)
    tuning = manifest["training"]
    assert tuning["trials"] == 8
    # Three episodes a trial; the finalists and the defaults play six others each.
    assert tuning["simulated_requests"] > 8 * whole.trials[0].requests
    assert manifest["algorithm"] == "tuned rule"
    assert manifest["roles"] == ["router"]


def test_a_stopped_tuning_goes_on_as_if_it_had_not_been_stopped(whole: Any, tmp_path: Path) -> None:
    def stop_after_three(trials: list[Trial], wanted: int) -> None:
        if len(trials) == 3:
            signal.raise_signal(signal.SIGTERM)

    stopped = tune(request(), tmp_path / "stopped", False, False, stop_after_three)
    assert stopped.interrupted
    assert len(stopped.trials) == 3
    assert not (tmp_path / "stopped" / "policy").exists()
    resumed = resume_tuning(tmp_path / "stopped", None, False, quiet)
    assert resumed.trials == whole.trials
    assert resumed.best == whole.best
    assert stored(resumed) == stored(whole)


@pytest.mark.parametrize("finalists", [0, 2])
def test_a_stop_in_the_final_round_is_heard_and_what_was_played_is_not_played_again(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finalists: int
) -> None:
    step, played = RuleSearch.step, []

    def stopping(search: RuleSearch) -> None:
        step(search)
        played.append(len(search.trials) + len(search.finals))
        if len(search.trials) == 8 and len(search.finals) == finalists:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RuleSearch, "step", stopping)
    stopped = tune(request(), tmp_path / "stopped", False, False, quiet)
    assert stopped.interrupted
    assert len(played) == 8 + finalists
    assert not (tmp_path / "stopped" / "policy").exists()
    monkeypatch.setattr(RuleSearch, "step", step)
    resumed = resume_tuning(tmp_path / "stopped", None, False, quiet)
    assert resumed.requests == whole.requests
    assert stored(resumed) == stored(whole)


def test_all_final_rounds_are_in_the_budget_on_record(whole: Any, tmp_path: Path) -> None:
    first = tune(request(4), tmp_path / "more", False, False, quiet)
    more = resume_tuning(tmp_path / "more", 8, False, quiet)
    finals = json.loads((tmp_path / "more" / "final.json").read_text())
    # Four trials all play the final round; of eight the best five do, of whom those four are not played again.
    assert 4 < len(finals) <= 9
    assert len({str(trial["constants"]) for trial in finals}) == len(finals)
    assert first.requests == sum(trial.requests for trial in first.trials) + sum(t["requests"] for t in finals[:4])
    assert more.requests == sum(trial.requests for trial in more.trials) + sum(t["requests"] for t in finals)
    assert more.requests >= whole.requests
    assert json.loads(stored(more))["training"]["simulated_requests"] == more.requests
    assert more.best == whole.best


@pytest.mark.parametrize("episodes", [3, 5, 6, 12, 17, 18, 30, 60, 63, 64, 127, 128, 256, 300, 320, 5000])
def test_a_search_plays_no_more_episodes_than_its_budget(episodes: int) -> None:
    trials, each = within_budget(episodes)
    played = each * (trials + 2 * min(trials, 6))
    assert played <= episodes < played + max(3, 3 * each)
    if episodes >= 64:
        assert 50 <= trials < 128


def test_trials_can_be_added(tmp_path: Path, whole: Any) -> None:
    first = tune(request(4), tmp_path / "more", False, False, quiet)
    more = resume_tuning(tmp_path / "more", 8, False, quiet)
    assert more.trials[:4] == first.trials
    assert more.trials == whole.trials


def test_a_tuned_rule_is_a_policy_for_any_scenario_of_its_kind(whole: Any) -> None:
    scenario = load_scenario("stable", {"slots": 5})
    policy = make_policy(str(whole.out), scenario)
    assert policy.name == "priced-greedy (tuned)"
    assert not policy.trained
    one, two = (evaluate(scenario, make_policy(str(whole.policy), scenario), 2, 3).deciding for _ in range(2))
    assert (one == two).all()
    with pytest.raises(
        InputError, match="is the tuned rule 'priced-greedy', but the rules with constants for scenario"
    ):
        make_policy(str(whole.out), load_scenario("t2drl-default"))


def test_a_better_constant_is_found(tmp_path: Path) -> None:
    """Among five unequal servers a rule without prices is far from the best of its family."""
    found = tune(
        TuneRequest("priced-greedy", load_scenario("stable", {"slots": 20}), 25, 4), tmp_path / "s", False, False, quiet
    )
    assert found.tuned < 0.98 * found.default


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"push_price": 99.0}, r"push_price.*40"),
        ({"push_price": float("nan")}, "push_price"),
        ({"push_price": "much"}, "push_price"),
        ({"pushes": 1.0}, "its constants must be crowding, patience"),
    ],
)
def test_damaged_constants_are_refused_in_a_sentence(
    whole: Any, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    manifest = json.loads((whole.policy / "policy.json").read_text())
    manifest["constants"] |= change
    (tmp_path / "policy.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=complaint) as caught:
        make_policy(str(tmp_path), load_scenario("demo"))
    assert len(str(caught.value).splitlines()) == 1


def families(trials: int = 18) -> TuneRequest:
    scenario = load_scenario("fleet-8:s4", {"frames": 1, "frame_s": 10})
    return TuneRequest("fleet-rule", scenario, trials, episodes=2, seed=1)


def test_names_are_searched_beside_numbers_and_families_are_tried_first(tmp_path: Path) -> None:
    found = tune(families(), tmp_path / "f", False, False, quiet)
    starts = [start.model_dump() for start in Families.starts()]
    assert [trial.constants for trial in found.trials[: len(starts)]] == starts
    assert {trial.constants["router"] for trial in found.trials[: len(starts)]} == set(ROUTERS)
    proposed = found.trials[len(starts)].constants
    assert proposed not in starts
    assert proposed["router"] in ROUTERS
    assert found.tuned <= found.default
    policy = make_policy(str(found.out), families().scenario)
    assert policy.name == "fleet-rule (tuned)"
    stopped = tune(families(16), tmp_path / "g", False, False, quiet)
    assert resume_tuning(stopped.out, 18, False, quiet).trials == found.trials
    manifest = json.loads(stored(found))
    manifest["constants"]["router"] = "guess"
    (tmp_path / "policy.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"router.*'least-work'.*'price-greedy'"):
        make_policy(str(tmp_path), families().scenario)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("least-delay", "'least-delay' has no constants to tune; rules with constants are priced-greedy"),
        ("price-greedy", r"Unknown rule 'price-greedy'.*Did you mean 'priced-greedy'\?"),
        (
            "history-knapsack",
            "Unknown rule 'history-knapsack'; rules with constants for scenario 'demo' are priced-greedy",
        ),
    ],
)
def test_rules_without_constants_are_refused(tmp_path: Path, rule: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        tune(TuneRequest(rule, load_scenario("demo")), tmp_path / "none", False, False, quiet)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("field", ["rule", "trials", "episodes", "seed", "scenario"])
def test_a_damaged_request_is_refused_in_a_sentence(tmp_path: Path, field: str) -> None:
    tune(request(1), tmp_path / "t", False, False, quiet)
    file = tmp_path / "t" / TUNE_FILE
    described = json.loads(file.read_text())
    del described[field]
    file.write_text(json.dumps(described))
    with pytest.raises(InputError, match=f"has a bad field '{field}'"):
        resume_tuning(tmp_path / "t", None, False, quiet)


def test_damaged_trials_are_not_thrown_away(tmp_path: Path) -> None:
    tune(request(2), tmp_path / "t", False, False, quiet)
    (tmp_path / "t" / "trials.json").write_text("[{")
    with pytest.raises(InputError, match=r"trials\.json' is damaged; remove it to begin anew"):
        resume_tuning(tmp_path / "t", 3, False, quiet)
    assert (tmp_path / "t" / "trials.json").read_text() == "[{"


def test_fewer_trials_than_there_are_can_not_be_asked_for(tmp_path: Path) -> None:
    tune(request(2), tmp_path / "t", False, False, quiet)
    with pytest.raises(InputError, match=r"budget is 1, but .* has 2 trials already"):
        resume_tuning(tmp_path / "t", 1, False, quiet)
    resume_tuning(tmp_path / "t", None, False, quiet)
    assert sorted(path.name for path in (tmp_path / "t").iterdir() if path.name != ".lock") == [
        "final.json",
        "policy",
        "scenario.yaml",
        "trials.json",
        "tune.json",
    ]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        tune(request(1), tmp_path, False, False, quiet)
    with pytest.raises(InputError, match=f"holds no tuning to continue: {TUNE_FILE}"):
        resume_tuning(tmp_path, None, False, quiet)
