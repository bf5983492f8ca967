# SPDX-License-Identifier: Apache-2.0
"""From ``edgegen train --register`` to ``models:/NAME@champion``, through the gate."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cli import app
from edgegen.platform.runs import registering


def edgegen(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a registry of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("EDGEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registering, "GATE_EPISODES", 4)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--force"], "--force means nothing without --register MODEL."),
        (["--bar", "local"], "--bar means nothing without --register MODEL."),
        (["--register", "mine", "--no-tracking"], "--register needs MLflow's registry; leave --no-tracking out."),
        (["--register", "a/b"], "--register is 'a/b', but must be a name without '/', ':' and '@'"),
        (["--register", ""], "--register is '', but must be a name"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_training(here: Path, words: list[str], sentence: str) -> None:
    result = edgegen("train", "ladts", "-s", "demo", *words)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert list(here.iterdir()) == []


@pytest.mark.e2e
def test_a_training_is_registered_through_the_gate(here: Path) -> None:
    short = ["train", "ladts", "-s", "demo", "--set", "slots=4", "--set", "copies=2", "-n", 2]
    first = edgegen(*short, "--out", "one", "--register", "mine", "--bar", "local", "--force")
    assert first.exit_code == 0, first.output
    assert "models:/mine@champion, version 1." in first.stderr
    second = edgegen(*short, "--seed", 1, "--out", "two", "--register", "mine")
    assert second.exit_code == 0, second.output
    assert "Not above the bar: " in second.stderr
    assert "priced-greedy (tuned)" in second.stderr
    client = mlflow.MlflowClient()
    assert int(client.get_model_version_by_alias("mine", "challenger").version) == 2
    tags = client.get_model_version("mine", "2").tags
    assert tags["edgegen.world"] == "demo"
    assert tags["edgegen.dataset"].startswith("offloading-")
    assert tags["edgegen.episodes"] == "2"
    names = {run.info.run_name for run in client.search_runs([client.get_experiment_by_name("edgegen").experiment_id])}
    assert {"priced-greedy, the bar of two"} <= names
    assert make_policy("models:/mine@champion", load_scenario("demo", {"slots": 4})).name == "priced-greedy (tuned)"
