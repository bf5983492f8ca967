# SPDX-License-Identifier: Apache-2.0
"""``edgegen scenarios``: which worlds there are, and what a file of one's own is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cli import app
from edgegen.platform.runs.comparison import compare


def test_files_are_described_as_shipped_worlds_are(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(load_scenario("demo").model_copy(update={"description": "My own world."}).model_dump_json())
    result = CliRunner().invoke(app, ["scenarios", str(own), "fleet-8:burst", "--json", str(tmp_path / "s.json")])
    assert result.exit_code == 0, result.output
    assert "hot-spots" not in result.output
    data = json.loads((tmp_path / "s.json").read_text())
    assert list(data) == [str(own), "fleet-8:burst"]
    assert data[str(own)]["servers"] == 5
    assert data[str(own)]["description"] == "My own world."


def test_unknown_world_names_the_worlds_and_not_all_their_variants() -> None:
    result = CliRunner().invoke(app, ["scenarios", "fleet-9:burst"])
    assert result.exit_code == 2
    assert "shipped ones are bursty, demo," in result.output.replace("\n", " ")
    assert "bursty:b5" not in result.output


@pytest.mark.parametrize(
    ("world", "load", "warns"), [("fleet-8", "load 0.80", False), ("fleet-8:overload", "load 1.20", True)]
)
def test_comparison_says_the_load_and_warns_above_one(world: str, load: str, warns: bool) -> None:
    scenario = load_scenario(world, {"frames": 1})
    table = compare(scenario, {"earliest": make_policy("earliest", scenario, 0)}, 2, 0).table()
    assert load in str(table.title)
    assert ("More work arrives than can be done" in str(table.caption)) is warns
