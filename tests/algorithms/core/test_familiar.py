"""Whether a policy is told apart that meets what it has never met."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.familiar import unfamiliar
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cli import app
from edgegen.platform.runs.rule_search import TuneRequest
from edgegen.platform.runs.tuning import tune

FAMILY = {"scenario": load_scenario("family").model_dump()}


@pytest.mark.parametrize(
    ("name", "fields", "notes"),
    [
        ("family", {}, []),
        ("family", {"server_sets.servers": 30}, ["numbers of servers of 10, and meets 30 here"]),
        ("family", {"tasks_per_slot.high": 60}, ["tasks per server and slot of"]),
        ("family", {"steps.high": 600}, ["work of a task in Gcycle of"]),
    ],
)
def test_what_lies_beyond_is_named(name: str, fields: dict[str, Any], notes: list[str]) -> None:
    found = unfamiliar(FAMILY, {}, load_scenario(name, fields))
    assert len(found) == len(notes)
    assert all(note in sentence for note, sentence in zip(notes, found, strict=True))


def test_what_a_training_met_besides_its_scenario_is_no_news() -> None:
    scenario = load_scenario("family", {"server_sets.servers": 20})
    assert unfamiliar(FAMILY, {"numbers of servers": (5.0, 20.0)}, scenario) == ()


def test_other_kinds_and_damaged_scenarios_are_others_business() -> None:
    assert unfamiliar(FAMILY, {}, load_scenario("t2drl-default")) == ()
    assert unfamiliar({}, {}, load_scenario("demo")) == ()
    assert unfamiliar({"scenario": {"kind": "offloading"}}, {}, load_scenario("demo")) == ()


def test_it_is_said_by_evaluate_and_compare(tmp_path: Path) -> None:
    request = TuneRequest("priced-greedy", load_scenario("demo", {"slots": 4}), trials=1, episodes=1)
    folder = str(tune(request, tmp_path / "t", False, False, lambda trials, wanted: None).out)
    assert make_policy(folder, load_scenario("demo")).notes == ()
    for command in ("evaluate", "compare"):
        done = CliRunner().invoke(app, [command, folder, "-s", "ladts-paper", "--set", "slots=3", "-n", "2"])
        assert done.exit_code == 0, done.output
        assert "has met numbers of servers of 5, and meets 20 here." in done.stderr
        assert "tasks per server and slot" in done.stderr
    manifest = json.loads((tmp_path / "t" / "policy" / "policy.json").read_text())
    assert manifest["training"]["trials"] == 1
