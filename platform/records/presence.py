# SPDX-License-Identifier: Apache-2.0
"""Whether the driver of a run is alive: it says so again and again, and whoever starts next marks those that do not."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

HEARTBEAT, DRIVER, STALE = "edgegen.heartbeat", "edgegen.driver", "edgegen.stale"
"""Tags of a run: when its driver said last that it is alive, s since 1970; who that is; why the run is over if that
was killed."""
PARENT = "mlflow.parentRunId"
PERIOD_S = 60.0
STALE_AFTER_S = 900.0
_PAGE = 1000

logger = logging.getLogger(__name__)


def signs() -> dict[str, str]:
    """Tags of a run that this process drives."""
    return {HEARTBEAT: str(int(time.time())), DRIVER: _this_process()}


def is_stale(tags: Mapping[str, str], now_s: float) -> bool:
    """Whether the driver of a run that is said to be under way is dead.

    That is known at once of processes of this machine, elsewhere after :data:`STALE_AFTER_S` without a sign.
    """
    machine, _, process = tags.get(DRIVER, "").partition(":")
    if machine == _machine():
        return not _is_alive(process)
    try:
        return now_s - int(tags[HEARTBEAT]) > STALE_AFTER_S
    except (KeyError, ValueError):  # of a version that gave no signs
        return False


def mark_stale(client: Any, experiment_id: str) -> int:
    """End the runs, and those below them, whose drivers were killed, as ``KILLED``; returns how many drivers."""
    marked, token = 0, None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"attributes.status = 'RUNNING' and tags.`{HEARTBEAT}` != ''",
            max_results=_PAGE,
            page_token=token,
        )
        for run in page:
            if is_stale(run.data.tags, time.time()):
                _end(client, experiment_id, run)
                marked += 1
        token = page.token
        if not token:
            return marked


def _end(client: Any, experiment_id: str, run: Any) -> None:
    last = run.data.tags[HEARTBEAT]
    filter_string = f"attributes.status = 'RUNNING' and tags.`{PARENT}` = '{run.info.run_id}'"
    while below := client.search_runs([experiment_id], filter_string=filter_string, max_results=_PAGE):
        for child in below:
            client.set_terminated(child.info.run_id, "KILLED", int(last) * 1000)
    client.set_tag(run.info.run_id, STALE, "its driver was killed, and gave its last sign at edgegen.heartbeat")
    client.set_terminated(run.info.run_id, "KILLED", int(last) * 1000)


class Heartbeat:
    """Says of a run that its driver is alive, in a thread; first of all it marks runs whose drivers are not.

    Args:
        client: MLflow's client.
        experiment_id: Where runs are looked for.
        run_id: The run.
    """

    def __init__(self, client: Any, experiment_id: str, run_id: str) -> None:
        self._client, self._experiment_id, self._run_id = client, experiment_id, run_id
        self._ending = threading.Event()
        self._said = time.time()
        self._thread = threading.Thread(target=self._run, name="edgegen-heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ending.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        with contextlib.suppress(Exception):  # somebody will, at the next start
            mark_stale(self._client, self._experiment_id)
        while not self._ending.wait(PERIOD_S):
            try:
                self._beat()
            except Exception as error:  # whatever a client, a driver or the network can raise
                logger.debug("no heartbeat: %s", error)

    def _beat(self) -> None:
        now = time.time()
        for name, value in signs().items():
            self._client.set_tag(self._run_id, name, value)
        if now - self._said > STALE_AFTER_S / 2 and not self._ending.is_set():  # somebody may have thought us dead
            revive(self._client, self._run_id)
        self._said = now


def revive(client: Any, run_id: str) -> None:
    """Say of a run that it is under way again."""
    client.update_run(run_id, status="RUNNING")
    if STALE in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, STALE)


@cache
def _machine() -> str:
    """What tells machines apart, and containers on one: names may be the same, and so may numbers of processes."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # where there is none, the name has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8])
        parts.append(Path("/proc/self/ns/pid").readlink().name.strip("pid:[]"))
    return "-".join(parts)


def _this_process() -> str:
    return f"{_machine()}:{os.getpid()}-{int(psutil.Process().create_time())}"


def _is_alive(process: str) -> bool:
    number, _, begun = process.partition("-")
    try:
        found = psutil.Process(int(number))
        return int(found.create_time()) == int(begun) and found.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False
