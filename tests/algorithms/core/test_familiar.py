# SPDX-License-Identifier: Apache-2.0
"""Whether a policy is told apart that meets what it has never met."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.familiar import MET, met_in, unfamiliar
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cli import app
from edgegen.platform.runs.rule_search import TuneRequest
from edgegen.platform.runs.tuning import tune

FAMILY = {"scenario": load_scenario("family").model_dump()}


@pytest.mark.parametrize(
    ("name", "fields", "notes"),
    [
        ("family", {}, []),
        ("family", {"server_sets.servers": 30}, ["has met servers 10; here it meets servers 30"]),
        ("family", {"tasks_per_slot.high": 60}, ["tasks per server and slot 1 to 15; here it meets tasks"]),
        ("family", {"steps.high": 600}, ["Gcycle per task 0.1 to 4.2; here it meets Gcycle per task 0.1 to 180"]),
        (
            "family",
            {"server_sets.capacity_gcycles_s": {"low": 1, "high": 16}},
            ["fastest over slowest server 1 to 8; here"],
        ),
        (
            "family",
            {"server_sets.servers": 30, "server_sets.load": {"low": 0.4, "high": 0.9}},
            ["has met servers 10, load 0.6 to 0.9; here it meets servers 30, load 0.4 to 0.9"],
        ),
    ],
)
def test_what_lies_beyond_is_named(name: str, fields: dict[str, Any], notes: list[str]) -> None:
    found = unfamiliar(FAMILY, {}, load_scenario(name, fields))
    assert len(found) == len(notes)
    assert all(note in sentence for note, sentence in zip(notes, found, strict=True))


def test_what_a_training_met_besides_its_scenario_is_no_news() -> None:
    scenario = load_scenario("family", {"server_sets.servers": 20})
    assert unfamiliar(FAMILY, {"servers": (5.0, 20.0)}, scenario) == ()


def test_what_was_met_is_stored_and_counts_before_what_the_scenario_says() -> None:
    met = met_in(load_scenario("family"), {"servers": (5.0, 20.0)})
    assert met["servers"] == (5.0, 20.0)
    assert met["load"] == (0.6, 0.9)
    stored = json.loads(json.dumps({**FAMILY, MET: met}))
    assert unfamiliar(stored, {}, load_scenario("family:b20")) == ()
    assert len(unfamiliar(stored, {}, load_scenario("family", {"server_sets.servers": 21}))) == 0  # within a twentieth
    assert len(unfamiliar(stored, {}, load_scenario("family", {"server_sets.servers": 22}))) == 1


def test_a_world_of_several_demands_is_all_of_them() -> None:
    met = met_in(load_scenario("family-wide"), {})
    assert met["tasks per server and slot"] == (0.0, 20.0)
    assert met["Gcycle per task"] == pytest.approx((0.1, 27.0))


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
        assert "has met servers 5, " in done.stderr
        assert "; here it meets servers 20, " in done.stderr
        assert "tasks per server and slot" in done.stderr
    manifest = json.loads((tmp_path / "t" / "policy" / "policy.json").read_text())
    assert manifest["training"]["trials"] == 1
    assert manifest[MET]["servers"] == [5, 5]
