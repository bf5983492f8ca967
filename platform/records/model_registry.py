"""Policies in MLflow's model registry: registered once, and made champion if they are."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.registered import MODELS_PREFIX, URI_VARIABLE, fetch
from edgegen.envs.core.errors import InputError
from edgegen.platform.records.model_flavor import signature_of
from edgegen.platform.records.tracking import Store
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.checked import CheckedSweep

CHAMPION = "champion"
"""Alias of the best version so far."""
CHALLENGER = "challenger"
"""Alias of the last version that was registered and did not become champion."""

_LOADER = "edgegen.platform.records.model_flavor"


@dataclass(frozen=True)
class Registration:
    """What became of a policy.

    Attributes:
        name: Name of the model.
        version: Its version.
        alias: :data:`CHAMPION` or :data:`CHALLENGER`.
        reason: Why, as a sentence.
    """

    name: str
    version: str
    alias: str
    reason: str

    @property
    def uri(self) -> str:
        """How every command calls it."""
        return f"{MODELS_PREFIX}{self.name}@{self.alias}"


def register(
    store: Store, sweep: CheckedSweep, policy: Path, run_id: str, tags: Mapping[str, str], description: str
) -> Registration:
    """Register a policy as a new version, once, and make it champion if it is better than the present one.

    The two play the same validation episodes, of a seed after that of the sweep, by which neither was chosen.

    Args:
        store: The tracking store.
        sweep: The sweep it comes from.
        policy: Its folder.
        run_id: The run that trained it.
        tags: Tags of the version; the same tags again mean the same version.
        description: What people read in the registry.

    Raises:
        mlflow.exceptions.MlflowException: If the registry does not answer.
    """
    client, name = store.client, sweep.model
    if not any(model.name == name for model in client.search_registered_models(f"name='{name}'")):
        client.create_registered_model(
            name, description=f"{sweep.learner.name} on {sweep.world.name}, by edgegen sweep"
        )
    version = next((found for found in client.search_model_versions(f"name='{name}'") if _has(found.tags, tags)), None)
    if version is None:
        with _everywhere(store.uri):
            info = _log_model(policy, run_id)
            version = client.create_model_version(
                name, info.model_uri, run_id, tags=dict(tags), description=description, model_id=info.model_id
            )
    number = str(version.version)
    aliases: dict[str, str] = {alias: str(n) for alias, n in client.get_registered_model(name).aliases.items()}
    alias, reason = _judged(sweep, policy, number, aliases.get(CHAMPION))
    client.set_registered_model_alias(name, alias, number)
    if alias == CHAMPION and aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    return Registration(name, number, alias, reason)


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _judged(sweep: CheckedSweep, policy: Path, version: str, champion: str | None) -> tuple[str, str]:
    """Alias of a new version, and why. A champion that is there but fits this world no more is succeeded."""
    if champion is None:
        return CHAMPION, "It is the first version."
    if champion == version:
        return CHAMPION, "It is champion already."
    try:
        holder = fetch(f"{MODELS_PREFIX}{sweep.model}/{champion}")
    except InputError as error:  # a full disk here says nothing of who is better
        return CHALLENGER, f"Champion {champion} can not be played at present: {error}"
    try:
        held = _score(sweep, holder)
    except InputError as error:
        return CHAMPION, f"Champion {champion} can not play here any more: {error}"
    new = _score(sweep, policy)
    text = f"{sweep.metric} {new:.4g}, champion {champion} has {held:.4g} on the same arrivals."
    return (CHAMPION, f"Better: {text}") if sweep.better(new, held) else (CHALLENGER, f"Not better: {text}")


def _score(sweep: CheckedSweep, folder: Path) -> float:
    validation = sweep.spec.validation
    seed = (validation.seed + 1) % 2**32
    decider = make_policy(str(folder), sweep.world, seed)
    explore = validation.actions == "sampled"
    results = evaluate(sweep.world, decider, sweep.spec.evaluation.episodes, seed, explore, validation=True)
    return float(np.mean(results[sweep.metric]))


@contextmanager
def _everywhere(uri: str) -> Iterator[None]:
    """Make a store the one MLflow uses by default for the length of a block: models can not be logged otherwise."""
    before = os.environ.get(URI_VARIABLE)
    os.environ[URI_VARIABLE] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ[URI_VARIABLE]
        else:
            os.environ[URI_VARIABLE] = before


def _log_model(policy: Path, run_id: str) -> Any:
    """Log a policy as a model of a run."""
    import mlflow

    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the signature is made from an example that is not kept
        return mlflow.pyfunc.log_model(
            name="policy",
            loader_module=_LOADER,
            data_path=str(policy),
            signature=signature_of(policy),
            pip_requirements=[f"edgegen=={importlib.metadata.version('edgegen')}"],
        )
