# SPDX-License-Identifier: Apache-2.0
"""A machine of a Ray cluster as an operator starts it: ``ray start`` and everything below it, to run and to cut off."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from edgegen.algorithms.rllib.ray_session import ATTEMPTS
from edgegen.envs.core.errors import InputError

UP = "Ray runtime started"
"""What ``ray start`` says once the machine is part of the cluster."""
UP_TIMEOUT_S = 180.0
STORE_BYTES = 100 * 1024**2
"""Object store of a machine; Ray refuses much less."""
FEW_PROCESSES = ("--include-log-monitor", "false", "--disable-usage-stats")
FEW_PROCESSES_OF_HEAD = ("--include-dashboard", "false", "--no-monitor")
"""Leave out what nobody asks here and what takes seconds to start: log lines of others, pages, the autoscaler."""


def cluster_environment() -> dict[str, str]:
    """What the processes of one cluster share: this environment, and a token without which nobody gets in."""
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


class RayHost:
    """A machine of a Ray cluster, real or made believe; it can be started again after it was killed.

    Args:
        name: Its name, for the log and for people.
        arguments: What follows ``ray start``.
        environment: Environment of its processes.
        log: What ``ray start`` says goes here.
        inside: A command that runs another one somewhere else, such as ``ip netns exec NAME``.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        inside: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._command = [*inside, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments]
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the machine and wait until it is part of the cluster.

        Raises:
            InputError: If it does not become part of it.
        """
        for attempt in range(1, ATTEMPTS + 1):
            if self._attempt():
                return
            self.kill()
            if attempt == ATTEMPTS:
                raise InputError(f"The Ray node '{self.name}' did not start in {ATTEMPTS} attempts; see '{self._log}'.")

    def kill(self) -> list[str]:
        """End every process of the machine at once, as a loss of power would; returns their names."""
        process, self._process = self._process, None
        if process is None:
            return []
        try:
            root = psutil.Process(process.pid)
            victims = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            victims = []
        names = []
        for victim in victims:
            try:
                names.append(victim.name())
                victim.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
        psutil.wait_procs(victims[1:], timeout=10)
        return names[1:]

    def _attempt(self) -> bool:
        """Start it once; returns whether it came up."""
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C at the terminal is the caller's business, who then kills what there is.
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + UP_TIMEOUT_S
        while time.monotonic() < deadline:
            if UP.encode() in self._log.read_bytes()[begin:]:
                return True
            if self._process.poll() is not None:
                return False
            time.sleep(0.1)
        return False
