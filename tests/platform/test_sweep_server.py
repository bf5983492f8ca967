# SPDX-License-Identifier: Apache-2.0
"""A real tracking server, PostgreSQL behind it where there is one, and writers at the same time: four, or 20."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.platform.records.servers import postgres, postgres_missing, tracking_server

pytestmark = pytest.mark.e2e

STEPS, PARAMETERS = 20, 120
WRITER = f"""
import pathlib, sys, threading, time
from edgegen.platform.records import tracking
from edgegen.platform.records.tracking import Store, Tracker
tracking.PATIENCE_S = 200.0
number, folder, count = int(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
pause_s = float(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
failures = []
def write(thread):
    try:
        name = f"writer-{{number}}-{{thread}}"
        own = folder / name
        own.mkdir()
        own.joinpath("weights.bin").write_bytes(name.encode() * 1000)
        parameters = {{f"p{{k}}": f"{{name}} {{k}}" for k in range({PARAMETERS})}}
        tracker = Tracker(name, parameters, {{"writer": name}}, None, Store(own))
        for step in range({STEPS}):
            tracker.log_metrics([(step, {{f"m{{k}}": step * k + thread for k in range(5)}})])
            time.sleep(pause_s)
        tracker.log_file(own / "weights.bin", "files")
        tracker.log_folder(own, "checkpoint")
        tracker.finish("FINISHED")
        assert not (own / ".tracking").exists()
    except BaseException as error:
        failures.append(repr(error))
threads = [threading.Thread(target=write, args=(k,)) for k in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(failures) or 0)
"""


@pytest.fixture
def server(tmp_path):
    """URI of a new tracking server, and what is behind it."""
    folder = tmp_path / "server"
    folder.mkdir()
    if not postgres_missing():
        with postgres() as backend, tracking_server(backend.uri, folder) as server:
            yield server.uri, "PostgreSQL"
    else:
        with tracking_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as server:
            yield server.uri, "sqlite"


def write_at_once(uri, folder, processes, threads, pause_s=0.0, meanwhile=lambda: None):
    """Let all writers begin at the same moment, pausing between steps, and do something while they write."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(number), str(folder), str(threads), str(pause_s)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    meanwhile()
    for writer in writers:
        _, errors = writer.communicate(timeout=400)
        assert writer.returncode == 0, errors


@pytest.mark.parametrize(("processes", "threads"), [(2, 2), pytest.param(4, 5, marks=pytest.mark.soak)])
def test_writers_at_once_lose_nothing(server, tmp_path, record_property, capsys, processes, threads):
    from mlflow.tracking import MlflowClient

    uri, behind = server
    record_property("backend", behind)
    with capsys.disabled():
        print(f" [tracking server with {behind}]", end="")  # noqa: T201 - people ask which one ran
    write_at_once(uri, tmp_path, processes, threads)
    check_all(MlflowClient(uri), tmp_path, processes, threads)


def check_all(client, tmp_path, processes, threads):
    """Look whether everything was recorded, once."""
    (experiment,) = client.search_experiments(filter_string="name = 'edgegen'")  # created once by all who wanted to
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    assert sorted(run.data.tags["writer"] for run in runs) == sorted(
        f"writer-{process}-{thread}" for process in range(processes) for thread in range(threads)
    )
    for run in runs:
        name = run.data.tags["writer"]
        assert run.info.status == "FINISHED"
        assert run.data.params == {f"p{k}": f"{name} {k}" for k in range(PARAMETERS)}
        assert {f"m{k}": run.data.metrics[f"m{k}"] for k in range(5)} == {
            f"m{k}": (STEPS - 1) * k + int(name[-1]) for k in range(5)
        }
    for run in runs[:: 1 + len(runs) // 3]:
        name = run.data.tags["writer"]
        history = client.get_metric_history(run.info.run_id, "m3")
        assert [(metric.step, metric.value) for metric in history] == [
            (step, step * 3 + int(name[-1])) for step in range(STEPS)
        ]
        for part in ("files", "checkpoint"):
            path = client.download_artifacts(run.info.run_id, f"{part}/weights.bin", str(tmp_path))
            assert Path(path).read_bytes() == name.encode() * 1000


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(postgres_missing()), reason=postgres_missing())
def test_a_database_that_is_killed_for_two_minutes_under_20_writers_costs_nothing(tmp_path):
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "server"
    folder.mkdir()
    with postgres() as database, tracking_server(database.uri, folder) as server:

        def outage():
            client = MlflowClient(server.uri)
            wait_until(lambda: count_steps(client) >= 20)
            database.kill()
            time.sleep(120)
            database.start()

        # A writer takes 3 s a step: the outage begins when some have begun, and outlasts the last of them.
        write_at_once(server.uri, tmp_path, 4, 5, 3.0, outage)
        check_all(MlflowClient(server.uri), tmp_path, 4, 5)


def count_steps(client):
    """Runs that have metrics."""
    experiments = client.search_experiments(filter_string="name = 'edgegen'")
    runs = client.search_runs([one.experiment_id for one in experiments], max_results=100) if experiments else []
    return sum("m0" in run.data.metrics for run in runs)


def wait_until(true, timeout_s=120):
    """Wait until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.5)
