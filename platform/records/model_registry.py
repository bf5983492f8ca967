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


@dataclass(frozen=True)
class Candidate:
    """A policy that may become champion.

    Attributes:
        title: What it is called in sentences.
        policy: Its folder.
        run_id: The run that trained it, or tuned it.
        tags: Tags of the version; the same tags again mean the same version.
        description: What people read in the registry.
    """

    title: str
    policy: Path
    run_id: str
    tags: Mapping[str, str]
    description: str


def register(store: Store, sweep: CheckedSweep, candidate: Candidate, bar: Candidate | None = None) -> Registration:
    """Register a policy as a new version, once, and make it champion if it is better than the present one and the bar.

    All play the same validation episodes, of a seed after that of the sweep, by which none was chosen. Where the bar
    is better than the policy it takes its place: it is registered, too, and champion if it is better than that.

    Args:
        store: The tracking store.
        sweep: The sweep it comes from.
        candidate: The policy.
        bar: The best rule that was tuned with the same budget, if there is one.

    Returns:
        What became of the policy; of the bar the reason tells.

    Raises:
        mlflow.exceptions.MlflowException: If the registry does not answer.
    """
    client, name = store.client, sweep.model
    if not any(model.name == name for model in client.search_registered_models(f"name='{name}'")):
        client.create_registered_model(
            name, description=f"{sweep.learner.name} on {sweep.world.name}, by edgegen sweep"
        )
    number = _version(store, name, candidate)
    if bar is None or (behind := _behind(sweep, candidate, bar)) is None:
        alias, reason = _settled(store, sweep, candidate.policy, number)
        return Registration(name, number, alias, reason)
    bar_number = _version(store, name, bar)
    alias, reason = _settled(store, sweep, bar.policy, bar_number, only_champion=True)
    became = (
        f"{bar.title} is {CHAMPION}, as version {bar_number}" if alias == CHAMPION else f"{bar.title} is not champion"
    )
    client.set_registered_model_alias(name, CHALLENGER, number)
    return Registration(name, number, CHALLENGER, f"{behind} {became}. {reason}")


def _version(store: Store, name: str, candidate: Candidate) -> str:
    """Number of a candidate's version, which is made if there is none."""
    client = store.client
    for found in client.search_model_versions(f"name='{name}'"):
        if _has(found.tags, candidate.tags):
            return str(found.version)
    with _everywhere(store.uri):
        info = _log_model(candidate.policy, candidate.run_id)
        made = client.create_model_version(
            name,
            info.model_uri,
            candidate.run_id,
            tags=dict(candidate.tags),
            description=candidate.description,
            model_id=info.model_id,
        )
    return str(made.version)


def _settled(
    store: Store, sweep: CheckedSweep, policy: Path, number: str, only_champion: bool = False
) -> tuple[str, str]:
    """Judge a version against the champion and set its alias; returns that, and why."""
    client, name = store.client, sweep.model
    aliases: dict[str, str] = {alias: str(n) for alias, n in client.get_registered_model(name).aliases.items()}
    alias, reason = _judged(sweep, policy, number, aliases.get(CHAMPION))
    if alias == CHAMPION or not only_champion:
        client.set_registered_model_alias(name, alias, number)
    if alias == CHAMPION and aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    return alias, reason


def _behind(sweep: CheckedSweep, candidate: Candidate, bar: Candidate) -> str | None:
    """Say that the bar is better; None if it is not."""
    own, level = _score(sweep, candidate.policy), _score(sweep, bar.policy)
    if not sweep.better(level, own):
        return None
    return f"Behind the bar: {sweep.metric} {own:.4g}, {bar.title} has {level:.4g} on the same arrivals."


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _judged(sweep: CheckedSweep, policy: Path, version: str, champion: str | None) -> tuple[str, str]:
    """Alias of a new version, and why. A champion that is there but fits this world no more is succeeded."""
    if champion is None:
        return CHAMPION, "There was none before."
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
