# SPDX-License-Identifier: Apache-2.0
"""Policies in MLflow's model registry: registered once, and made champion if they are."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgegen.algorithms.core.registered import MODELS_PREFIX, URI_VARIABLE, fetch
from edgegen.envs.core.errors import InputError
from edgegen.platform.records.gate import Judge, Verdict
from edgegen.platform.records.model_flavor import signature_of
from edgegen.platform.records.tracking import Store

CHAMPION = "champion"
"""Alias of the best version so far."""
CHALLENGER = "challenger"
"""Alias of the last version that was registered and did not become champion."""

FORCED = "edgegen.forced"
"""Tag of a version that was made champion although it had not passed; its value says why it had not."""

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
        lineage: Further tags: where it comes from.
    """

    title: str
    policy: Path
    run_id: str
    tags: Mapping[str, str]
    description: str
    lineage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A registered model, whose versions compete in one world.

    Attributes:
        name: Its name.
        description: What people read of it.
        judge: By what its versions are compared.
    """

    name: str
    description: str
    judge: Judge


def register(
    store: Store, model: Model, candidate: Candidate, bar: Candidate | str | None = None, force: bool = False
) -> Registration:
    """Register a policy as a new version, once, and make it champion if it is better than the present one and the bar.

    Better means on the same arrivals, with an interval that excludes zero. Where the policy is not better than the bar,
    a tuned rule, that takes its place: it is registered, too, and champion if it is better than the present one.

    Args:
        store: The tracking store.
        model: The registered model.
        candidate: The policy.
        bar: The best rule that was tuned with the same budget, if there is one; or the name of a rule.
        force: Make the policy champion whatever comes of it; the registry then says so.

    Returns:
        What became of the policy; of the bar the reason tells.

    Raises:
        mlflow.exceptions.MlflowException: If the registry does not answer.
    """
    client, name = store.client, model.name
    if not any(found.name == name for found in client.search_registered_models(f"name='{name}'")):
        client.create_registered_model(name, description=model.description)
    number = _version(store, name, candidate)
    above = None if bar is None else _against(model.judge, candidate, bar)
    if above is None or above.passed:
        alias, reason = _settled(store, model, candidate.policy, number)
        if above is not None:
            reason = f"{reason} Above the bar: {above.text}"
    else:
        alias, reason = CHALLENGER, f"Not above the bar: {above.text}"
        if not isinstance(bar, str) and bar is not None:
            reason = f"{reason} {_instead(store, model, bar)}"
        client.set_registered_model_alias(name, CHALLENGER, number)
    if force and alias != CHAMPION:
        client.set_registered_model_alias(name, CHAMPION, number)
        client.set_model_version_tag(name, number, FORCED, reason)
        if _aliases(store, name).get(CHALLENGER) == number:
            client.delete_registered_model_alias(name, CHALLENGER)
        alias, reason = CHAMPION, f"Forced. {reason}"
    return Registration(name, number, alias, reason)


def _instead(store: Store, model: Model, bar: Candidate) -> str:
    """Let the bar compete for champion; returns what became of it."""
    number = _version(store, model.name, bar)
    alias, reason = _settled(store, model, bar.policy, number, only_champion=True)
    became = f"{bar.title} is {CHAMPION}, as version {number}" if alias == CHAMPION else f"{bar.title} is not champion"
    return f"{became}. {reason}"


def _against(judge: Judge, candidate: Candidate, bar: Candidate | str) -> Verdict:
    if isinstance(bar, str):
        return judge.verdict(candidate.policy, bar, bar)
    return judge.verdict(candidate.policy, bar.policy, bar.title)


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
            tags={**candidate.lineage, **candidate.tags},
            description=candidate.description,
            model_id=info.model_id,
        )
    return str(made.version)


def _settled(store: Store, model: Model, policy: Path, number: str, only_champion: bool = False) -> tuple[str, str]:
    """Judge a version against the champion and set its alias; returns that, and why."""
    client, name, aliases = store.client, model.name, _aliases(store, model.name)
    alias, reason = _judged(model, policy, number, aliases.get(CHAMPION))
    if alias == CHAMPION or not only_champion:
        client.set_registered_model_alias(name, alias, number)
    if alias == CHAMPION and aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    return alias, reason


def _aliases(store: Store, name: str) -> dict[str, str]:
    """Versions by alias."""
    return {alias: str(number) for alias, number in store.client.get_registered_model(name).aliases.items()}


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _judged(model: Model, policy: Path, version: str, champion: str | None) -> tuple[str, str]:
    """Alias of a new version, and why. A champion that is there but fits this world no more is succeeded."""
    if champion is None:
        return CHAMPION, "There was none before."
    if champion == version:
        return CHAMPION, "It is champion already."
    try:
        holder = fetch(f"{MODELS_PREFIX}{model.name}/{champion}")
    except InputError as error:  # a full disk here says nothing of who is better
        return CHALLENGER, f"Champion {champion} can not be played at present: {error}"
    try:
        model.judge.values(holder)
    except InputError as error:
        return CHAMPION, f"Champion {champion} can not play here any more: {error}"
    verdict = model.judge.verdict(policy, holder, f"champion {champion}")
    return (CHAMPION, f"Better: {verdict.text}") if verdict.passed else (CHALLENGER, f"Not better: {verdict.text}")


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
