"""MLflow tracking of training runs: flat, chosen parameters and metrics, and the files that matter."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgegen.envs.errors import InputError

EXPERIMENT = "edgegen"
DEFAULT_FOLDER = Path("runs")
URI_VARIABLE = "MLFLOW_TRACKING_URI"

logger = logging.getLogger(__name__)


def tracking_uri() -> str:
    """Where runs are tracked: ``MLFLOW_TRACKING_URI``, or a database in ``runs/`` under the working directory."""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{(DEFAULT_FOLDER / 'mlflow.db').resolve()}"


class Tracker:
    """One MLflow run.

    Starting it fails loudly, so that a mistyped server is found before hours of work. After that a server that goes
    away costs the record, never the training: the first failure is logged as a warning and tracking stops.

    Args:
        name: Name of the run.
        parameters: Flat parameters, chosen to be read by people.
        tags: Flat tags.
        run_id: An earlier run to continue.

    Raises:
        InputError: If the tracking store can not be opened.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], run_id: str | None = None
    ) -> None:
        self.uri = tracking_uri()
        # An unreachable server should be reported in seconds, not after MLflow's default of several minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        import mlflow
        from mlflow.tracking import MlflowClient

        try:
            artifacts = None
            if self.uri.startswith("sqlite:///"):
                database = Path(self.uri.removeprefix("sqlite:///"))
                database.parent.mkdir(parents=True, exist_ok=True)
                artifacts = (database.parent / "mlartifacts").resolve().as_uri()
            self._client = MlflowClient(self.uri)
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                identity = self._client.create_experiment(EXPERIMENT, artifact_location=artifacts)
            else:
                identity = experiment.experiment_id
            if run_id is not None:
                self.run_id = run_id
                self._client.update_run(run_id, status="RUNNING")
            else:
                self.run_id = self._client.create_run(identity, run_name=name, tags=dict(tags)).info.run_id
                for key, value in parameters.items():
                    self._client.log_param(self.run_id, key, value)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"MLflow at '{self.uri}' can not be used: {reason}; set {URI_VARIABLE} or pass --no-tracking."
            ) from None
        self._failed = False

    def log_metrics(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log metrics at steps, in one request.

        Args:
            rows: Pairs of step and metrics by name.
        """
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, float(value), now, step) for step, values in rows for name, value in values.items()]
        for start in range(0, len(metrics), 1000):  # MLflow's limit per request
            batch = metrics[start : start + 1000]
            self._try(lambda batch=batch: self._client.log_batch(self.run_id, metrics=batch))

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Store a file."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path), folder))

    def log_folder(self, path: Path, folder: str) -> None:
        """Store a folder."""
        self._try(lambda: self._client.log_artifacts(self.run_id, str(path), folder))

    def finish(self, status: str) -> None:
        """End the run as ``FINISHED``, ``KILLED`` or ``FAILED``."""
        self._try(lambda: self._client.set_terminated(self.run_id, status))

    def _try(self, action: Any) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._failed = True
            logger.warning("MLflow stopped answering, tracking of this run ends here: %s", error)
