"""A real tracking server, PostgreSQL behind it where there is one, and writers at the same time: four, or 20."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgegen.platform.ports import free_ports

pytestmark = pytest.mark.e2e

STEPS, PARAMETERS = 20, 120
WRITER = f"""
import pathlib, sys, threading
from edgegen.platform.records.tracking import Tracker
number, folder, count = int(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
failures = []
def write(thread):
    try:
        name = f"writer-{{number}}-{{thread}}"
        own = folder / name
        own.mkdir()
        (own / "weights.bin").write_bytes(name.encode() * 1000)
        tracker = Tracker(name, {{f"p{{k}}": f"{{name}} {{k}}" for k in range({PARAMETERS})}}, {{"writer": name}})
        for step in range({STEPS}):
            tracker.log_metrics([(step, {{f"m{{k}}": step * k + thread for k in range(5)}})])
        tracker.log_file(own / "weights.bin", "files")
        tracker.log_folder(own, "checkpoint")
        tracker.finish("FINISHED")
        assert not tracker._store.failed
    except BaseException as error:
        failures.append(repr(error))
threads = [threading.Thread(target=write, args=(k,)) for k in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(failures) or 0)
"""


def postgres_programs():
    """Folder of PostgreSQL's programs; Debian keeps them out of the way."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def postgres():
    """Run a PostgreSQL server of its own; yields its URI."""
    programs = postgres_programs()
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
    folder = Path(tempfile.mkdtemp(prefix="edgegen-postgres-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data, (port,) = folder / "data", free_ports(1)
        options: dict[str, Any] = {
            "user": user,
            "cwd": folder,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        init = [programs / "initdb", "-D", data, "-U", "edgegen", "-A", "trust", "--no-sync"]
        subprocess.run(init, check=True, timeout=60, **options)
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"], **options
        )
        try:
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), server)
            yield f"postgresql+psycopg2://edgegen@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(attempt, process, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except OSError:
            assert process.poll() is None, process.args
            assert time.monotonic() < deadline
            time.sleep(0.2)


@contextmanager
def tracking_server(backend, folder):
    """Run an MLflow server that keeps artifacts in a folder of its own; yields its URI."""
    (port,) = free_ports(1)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "server.txt").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", "2"),
                *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{uri}/health", timeout=5).read(), server)
        yield uri
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def server(tmp_path):
    """URI of a new tracking server, and what is behind it."""
    folder = tmp_path / "server"
    folder.mkdir()
    try:
        import psycopg2  # noqa: F401

        driver = True
    except ImportError:
        driver = False
    if driver and postgres_programs() is not None:
        with postgres() as backend, tracking_server(backend, folder) as uri:
            yield uri, "PostgreSQL"
    else:
        with tracking_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as uri:
            yield uri, "sqlite"


def write_at_once(uri, folder, processes, threads):
    """Let all writers begin at the same moment."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(number), str(folder), str(threads)],
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
    for writer in writers:
        _, errors = writer.communicate(timeout=240)
        assert writer.returncode == 0, errors


@pytest.mark.parametrize(("processes", "threads"), [(2, 2), pytest.param(4, 5, marks=pytest.mark.soak)])
def test_writers_at_once_lose_nothing(server, tmp_path, record_property, capsys, processes, threads):
    from mlflow.tracking import MlflowClient

    uri, behind = server
    record_property("backend", behind)
    with capsys.disabled():
        print(f" [tracking server with {behind}]", end="")  # noqa: T201 - people ask which one ran
    write_at_once(uri, tmp_path, processes, threads)
    client = MlflowClient(uri)
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
