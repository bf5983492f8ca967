# SPDX-License-Identifier: Apache-2.0
"""The thread that asks a tracking store for what a spool holds, until the store has granted it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import first_line
from edgegen.envs.urls import shown
from edgegen.platform.records.spool import Request, Spool

RECORD = "edgegen.record"
"""Tag of a run that was made from a spool: what it is called there."""
NAMED = "@"
"""Begins what runs are called that are still to be made."""

METRICS_PER_REQUEST, PARAMETERS_PER_REQUEST = 1000, 100
_TOGETHER = 4000  # requests that are looked at together
_LINGER_S = 0.5  # for more to come, so that a run's metrics go in one request
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _HURRIED_PAUSE_S = 0.5, 30.0, 2.0
_CLEAR_REFUSALS = 3  # a store that is just coming back may refuse what it takes a moment later
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST", "ENDPOINT_NOT_FOUND")

logger = logging.getLogger(__name__)


def new_name() -> str:
    """What to call a run that is still to be made; nothing else is ever called so."""
    return f"{NAMED}{uuid.uuid4().hex}"


class Sender:
    """Sends what is in a spool, in a thread of its own.

    Requests about one run are made in order. A run whose request fails waits and keeps none of the others from being
    recorded. What fails because the store is away is tried again, with longer and longer pauses, without end; what the
    store refuses while it answers otherwise is put aside.

    Args:
        client: MLflow's client.
        experiment_id: Where runs are made.
        spool: What to send.
    """

    def __init__(self, client: Any, experiment_id: str, spool: Spool) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._spool = spool
        self._ids: dict[str, str] = {}
        self._doubtful = spool.begun_before  # whether a run may have been made without our knowing
        self._refusals: dict[int, int] = {}
        self._told_away = False
        self._news = threading.Event()
        self._hurried = threading.Event()
        self._ending = threading.Event()
        self._progress = threading.Condition()
        self._steps = 0  # how often something was granted
        self._thread: threading.Thread | None = None
        spool.listen(self._wake)

    def flush(self, patience_s: float) -> bool:
        """Wait until everything is granted; give up when nothing was for so long. Returns whether it is."""
        self._hurried.set()
        self._wake()
        try:
            with self._progress:
                seen, since = self._steps, time.monotonic()
                while self._spool.left:
                    left_s = since + patience_s - time.monotonic()
                    if left_s <= 0:
                        return False
                    self._progress.wait(min(left_s, 1.0))
                    if self._steps != seen:
                        seen, since = self._steps, time.monotonic()
            return True
        finally:
            self._hurried.clear()

    def close(self) -> None:
        """End the thread; what is not sent stays in the spool."""
        self._ending.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_HURRIED_PAUSE_S)
            self._thread = None

    def id_of(self, run: str) -> str | None:
        """Id of a run; None if it is still to be made."""
        return self._ids.get(run) if run.startswith(NAMED) else run

    def _wake(self) -> None:
        self._news.set()
        if self._thread is None and not self._ending.is_set():
            self._thread = threading.Thread(target=self._run, name="edgegen-records", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._ending.is_set():
            if not self._spool.left:
                self._news.wait()
            self._news.clear()
            self._wait(pause_s or _LINGER_S)
            if self._ending.is_set():
                return
            failed = self._pass()
            pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S) if failed else 0.0

    def _wait(self, pause_s: float) -> None:
        """Wait for so long, or until there is a hurry."""
        until = time.monotonic() + pause_s
        if self._hurried.wait(pause_s) and pause_s > _LINGER_S:
            self._ending.wait(max(0.0, min(until - time.monotonic(), _HURRIED_PAUSE_S)))

    def _pass(self) -> bool:
        """Try everything once; returns whether something failed."""
        lanes: dict[str, list[Request]] = {}
        for request in self._spool.pending(_TOGETHER):
            lanes.setdefault(request.run, []).append(request)
        failed = False
        for run, requests in lanes.items():
            try:
                self._send_lane(run, requests)
            except Exception as error:  # whatever a client, a driver or the network can raise
                failed = self._doubtful = True
                if not self._answers():
                    self._tell_away(error)
                    return True
        if not failed and self._told_away:
            self._told_away = False
            logger.warning("MLflow answers again; what was missing is being recorded.")
        return failed

    def _send_lane(self, run: str, requests: Sequence[Request]) -> None:
        rest = list(requests)
        while rest and not self._ending.is_set():
            batch = _first_batch(rest)
            try:
                self._send(run, batch)
            except Exception as error:
                if len(batch) > 1 and _is_refusal(error):  # one of them is to blame
                    batch = batch[:1]
                    self._send_or_refuse(run, batch[0])
                elif not self._refused(batch[0], error):
                    raise
            else:
                self._spool.granted(batch)
            self._note_progress()
            del rest[: len(batch)]

    def _send_or_refuse(self, run: str, request: Request) -> None:
        try:
            self._send(run, [request])
        except Exception as error:
            if not self._refused(request, error):
                raise
        else:
            self._spool.granted([request])

    def _refused(self, request: Request, error: Exception) -> bool:
        """Put a request aside if the store has clearly refused it; returns whether it has."""
        if not _is_refusal(error):
            return False
        if request.what in ("delete", "ended") and "RESOURCE_DOES_NOT_EXIST" in str(getattr(error, "error_code", "")):
            self._spool.granted([request])  # somebody was faster
            return True
        if not self._answers():
            return False
        self._refusals[request.number] = self._refusals.get(request.number, 0) + 1
        if self._refusals[request.number] < _CLEAR_REFUSALS:
            return False
        del self._refusals[request.number]
        reason = shown(first_line(error))
        logger.warning("MLflow refuses a record of run %s, which is put aside: %s", request.run, reason)
        self._spool.refuse(request, reason)
        return True

    def _note_progress(self) -> None:
        with self._progress:
            self._steps += 1
            self._progress.notify_all()

    def _answers(self) -> bool:
        try:
            self._client.get_experiment(self._experiment_id)
        except Exception:
            return False
        return True

    def _tell_away(self, error: Exception) -> None:
        if not self._told_away:
            self._told_away = True
            logger.warning(
                "MLflow does not answer (%s); records are kept in '%s' and sent as soon as it does.",
                shown(first_line(error)),
                self._spool.folder,
            )

    def _send(self, run: str, batch: Sequence[Request]) -> None:
        """Make requests of one kind, or several that fit into one."""
        first = batch[0]
        if first.what == "make":
            self._make(run, first.data)
            return
        run_id = self._known(run)
        if run_id is None:  # made by nobody, because the store refused it
            return
        data = first.data
        if first.what == "ended":
            self._client.set_terminated(run_id, data["status"], data["at"])
        elif first.what == "running":
            self._client.update_run(run_id, status="RUNNING")
        elif first.what == "delete":
            self._client.delete_run(run_id)
        elif first.what in ("file", "folder"):
            kept = self._spool.folder / Path(str(data["kept"]))
            log = self._client.log_artifact if first.what == "file" else self._client.log_artifacts
            log(run_id, str(kept), data["folder"])
        else:
            self._client.log_batch(run_id, **_as_batch(batch))

    def _known(self, run: str) -> str | None:
        run_id = self.id_of(run)
        return run_id or self._look_up(run)

    def _make(self, run: str, data: dict[str, Any]) -> None:
        """Make a run, unless it was made and the answer was lost."""
        if self.id_of(run) is None and not (self._doubtful and self._look_up(run)):
            made = self._client.create_run(
                self._experiment_id, data["at"], {**data["tags"], RECORD: run}, run_name=data["name"]
            )
            self._ids[run] = made.info.run_id

    def _look_up(self, run: str) -> str | None:
        found = self._client.search_runs([self._experiment_id], filter_string=f"tags.`{RECORD}` = '{run}'")
        for one in found:
            self._ids[run] = one.info.run_id
        return self._ids.get(run)


def _first_batch(requests: Sequence[Request]) -> list[Request]:
    """The first request, and those after it that can be made together with it."""
    sizes = {"metrics": METRICS_PER_REQUEST, "parameters": PARAMETERS_PER_REQUEST, "tags": PARAMETERS_PER_REQUEST}
    whole = METRICS_PER_REQUEST
    batch: list[Request] = []
    for request in requests:
        if batch and request.what not in sizes:
            break
        batch.append(request)
        if request.what not in sizes:
            break
        sizes[request.what] -= _size(request)
        whole -= _size(request)
        if len(batch) > 1 and min(whole, *sizes.values()) < 0:
            return batch[:-1]
    return batch


def _size(request: Request) -> int:
    if request.what == "metrics":
        return sum(len(values) for _, values in request.data["rows"])
    return len(request.data["values"])


def _as_batch(batch: Sequence[Request]) -> dict[str, list[Any]]:
    """Arguments of MLflow's ``log_batch``."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [
        Metric(name, value, request.data["at"], step)
        for request in batch
        if request.what == "metrics"
        for step, values in request.data["rows"]
        for name, value in values.items()
    ]
    makers = {"parameters": Param, "tags": RunTag}
    parameters, tags = (
        [make(*item) for request in batch if request.what == what for item in request.data["values"].items()]
        for what, make in makers.items()
    )
    return {"metrics": metrics, "params": parameters, "tags": tags}


def _is_refusal(error: Exception) -> bool:
    return str(getattr(error, "error_code", "")) in _REFUSALS
