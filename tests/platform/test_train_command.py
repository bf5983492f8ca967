# SPDX-License-Identifier: Apache-2.0
"""The command that trains, and what can be done with its run: by the words that it suggests itself."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.platform.command_lines import EDGEGEN, TINY, refused, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny training run made by the real command, with its output."""
    folder = tmp_path_factory.mktemp("train")
    arguments = ["train", "--episodes", "8", "--out", "run", "--json", "result.json", "--set", "copies=2", *TINY]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [*EDGEGEN, *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.e2e
def test_train_says_where_the_run_is_and_how_to_go_on(trained):
    folder, done = trained
    assert done.stdout.strip() == "run"
    assert "episode 8 of 8" in done.stderr
    assert "edgegen compare run" in done.stderr
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert len(result["episodes"]["delay_mean_s"]) == 8
    assert not result["interrupted"]


@pytest.mark.e2e
def test_the_suggested_comparison_runs(trained, monkeypatch):
    folder, done = trained
    line = next(line for line in done.stderr.splitlines() if line.startswith("Compare:"))
    monkeypatch.chdir(folder)
    result = run(*line.split()[2:], "--episodes", 2)
    assert result.exit_code == 0, result.output
    assert "run " in result.stdout
    assert "do not cover a second training run" in " ".join(result.stdout.split())
    by_role = run(
        "compare", "router=run", "run", "--scenario", "run/scenario.yaml", "--episodes", 2, "--json", "c.json"
    )
    assert by_role.exit_code == 0, by_role.output
    policies = json.loads((folder / "c.json").read_text())["policies"]
    delays = [policies[label]["per_episode"]["mean_delay_s"] for label in ("router=run", "run")]
    assert delays[0] == delays[1]
    assert "do not cover a second training run" in " ".join(by_role.stdout.split())


@pytest.mark.e2e
def test_a_trained_policy_is_evaluated_sampled_and_greedy(trained, tmp_path):
    folder, _ = trained
    scenario = ["--scenario", folder / "run" / "scenario.yaml"]
    result = run("evaluate", folder / "run", *scenario, "--episodes", 2, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    actions = json.loads((tmp_path / "e.json").read_text())["actions"]
    assert list(actions) == ["sampled", "greedy"]
    assert (actions["sampled"]["explore"], actions["greedy"]["explore"]) == (True, False)


@pytest.mark.e2e
def test_labels_tell_trained_policies_apart(trained):
    folder, _ = trained
    scenario = ["--scenario", folder / "run" / "scenario.yaml", "--episodes", 2]
    assert "called 'run'" in refused("compare", folder / "run", folder / "run", *scenario)
    result = run("compare", folder / "run", folder / "run", "--label", "one", "--label", "two", *scenario)
    assert result.exit_code == 0, result.output
    assert "one" in result.stdout
    assert "two" in result.stdout


@pytest.mark.e2e
def test_a_policy_for_other_servers_is_refused(trained):
    folder, _ = trained
    assert "servers" in refused("compare", folder / "run", "--scenario", "ladts-paper")


@pytest.mark.e2e
def test_ctrl_c_saves_the_training_and_it_resumes(tmp_path):
    arguments = ["train", "--episodes", "100000", "--out", "run", "--no-tracking", "--set", "copies=2", *TINY]
    arguments += ["--checkpoint-every", "4"]
    process = subprocess.Popen(
        [*EDGEGEN, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "edgegen train --resume run" in stderr
    saved = json.loads((tmp_path / "run" / "episodes.json").read_text())["delay_mean_s"]
    total = len(saved) + 4
    again = [*EDGEGEN, "train", "--resume", "run", "--episodes", str(total), "--no-tracking", "--json", "r.json"]
    subprocess.run(again, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    delays = json.loads((tmp_path / "r.json").read_text())["episodes"]["delay_mean_s"]
    assert len(delays) == total
    assert delays[: len(saved)] == saved
