# SPDX-License-Identifier: Apache-2.0
"""Runs commands of pages in one scratch folder, as bash would run them there."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO

from edgegen.platform.ports import free_ports
from tests.docs import doc_rules
from tests.docs.doc_pages import ROOT
from tests.docs.doc_worker import write_client

COPIED = ("k8s", "tune_configs", "Makefile", "constraints.txt", "pyproject.toml", "README.md", "LICENSE")
"""What commands of the pages name, copied so that they may write beside it."""
LINKED = ("serve", "envs", "algorithms", "platform", "src", "docs")
START_TIMEOUT_S = 400
COMMAND_TIMEOUT_S = 400

logger = logging.getLogger(__name__)


class Runner:
    """A scratch folder that looks like the repository, the worker behind `edgegen`, and services.

    A command that ran already, with the same words, is not run again: pages repeat each other.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.bin = folder / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.root / name)
        for name in LINKED:
            (self.root / name).symlink_to(ROOT / name)
        for name, text in doc_rules.GIVEN.items():
            (self.root / name).write_text(text)
        self._address = folder / "worker"
        for program, kind in (("edgegen", "edgegen"), ("run-python", "python")):
            write_client(self.bin / program, self._address, kind)
        self.ports = dict(zip((doc_rules.PORT, doc_rules.MLFLOW_PORT), free_ports(2), strict=True))
        libraries = {"RAY_USAGE_STATS_ENABLED": "0", "EDGEGEN_CACHE": str(folder / "cache")}
        libraries["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # dozens of processes that pages do not need
        inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        ports = {name: str(port) for name, port in self.ports.items()}
        policy = {doc_rules.POLICY: "least-delay"}
        here = Path(sys.executable).parent
        path = {"PATH": f"{self.bin}{os.pathsep}{here}{os.pathsep}{os.environ['PATH']}"}
        self.environment = {**inherited, **libraries, **ports, **policy, **path}
        self._log = (folder / "services.log").open("w+")
        self._worker: subprocess.Popen[str] | None = None
        self._service: subprocess.Popen[str] | None = None
        self._done: set[str] = set()

    def run(self, text: str) -> None:
        """Run a command of a page, whatever it is.

        Raises:
            AssertionError: If it fails.
        """
        words = doc_rules.substitute(text)
        if words in self._done:
            return
        started = time.perf_counter()
        if doc_rules.matches(words, doc_rules.SERVICES):
            self._answers(words)
        else:
            if doc_rules.matches(words, doc_rules.CLIENTS):
                self._need_service()
            self._bash(words)
        self._done.add(words)
        logger.info("%.1f s: %s", time.perf_counter() - started, words)

    def python(self, name: str, source: str) -> None:
        """Run a Python block.

        Raises:
            AssertionError: If it fails.
        """
        file = self.root / f"{name}.py"
        file.write_text(source)
        self._bash(f"run-python {file}")

    def close(self) -> None:
        """Stop everything that was started, by its own process id."""
        for process in (self._service, self._worker):
            if process is not None:
                _stop(process)
        self._log.close()

    def _bash(self, words: str) -> None:
        self._need_worker()
        with subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"`{words}` took more than {COMMAND_TIMEOUT_S} s") from None
        tail = "\n".join(output.splitlines()[-15:])
        assert process.returncode == 0, f"`{words}` ended with {process.returncode}:\n{tail}"

    def _need_worker(self) -> None:
        if self._worker is None:
            command = [sys.executable, "-m", "tests.docs.doc_worker", str(self._address)]
            self._worker = self._start(command, folder=ROOT, stdout=subprocess.PIPE)
            assert self._worker.stdout is not None
            assert self._worker.stdout.readline() == "ready\n", self._tail()

    def _need_service(self) -> None:
        """Start the service that clients ask: the demonstration's, with its own command in its own process."""
        if self._service is None:
            port = self.ports[doc_rules.PORT]
            command = [sys.executable, "-m", "edgegen.platform.cli", "serve", "--port", str(port)]
            self._service = self._start(command)
            self._wait(self._service, f"http://127.0.0.1:{port}/healthz")

    def _answers(self, words: str) -> None:
        process = self._start(["bash", "-c", f"exec {words}"])
        try:
            self._wait(process, f"http://127.0.0.1:{self.ports[doc_rules.MLFLOW_PORT]}/")
        finally:
            _stop(process)

    def _start(
        self, command: list[str], folder: Path | None = None, stdout: int | IO[str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=folder or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else self._log,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[str], url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}:\n{self._tail()}"
            try:
                with urllib.request.urlopen(url, timeout=10):
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"{url} did not answer within {START_TIMEOUT_S} s:\n{self._tail()}")

    def _tail(self) -> str:
        self._log.flush()
        return "\n".join(Path(self._log.name).read_text().splitlines()[-15:])


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask a process and its children to end, and make sure of it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
    if process.stdout is not None:
        process.stdout.close()
