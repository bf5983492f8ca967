# SPDX-License-Identifier: Apache-2.0
"""A tracking server that goes away in the middle: nothing is lost, nothing waits, and whoever was killed is marked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.records import presence, tracking
from edgegen.platform.records.presence import DRIVER, HEARTBEAT, STALE, is_stale, mark_stale, signs
from edgegen.platform.records.tracking import Store, Tracker
from edgegen.platform.runs.training import TrainRequest, train
from tests.platform.command_lines import refused, run
from tests.platform.records.servers import tracking_server

KILLED = """
import os, pathlib, signal, sys
from edgegen.platform.records.tracking import Store, Tracker
folder = pathlib.Path(sys.argv[1])
store = Store(folder)
tracker = Tracker("killed", {}, {}, None, store)
store.create_run("child", {"mlflow.parentRunId": tracker.run_id}, {})
tracker.log_metrics([(step, {"m": 1.0 * step}) for step in range(5)])
print(tracker.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def store_at(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return Store


@pytest.mark.e2e
def test_a_server_that_is_away_in_the_middle_of_a_training_costs_no_metric(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    with tracking_server(f"sqlite:///{tmp_path / 'server' / 'mlflow.db'}", tmp_path / "server", workers=1) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        told = []

        def on_episode(report):
            told.append(report.episode)
            if report.episode == 4:
                server.kill()
            elif report.episode == 10:
                server.start()

        world = load_scenario("demo", {"slots": 4, "tasks_per_slot.high": 2})
        settings = {"copies": 2, "replay_warmup": 8, "batch_size": 8}
        out = tmp_path / "runs" / "r"
        request = TrainRequest(scenario=world, out=out, overrides=settings, episodes=20)
        result = train(request, on_episode)
        assert told == list(range(2, 21, 2))
        assert not (out / ".tracking").exists()
        client = MlflowClient(server.uri)
        found = client.get_run(result.mlflow_run_id)
        assert found.info.status == "FINISHED"
        history = client.get_metric_history(result.mlflow_run_id, "episode/delay_mean_s")
        assert [(metric.step, metric.value) for metric in history] == [
            (number + 1, value) for number, value in enumerate(result.episodes["delay_mean_s"])
        ]
        updates = client.get_metric_history(result.mlflow_run_id, "slot/updates")
        assert [metric.step for metric in updates] == [8 * number for number in range(1, 11)]  # 2 copies, 4 slots
        stored = {file.path for file in client.list_artifacts(result.mlflow_run_id)}
        assert {"checkpoint", "run.json", "episodes.json", "scenario.yaml"} <= stored


@pytest.mark.e2e
def test_what_a_killed_driver_left_is_marked_and_sent_at_the_next_start(tmp_path, store_at):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    run_id = killed.stdout.strip()
    store = store_at(tmp_path / "other")
    assert store.client.get_run(run_id).info.status == "RUNNING"
    other = Tracker("other", {}, {}, None, store)
    deadline = time.monotonic() + 60
    while (found := store.client.get_run(run_id)).info.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    other.finish("FINISHED")
    assert found.info.status == "KILLED"
    assert "killed" in found.data.tags[STALE]
    (child,) = store.client.search_runs([store.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert child.info.status == "KILLED"
    again = Tracker("killed", {}, {}, run_id, store_at(tmp_path))
    assert again._store.client.get_run(run_id).info.status == "RUNNING"
    again.log_metrics([(step, {"m": 1.0 * step, "new": 0.0}) for step in range(3, 7)])  # from its checkpoint
    again.finish("FINISHED")
    found = store.client.get_run(run_id)
    assert (found.info.status, STALE in found.data.tags) == ("FINISHED", False)
    history = store.client.get_metric_history(run_id, "m")
    assert [(metric.step, metric.value) for metric in history] == [(step, float(step)) for step in range(7)]
    assert [metric.step for metric in store.client.get_metric_history(run_id, "new")] == [3, 4, 5, 6]


def test_drivers_are_told_apart_from_the_dead():
    own = signs()
    now = float(own[HEARTBEAT])
    assert not is_stale(own, now + 10 * presence.STALE_AFTER_S)  # this very process
    machine, _, process = own[DRIVER].partition(":")
    earlier = f"{process.partition('-')[0]}-1"  # the number is taken again, by a process that began later
    assert is_stale({**own, DRIVER: f"{machine}:{earlier}"}, now)
    elsewhere = {**own, DRIVER: f"elsewhere:{process}"}
    assert not is_stale(elsewhere, now + presence.STALE_AFTER_S)
    assert is_stale(elsewhere, now + presence.STALE_AFTER_S + 1)
    assert not is_stale({}, now)


def test_runs_without_a_sign_or_over_are_left_alone(tmp_path, store_at):
    store = store_at(tmp_path)
    silent = store.create_run("old", {}, {})
    over = store.create_run("over", {HEARTBEAT: "1", DRIVER: "elsewhere:1-1"}, {})
    store.client.set_terminated(over, "FINISHED")
    dead = store.create_run("dead", {HEARTBEAT: "1000", DRIVER: f"elsewhere:{os.getpid()}-1"}, {})
    assert mark_stale(store.client, store.experiment_id) == 1
    runs = [store.client.get_run(run_id) for run_id in (silent, over, dead)]
    assert [run.info.status for run in runs] == ["RUNNING", "FINISHED", "KILLED"]
    assert runs[2].info.end_time == 1_000_000
    assert mark_stale(store.client, store.experiment_id) == 0


def test_a_server_that_is_away_at_the_end_is_said_and_a_command_sends_what_is_missing(
    tmp_path, store_at, monkeypatch, caplog
):
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    folder = tmp_path / "runs" / "r"
    tracker = Tracker("r", {}, {}, None, store := store_at(folder))
    with monkeypatch.context() as away:
        for request in ("log_batch", "log_artifact", "set_terminated", "get_experiment"):
            away.setattr(store.client, request, lambda *args, **kwargs: 1 / 0)
        tracker.log_metrics([(1, {"m": 2.0})])
        file = tmp_path / "file.txt"
        file.write_text("then")
        tracker.log_file(file, "files")
        file.write_text("now")
        tracker.finish("FINISHED")
    assert f"3 records wait in '{folder / '.tracking'}'" in caplog.text
    assert f"edgegen track flush {folder}" in caplog.text
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
        assert "name the former once more" in run("track", "flush", tmp_path / "runs").stderr
    monkeypatch.setattr(tracking, "PATIENCE_S", 30.0)
    flushed = run("track", "flush", tmp_path / "runs")
    assert flushed.exit_code == 0, flushed.output
    assert f"{folder}: 3 records sent" in flushed.stderr
    assert "Nothing waits" in run("track", "flush", tmp_path / "runs").stderr
    assert store.client.get_run(tracker.run_id).info.status == "FINISHED"
    assert [metric.value for metric in store.client.get_metric_history(tracker.run_id, "m")] == [2.0]
    stored = store.client.download_artifacts(tracker.run_id, "files/file.txt", str(tmp_path))
    assert Path(stored).read_text() == "then"


def test_what_can_not_be_flushed_is_said_in_a_sentence(tmp_path, store_at, monkeypatch):
    assert "There is no folder" in refused("track", "flush", tmp_path / "none")
    store = store_at(tmp_path / "r")
    store.end_run(store.create_run("at work", {}, {}), "FINISHED")
    sentence = run("track", "flush", tmp_path)
    assert sentence.exit_code == 2
    assert "Another process is working on the record in" in sentence.stderr
    store.flush()
    store.close()
    assert not (tmp_path / "r" / ".tracking").exists()
