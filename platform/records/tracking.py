"""MLflow tracking: flat, chosen parameters and metrics, the files that matter, and what the machine did meanwhile."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgegen.algorithms.core.registered import URI_VARIABLE, open_client, tracking_uri
from edgegen.algorithms.store_urls import database_file
from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.urls import shown

__all__ = ["EXPERIMENT", "URI_VARIABLE", "Store", "Tracker", "tracking_uri"]

EXPERIMENT = "edgegen"
SYSTEM_METRICS_PERIOD_S = 10.0
_PAUSES_S = (0.5, 2.0)  # before a request is tried again
_LIMIT = 1000  # metrics per request
_PARAMETER_LIMIT = 100  # parameters per request

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Store:
    """The tracking store, opened: edgegen's experiment in it, and requests that may fail.

    Opening it fails loudly, so that a mistyped server is found before hours of work. After that a server that goes
    away costs the record, never the work: what fails three times is logged as a warning, and tracking stops.

    Attributes:
        uri: Where it is.
        client: MLflow's client for it.
        experiment_id: The experiment.
        failed: Whether tracking has stopped.

    Raises:
        InputError: If the store can not be opened.
    """

    def __init__(self) -> None:
        self.uri = tracking_uri()
        self.failed = False
        from mlflow.exceptions import MlflowException

        try:
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
        except (MlflowException, OSError) as error:
            raise _unusable(self.uri, error) from None

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Make a request, again if it fails; returns None where it failed for good, now or earlier."""
        if self.failed:
            return None
        for pause_s in (*_PAUSES_S, None):
            try:
                return action()
            except Exception as error:
                if pause_s is None:
                    self.failed = True
                    logger.warning("MLflow stopped answering, tracking ends here: %s", error)
                else:
                    time.sleep(pause_s)
        return None

    def create_run(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
        """Create a run and log its parameters; returns its id."""
        run_id: str = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        self.log_parameters(run_id, parameters)
        return run_id

    def log_parameters(self, run_id: str, parameters: Mapping[str, Any]) -> None:
        """Log parameters, all in as few requests as possible; logging the same again changes nothing."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)) for name, value in parameters.items()]
        for start in range(0, len(entries), _PARAMETER_LIMIT):
            self.client.log_batch(run_id, params=entries[start : start + _PARAMETER_LIMIT])

    def log_metrics(self, run_id: str, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics at steps, in as few requests as possible.

        Args:
            run_id: The run.
            rows: Pairs of step and metrics by name.
        """
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, float(value), now, step) for step, values in rows for name, value in values.items()]
        for start in range(0, len(metrics), _LIMIT):
            self.client.log_batch(run_id, metrics=metrics[start : start + _LIMIT])

    def watch_system(self, run_id: str) -> Any:
        """Begin to record processor, memory, disk, network and GPUs of this machine; returns what to ``finish``."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=SYSTEM_METRICS_PERIOD_S, resume_logging=True, tracking_uri=self.uri
        )
        monitor.start()
        return monitor


class Tracker:
    """One MLflow run, with the machine's metrics beside its own.

    Args:
        name: Name of the run.
        parameters: Flat parameters, chosen to be read by people.
        tags: Flat tags.
        run_id: An earlier run to continue.
        store: The tracking store; opened if None.

    Raises:
        InputError: If the tracking store can not be used.
    """

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str | None = None,
        store: Store | None = None,
    ) -> None:
        from mlflow.exceptions import MlflowException

        self._store = store or Store()
        self.uri = self._store.uri
        try:
            if run_id is not None:
                self._store.client.update_run(run_id, status="RUNNING")
            self.run_id: str = run_id or self._store.create_run(name, tags, parameters)
            self._monitor = self._store.watch_system(self.run_id)
        except (MlflowException, OSError) as error:
            raise _unusable(self.uri, error) from None

    def log_metrics(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log metrics at steps, in one request.

        Args:
            rows: Pairs of step and metrics by name.
        """
        self._store.attempt(lambda: self._store.log_metrics(self.run_id, rows))

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a file."""
        self._store.attempt(lambda: self._store.client.log_artifact(self.run_id, str(path), folder))

    def log_folder(self, path: Path, folder: str) -> None:
        """Store a folder."""
        self._store.attempt(lambda: self._store.client.log_artifacts(self.run_id, str(path), folder))

    def finish(self, status: str) -> None:
        """End the run as ``FINISHED``, ``KILLED`` or ``FAILED``."""
        self._monitor.finish()
        self._store.attempt(lambda: self._store.client.set_terminated(self.run_id, status))


def _unusable(uri: str, error: Exception) -> InputError:
    reason = shown(first_line(error))
    return InputError(f"MLflow at '{shown(uri)}' can not be used: {reason}; set {URI_VARIABLE} or pass --no-tracking.")
