# SPDX-License-Identifier: Apache-2.0
"""Servers that tests of records start for themselves: PostgreSQL, and MLflow in front of a database."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from edgegen.platform.ports import free_ports


class Server:
    """A server that can be stopped, killed and started again at the same place.

    Attributes:
        uri: Where it is.
    """

    def __init__(self, uri, command, options, attempt) -> None:
        self.uri = uri
        self._command, self._options, self._attempt = command, options, attempt
        self._process: Any = None

    def start(self):
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, **self._options)
        wait_for(self._attempt, self._process)

    def stop(self):
        """Ask it to end, and wait until it has."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(30)

    def kill(self):
        """Kill it, and all that it has started."""
        parent = psutil.Process(self._process.pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(30)


def postgres_programs():
    """Folder of PostgreSQL's programs; Debian keeps them out of the way."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def postgres_missing():
    """Why there can be no PostgreSQL here; an empty text if there can."""
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "psycopg2 is not installed"
    return "" if postgres_programs() is not None else "PostgreSQL is not installed"


@contextmanager
def postgres():
    """Run a PostgreSQL server of its own; yields it."""
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
        command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"]
        uri = f"postgresql+psycopg2://edgegen@127.0.0.1:{port}/postgres"
        server = Server(uri, command, options, lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        server.start()
        try:
            yield server
        finally:
            server.stop()
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
def tracking_server(backend, folder, workers=2):
    """Run an MLflow server that keeps artifacts in a folder of its own; yields it."""
    (port,) = free_ports(1)
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    uri = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", str(workers)),
        *("--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
    ]
    with (folder / "server.txt").open("w") as log:
        options = {"env": environment, "stdout": log, "stderr": log, "cwd": folder}
        server = Server(uri, command, options, lambda: urllib.request.urlopen(f"{uri}/health", timeout=5).read())
        server.start()
        try:
            yield server
        finally:
            server.stop()
