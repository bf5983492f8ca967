# SPDX-License-Identifier: Apache-2.0
"""MLflow tracking: flat, chosen parameters and metrics, the files that matter, and what the machine did meanwhile.

A store is opened loudly, so that a mistyped server is found before hours of work. From then on nothing waits for it:
what is recorded goes to a spool on disk, and a thread sends it, however often the server goes away.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgegen.algorithms.core.registered import URI_VARIABLE, open_client, prepare_mlflow, tracking_uri
from edgegen.algorithms.store_urls import database_file
from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.urls import shown
from edgegen.platform.records.presence import Heartbeat, revive, signs
from edgegen.platform.records.sending import METRICS_PER_REQUEST, PARAMETERS_PER_REQUEST, Sender, new_name
from edgegen.platform.records.spool import Spool

__all__ = ["EXPERIMENT", "URI_VARIABLE", "Store", "Tracker", "tracking_uri"]

EXPERIMENT = "edgegen"
SYSTEM_METRICS_PERIOD_S = 10.0
PATIENCE_S = 30.0
"""How long the end of a command waits for a store from which nothing comes."""
_PAUSES_S = (0.5, 2.0)  # before a request that somebody waits for is tried again

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Store:
    """The tracking store, opened: edgegen's experiment in it, and what is to be recorded there.

    Args:
        folder: Where records wait until they are sent: the folder of the run.

    Attributes:
        uri: Where the store is.
        client: MLflow's client for it.
        experiment_id: The experiment.

    Raises:
        InputError: If the store can not be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.uri = tracking_uri()
        self.folder = folder
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        self._heartbeat: Heartbeat | None = None
        self._monitor: Any = None
        self._gave_up = False
        prepare_mlflow()  # threads that import it side by side meet half of it
        from mlflow.exceptions import MlflowException

        with self.loudly():
            self.client = open_client(self.uri)
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                database = database_file(self.uri)
                artifacts = None
                if database is not None:
                    artifacts = (database.parent / "mlartifacts").resolve().as_uri()
                # Another process may be doing the same.
                with contextlib.suppress(MlflowException):
                    self.client.create_experiment(EXPERIMENT, artifact_location=artifacts)
                experiment = self.client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise OSError(f"it does not let the experiment '{EXPERIMENT}' be created")
            self.experiment_id: str = experiment.experiment_id

    @contextlib.contextmanager
    def loudly(self) -> Iterator[None]:
        """Turn what goes wrong in a block into one sentence.

        Raises:
            InputError: If the store can not be used.
        """
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            reason = shown(first_line(error))
            raise InputError(
                f"MLflow at '{shown(self.uri)}' can not be used: {reason}; set {URI_VARIABLE} or pass --no-tracking."
            ) from None

    def begin(self) -> int:
        """Take over what an earlier process of this folder left to be sent, and send it before anything else.

        Returns:
            How many records these were.

        Raises:
            InputError: If they can not be sent, are meant for another store, or another process is sending them.
        """
        if self._spool is not None:
            return 0
        spool = Spool(self.folder, {"uri": shown(self.uri), "experiment": EXPERIMENT})
        self._spool, self._sender = spool, Sender(self.client, self.experiment_id, spool)
        found = spool.left
        if found and not self._sender.flush(PATIENCE_S):
            left = spool.left
            self.close()
            raise InputError(
                f"MLflow at '{shown(self.uri)}' does not take {left} records of an earlier run that wait in "
                f"'{spool.folder}'; try again later, or remove that folder to give them up."
            )
        return found

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Make a request whose answer is needed, again if it fails; returns None, with a warning, if it always does."""
        for pause_s in (*_PAUSES_S, None):
            try:
                return action()
            except Exception as error:
                if pause_s is None:
                    logger.warning("MLflow does not answer: %s", shown(first_line(error)))
                else:
                    time.sleep(pause_s)
        return None

    def create_run(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
        """Create a run at once and log its parameters; returns its id."""
        run_id: str = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        from mlflow.entities import Param

        for chunk in _chunks(parameters):
            self.client.log_batch(run_id, params=[Param(*item) for item in chunk.items()])
        return run_id

    def make_run(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
        """Have a run created, sooner or later; returns what it is called until then, by all that follows."""
        run = new_name()
        self._ask(run, "make", name=name, tags=dict(tags), at=_now_ms())
        self.log_parameters(run, parameters)
        return run

    def last_steps(self, run_id: str) -> dict[str, int]:
        """Last step of each metric of a run that is there."""
        # The latest values come with the run. Whole histories would be long, and there is no other way to the steps.
        return {metric.key: metric.step for metric in self.client.get_run(run_id).data._metric_objs}

    def id_of(self, run: str) -> str | None:
        """Id of a run; None if it is still to be made."""
        return run if self._sender is None else self._sender.id_of(run)

    def log_parameters(self, run: str, parameters: Mapping[str, Any]) -> None:
        """Log parameters; logging the same again changes nothing."""
        for chunk in _chunks(parameters):
            self._ask(run, "parameters", values=chunk)

    def log_metrics(self, run: str, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics at steps.

        Args:
            run: The run.
            rows: Pairs of step and metrics by name.
        """
        now, chunk, size = _now_ms(), list[tuple[int, dict[str, float]]](), 0
        for step, values in rows:
            if chunk and size + len(values) > METRICS_PER_REQUEST:
                self._ask(run, "metrics", rows=chunk, at=now)
                chunk, size = [], 0
            chunk.append((step, {name: float(value) for name, value in values.items()}))
            size += len(values)
        if chunk:
            self._ask(run, "metrics", rows=chunk, at=now)

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._ask(run, "tags", values=dict(tags))

    def store_file(self, run: str, path: Path, folder: str | None = None) -> None:
        """Store a file, or all files of a folder, as they are now."""
        self.begin()
        assert self._spool is not None
        self._spool.append_file(run, path, folder)

    def end_run(self, run: str, status: str) -> None:
        """Say how a run ended: ``FINISHED``, ``KILLED`` or ``FAILED``."""
        self._ask(run, "ended", status=status, at=_now_ms())

    def go_on(self, run: str) -> None:
        """Say that a run is under way again."""
        self._ask(run, "running")

    def delete_run(self, run: str) -> None:
        """Delete a run."""
        self._ask(run, "delete")

    def watch(self, run_id: str) -> None:
        """Begin to record processor, memory, disk, network and GPUs of this machine, and that this process lives.

        Args:
            run_id: Of a run that is there.
        """
        revive(self.client, run_id)
        for name, value in signs().items():
            self.client.set_tag(run_id, name, value)
        self._heartbeat = Heartbeat(self.client, self.experiment_id, run_id)
        self._monitor = _monitor(run_id, self.uri, lambda row: self.log_metrics(run_id, [row]))
        self._monitor.start()

    def flush(self) -> bool:
        """Wait until all is sent; returns whether it is, and warns if the store stays away."""
        if self._spool is None or self._sender is None:
            return True
        if self._gave_up and self._spool.left:  # said before
            return False
        self._gave_up = not self._sender.flush(PATIENCE_S)
        if self._gave_up:
            logger.warning(
                "MLflow at '%s' stayed away: %d records wait in '%s'; the next start there sends them, and so does "
                "edgegen track flush %s.",
                shown(self.uri),
                self._spool.left,
                self._spool.folder,
                self.folder,
            )
        return not self._gave_up

    def stop_watching(self) -> None:
        """End what :meth:`watch` began."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        if self._heartbeat is not None:
            self._heartbeat.close()
            self._heartbeat = None

    def close(self) -> None:
        """Let go of the folder; what is not sent stays in it."""
        self.stop_watching()
        if self._sender is not None and self._spool is not None:
            self._sender.close()
            self._spool.close()
            self._sender = self._spool = None

    def _ask(self, run: str, what: str, **data: Any) -> None:
        self.begin()
        assert self._spool is not None
        self._spool.append(run, what, **data)


class Tracker:
    """One MLflow run, with the machine's metrics beside its own.

    Args:
        name: Name of the run.
        parameters: Flat parameters, chosen to be read by people.
        tags: Flat tags.
        run_id: An earlier run to continue.
        store: The tracking store.

    Raises:
        InputError: If the tracking store can not be used.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None, store: Store
    ) -> None:
        self._store = store
        self.uri = store.uri
        with store.loudly():
            store.begin()
            self.run_id: str = run_id or store.create_run(name, tags, parameters)
            self._logged = {} if run_id is None else store.last_steps(run_id)
            store.watch(self.run_id)

    def log_metrics(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log metrics at steps; what an earlier process logged, and lost before a checkpoint, is not logged again.

        Args:
            rows: Pairs of step and metrics by name.
        """
        new = [
            (step, {name: value for name, value in values.items() if step > self._logged.get(name, -1)})
            for step, values in rows
        ]
        self._store.log_metrics(self.run_id, [(step, values) for step, values in new if values])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a file."""
        self._store.store_file(self.run_id, path, folder)

    def log_folder(self, path: Path, folder: str) -> None:
        """Store a folder."""
        self._store.store_file(self.run_id, path, folder)

    def finish(self, status: str) -> None:
        """End the run as ``FINISHED``, ``KILLED`` or ``FAILED``, and see that all of it is recorded."""
        self._store.stop_watching()
        self._store.end_run(self.run_id, status)
        self._store.flush()
        self._store.close()


def _monitor(run_id: str, uri: str, on_row: Callable[[tuple[int, dict[str, float]]], None]) -> Any:
    """MLflow's look at the machine, whose metrics go to the spool and end with the run, not with the first outage."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):  # type: ignore[misc]  # MLflow has no types here
        """See :class:`SystemMetricsMonitor`."""

        def monitor(self) -> None:
            while True:
                self.collect_metrics()
                over = self._shutdown_event.wait(self.sampling_interval)
                if over:
                    return
                self.publish_metrics(self.aggregate_metrics())

        def publish_metrics(self, metrics: Mapping[str, float]) -> None:
            on_row((self._logging_step, {f"system/{name}": value for name, value in metrics.items()}))
            self._logging_step += 1
            for monitor in self.monitors:
                monitor.clear_metrics()

    return Monitor(run_id, sampling_interval=SYSTEM_METRICS_PERIOD_S, resume_logging=True, tracking_uri=uri)


def _chunks(parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    items = [(name, str(value)) for name, value in parameters.items()]
    return [
        dict(items[start : start + PARAMETERS_PER_REQUEST]) for start in range(0, len(items), PARAMETERS_PER_REQUEST)
    ]


def _now_ms() -> int:
    return int(time.time() * 1000)
