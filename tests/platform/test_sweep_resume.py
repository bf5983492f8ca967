# SPDX-License-Identifier: Apache-2.0
"""A driver that is killed, once and three times: nothing is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgegen.platform.engine.doing import read_json
from edgegen.platform.sweeps.relay import TrialView
from edgegen.platform.sweeps.training import newest_checkpoint

WARM = """
import os, sys
import mlflow, optuna
import edgegen.platform.sweeps.run
from edgegen.platform.cli import app
for line in sys.stdin:
    driver = os.fork()
    if driver == 0:
        log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        app(line.rstrip("\\n").split("\\t"))
    print(driver, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]), flush=True)
"""
EPISODES, EVERY, SEEDS = 16, 4, [0, 1]
SWEEP: dict[str, Any] = {
    "name": "killed",
    "algorithm": "ladts",
    "scenario": "demo",
    "overrides": {"slots": 4, "tasks_per_slot.high": 2},
    "settings": {"copies": 4, "replay_warmup": 8, "batch_size": 8},
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}, "hidden": {"choice": [8, 16]}},
    "searcher": {"kind": "tpe", "startup_trials": 2},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 1, "episodes": EPISODES, "report_every": EVERY},
    "seeds": SEEDS,
    "validation": {"episodes": 4},
    "retrain": {"seeds": [7], "control": False},
    "evaluation": {"episodes": 2},
    "resources": {"concurrent": 1},
}


def reports(folder: Path) -> dict[Path, int]:
    """Reports in the newest complete checkpoint of every trial of both stages."""
    found = {}
    for trial in (*folder.glob("search/*"), *folder.glob("units/*/run")):
        checkpoint = newest_checkpoint(trial) if trial.is_dir() else None
        if checkpoint is not None:
            found[trial] = len(read_json(checkpoint / "trial.json")["history"])
    return found


def final_view(folder: Path) -> TrialView:
    """A final training, of its folder."""
    checkpoint = newest_checkpoint(folder / "run")
    assert checkpoint is not None
    status = "finished" if (folder / "done.json").exists() else "running"
    state = read_json(checkpoint / "trial.json")
    return TrialView(folder.name, 0, status, {"entry": 0}, tuple(state["history"]), (), checkpoint)


class Drivers:
    """Starts drivers one after the other as copies of a process that has all libraries loaded, which saves minutes."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", WARM, str(log)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.given, self.told = self.process.stdin, self.process.stdout

    def start(self, *arguments: str) -> int:
        """Run a command line of edgegen in a process of its own; returns its id."""
        self.given.write("\t".join(arguments) + "\n")
        self.given.flush()
        return int(self.told.readline())

    def end(self) -> int:
        """Wait for its end; returns its exit status, or minus the signal that killed it."""
        return int(self.told.readline())

    def close(self) -> None:
        self.given.close()
        self.process.wait(30)


def kill_after(drivers: Drivers, folder: Path, command: list[str], enough: int) -> dict[Path, int]:
    """Run the sweep until there are so many reports on disk, and a new one; then kill it. Returns what was on disk."""
    enough = max(enough, sum(reports(folder).values()) + 1)
    deadline = time.monotonic() + 240
    driver = drivers.start(*command)
    while sum(reports(folder).values()) < enough and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(driver, signal.SIGKILL)
    assert drivers.end() == -signal.SIGKILL, drivers.log.read_text()
    assert time.monotonic() < deadline, drivers.log.read_text()
    return reports(folder)


@pytest.fixture
def drivers(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = Drivers(tmp_path / "log.txt", {**os.environ, "MLFLOW_TRACKING_URI": uri})
    yield made
    made.close()


@pytest.mark.e2e
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_a_sweep_that_is_killed_loses_nothing_and_repeats_nothing(tmp_path, drivers, kills):
    """There are as many trials as kills, and one is killed in the middle of each."""
    from mlflow.tracking import MlflowClient

    file, folder = tmp_path / "killed.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**SWEEP, "budget": {**SWEEP["budget"], "trials": kills}}))
    command = ["sweep", str(file), "--resume", "--out", str(folder)]
    per_trial = EPISODES // EVERY
    killed = [kill_after(drivers, folder, command, per_trial * trial + 2) for trial in range(kills)]
    drivers.start(*command)
    assert drivers.end() == 0, drivers.log.read_text()

    stages = {
        "search": [TrialView.of(data) for data in read_json(folder / "search.json")],
        "final": [final_view(path.parent) for path in folder.glob("units/*/run")],
    }
    assert [len(trials) for trials in stages.values()] == [kills, 1]
    assert [trial.number for trial in stages["search"]] == list(range(kills))
    for trial in (*stages["search"], *stages["final"]):
        assert trial.status == "finished"
        assert [report["episodes"] for report in trial.history] == list(range(EVERY, EPISODES + 1, EVERY))

    # Whatever had a checkpoint when the driver was killed went on from one.
    continued = 0
    for before in killed:
        for path, count in before.items():
            (trial,) = (trial for trial in stages["search"] if trial.identity == path.name)
            if count < per_trial:
                resumed_at = trial.history[count]["process"]["resumed_at_episodes"]
                assert resumed_at >= EVERY * max(1, count - 1), (path.name, count, trial.history)
                continued += 1
    assert continued == kills

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("edgegen").experiment_id], max_results=1000)
    tags = [run.data.tags for run in runs]
    assert sum(tag.get("edgegen.role") == "sweep" for tag in tags) == 1
    children = Counter(
        (tag["edgegen.stage"], tag["edgegen.trial"], tag["edgegen.seed"]) for tag in tags if "edgegen.trial" in tag
    )
    wanted = {("search", trial.identity, str(seed)) for trial in stages["search"] for seed in SEEDS}
    wanted |= {("final", trial.identity, "7") for trial in stages["final"]}
    wanted |= {("tuned", "priced-greedy (tuned)", "7")}  # the bar
    assert children == dict.fromkeys(wanted, 1)
    histories = {trial.identity: trial.history for trials in stages.values() for trial in trials}
    for run in runs:
        assert run.info.status == "FINISHED"
        if run.data.tags.get("edgegen.stage") in stages:
            logged = client.get_metric_history(run.info.run_id, "validation/mean_delay_s")
            seed = run.data.tags["edgegen.seed"]
            assert [(metric.step, metric.value) for metric in logged] == [
                (report["episodes"], report["seeds"][seed]["validation"])
                for report in histories[run.data.tags["edgegen.trial"]]
            ]
    versions = client.search_model_versions("name='edgegen-killed'")
    number = client.get_model_version_by_alias("edgegen-killed", "champion").version
    (champion,) = (version for version in versions if version.version == number)
    assert champion.tags["edgegen.settings_of"] in ("trial 0", "trial 1", "trial 2", "priced-greedy (tuned)")
    assert len(versions) == (2 if "tuned" in champion.tags["edgegen.settings_of"] else 1)
