# SPDX-License-Identifier: Apache-2.0
"""Policies in MLflow's model registry: from ``models:/NAME@ALIAS`` to a folder that every command understands.

MLflow is imported only when such a name is met.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from edgegen.algorithms.core.trained import MANIFEST
from edgegen.algorithms.store_urls import IMPORTING, database_file, database_url
from edgegen.envs.core.errors import InputError, did_you_mean, first_line
from edgegen.envs.urls import reach_directly, shown

URI_VARIABLE = "MLFLOW_TRACKING_URI"
CACHE_VARIABLE = "EDGEGEN_CACHE"
MODELS_PREFIX = "models:/"
DEFAULT_FOLDER = Path("runs")

_NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")


def tracking_uri() -> str:
    """Where runs and models are kept: ``MLFLOW_TRACKING_URI``, or a database in ``runs/`` under the working folder."""
    return os.environ.get(URI_VARIABLE) or database_url(DEFAULT_FOLDER / "mlflow.db")


def how_to_look(uri: str) -> str:
    """What to do to see the runs at a URI: open it, or start MLflow's display of a database, as a shell reads it."""
    if uri.startswith(("http://", "https://")):
        return shown(uri)
    return shlex.join(["mlflow", "ui", "--backend-store-uri", shown(uri)])


def prepare_mlflow() -> None:
    """Set what MLflow reads from the environment, unless somebody did: short patience, and no display of its own."""
    # An unreachable server should be reported in seconds, not after MLflow's default of several minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with IMPORTING:  # MLflow sets its loggers when it is imported; the others are what a store needs
        import mlflow.tracking  # noqa: F401
        import sqlalchemy.engine
        import sqlalchemy.exc  # noqa: F401

    for chatty in ("alembic", "mlflow", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def is_registered(policy: str) -> bool:
    """Whether the name of a policy is that of a registered model."""
    return policy.startswith(MODELS_PREFIX)


def is_alias(policy: str) -> bool:
    """Whether the name of a policy is that of a registered model by an alias, which may move on."""
    match = _NAME.fullmatch(policy)
    return match is not None and match["alias"] is not None


def pinned(uri: str) -> str:
    """Return the name of the very version that a name stands for now: aliases move on.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/NAME/latest``.

    Returns:
        ``models:/NAME/VERSION``.

    Raises:
        InputError: If the name is not of this form, there is no such model, version or alias, or the registry can
            not be reached.
    """
    match = _NAME.fullmatch(uri)
    if match is None:
        raise InputError(f"'{uri}' must look like models:/NAME@ALIAS or models:/NAME/VERSION.")
    name, alias, version = match["name"], match["alias"], match["version"]
    if version is not None and version != "latest" and not version.isdigit():
        raise InputError(
            f"'{uri}' names version '{version}', but versions are numbers, or latest; aliases follow an @."
        )
    where = tracking_uri()
    database = database_file(where)
    if database is not None and not database.is_file():
        raise InputError(f"'{uri}' can not be found: there is no MLflow database '{database}'; set {URI_VARIABLE}.")
    import mlflow

    try:
        client = open_client(where)
        known = {model.name: model for model in client.search_registered_models(max_results=1000)}
        if name not in known:
            names = f"; models are {', '.join(sorted(known))}" if known else "; it holds no models"
            raise InputError(
                f"There is no registered model '{name}' at '{shown(where)}'{names}.{did_you_mean(name, known)}"
            )
        if alias is not None:
            aliases = client.get_registered_model(name).aliases
            if alias not in aliases:
                known_ones = f"; aliases are {', '.join(sorted(aliases))}" if aliases else "; it has none"
                raise InputError(f"Model '{name}' has no alias '{alias}'{known_ones}.{did_you_mean(alias, aliases)}")
            return f"{MODELS_PREFIX}{name}/{aliases[alias]}"
        versions = sorted(int(found.version) for found in client.search_model_versions(f"name='{name}'"))
        wanted = versions[-1] if version == "latest" and versions else int(version) if version != "latest" else 0
        if wanted not in versions:
            raise InputError(
                f"Model '{name}' has no version {version}; versions are {', '.join(map(str, versions)) or 'none'}."
            )
        return f"{MODELS_PREFIX}{name}/{wanted}"
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise InputError(
            f"The model registry at '{shown(where)}' can not be used: {shown(first_line(error))}; set {URI_VARIABLE}."
        ) from None


def fetch(uri: str) -> Path:
    """Return the policy folder of a registered model, downloaded once and kept.

    Args:
        uri: As for :func:`pinned`.

    Raises:
        InputError: As there, or if its files are gone or hold no policy.
    """
    version = pinned(uri)
    where = tracking_uri()
    name, _, number = version.removeprefix(MODELS_PREFIX).partition("/")
    import mlflow

    try:
        client = open_client(where)
        found = client.get_model_version(name, number)
        # Registries that were deleted and begun anew hold other models of the same name and number.
        origin = "\n".join((where, str(found.source), str(found.creation_timestamp)))
        target = _cache() / f"{name}-{number}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
        if not target.is_dir():
            _download(client.get_model_version_download_uri(name, number), where, target)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise InputError(
            f"The files of '{version}' can not be fetched from '{shown(where)}': {shown(first_line(error))}."
        ) from None
    manifests = sorted(target.rglob(MANIFEST))
    if not manifests:
        raise InputError(f"'{version}' at '{shown(where)}' holds no policy of edgegen: {MANIFEST} is missing.")
    return manifests[0].parent


def _download(source: str, where: str, target: Path) -> None:
    """Download a model into a folder that appears in one step."""
    import mlflow

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        local = mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=where, dst_path=str(temporary))
        copied = temporary / "copied"
        shutil.copytree(local, copied)
        try:
            copied.replace(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _cache() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "edgegen") / "models"


def open_client(where: str) -> Any:
    """Open a tracking store and return MLflow's client for it; a database that is not there is made.

    Raises:
        OSError: If it can not be opened, with the reason.
    """
    prepare_mlflow()
    reach_directly(where)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    making: Any = contextlib.nullcontext()
    try:
        database = database_file(where)
        if database is not None:  # two processes that make the same database at the same time both fail
            database.parent.mkdir(parents=True, exist_ok=True)
            making = FileLock(f"{database}.lock", timeout=120)
        with making:
            client = MlflowClient(where)
            client.search_experiments(max_results=1)
            return client
    except (MlflowException, SQLAlchemyError, ImportError, ValueError) as error:  # no driver, no URL
        raise OSError(shown(first_line(error))) from None
