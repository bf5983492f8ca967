# SPDX-License-Identifier: Apache-2.0
"""``edgegen tune`` as people type it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgegen.platform.cli import app

SHORT = ["--set", "slots=6", "--budget", "3", "-n", "2"]


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_tuned_rule_is_compared_like_a_trained_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("tune", "priced-greedy", "-s", "demo", *SHORT, "--no-tracking", "--json", "t.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "runs/tuned-priced-greedy-demo-seed0"
    assert "trial 3 of 3" in done.stderr
    assert "Kept:     crowding" in done.stderr
    assert "edgegen compare runs/tuned-priced-greedy-demo-seed0 --scenario" in done.stderr
    told = json.loads((tmp_path / "t.json").read_text())
    assert len(told["trials"]) == 3
    assert told["interrupted"] is False
    folder = "runs/tuned-priced-greedy-demo-seed0"
    compared = run("compare", folder, "least-delay", "-s", f"{folder}/scenario.yaml", "-n", 3, "--json", "c.json")
    assert compared.exit_code == 0, compared.output
    (tuned,) = (
        row for name, row in json.loads((tmp_path / "c.json").read_text())["policies"].items() if "tuned" in name
    )
    assert "own placements in the slot, mean work of own tasks" in tuned["information"]
    again = run("tune", "--resume", folder, "--budget", 4, "--no-tracking")
    assert again.exit_code == 0, again.output
    assert "trial 4 of 4" in again.stderr


def test_a_tuning_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    done = run("tune", "priced-greedy", "-s", "demo", *SHORT)
    assert done.exit_code == 0, done.output
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "edgegen")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["rule"] == "priced-greedy"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "value")] == [1, 2, 3]
    assert [file.path for file in client.list_artifacts(found.info.run_id, "policy")] == ["policy/policy.json"]
    more = run("tune", "--resume", "runs/tuned-priced-greedy-demo-seed0", "--budget", 5)
    assert more.exit_code == 0, more.output
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(found.info.run_id, "value")] == [1, 2, 3, 4, 5]
    (tuned,) = Path("runs").glob("*/policy/policy.json")
    requests = json.loads(tuned.read_text())["training"]["simulated_requests"]
    assert found.data.metrics["simulated_requests"] == requests


def test_a_tuning_that_can_not_be_recorded_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuchdriver://host/db")
    done = run("tune", "priced-greedy", "-s", "demo", *SHORT)
    assert done.exit_code == 2
    assert "can not be used" in done.output
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tune"], "Which rule is to be tuned?"),
        (["tune", "least-delay"], "has no constants to tune; rules with constants are priced-greedy."),
        (["tune", "priced-greedy", "-s", "dmeo"], "Did you mean 'demo'?"),
        (["tune", "priced-greedy", "--budget", "0"], "--budget"),
        (["tune", "priced-greedy", "--set", "slot=1"], "slots"),
        (["tune", "--resume", ".", "--seed", "3"], "--seed can not be combined with --resume"),
        (["tune", "--resume", "."], "holds no tuning to continue"),
    ],
)
def test_what_can_not_be_tuned_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output
