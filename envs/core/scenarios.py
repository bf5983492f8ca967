# SPDX-License-Identifier: Apache-2.0
"""Scenarios of every kind: from a name, a file or plain data to a validated scenario of the kind that it states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from edgegen.envs.core.agent_input import shown
from edgegen.envs.core.errors import InputError, from_validation
from edgegen.envs.core.kinds import DEFAULT_KIND, kind_named
from edgegen.envs.core.scenario_files import scenario_data, scenario_kind, shipped_names
from edgegen.envs.core.world import WorldScenario

S = TypeVar("S", bound=WorldScenario)


def scenario_names(kind: str | None = None) -> list[str]:
    """Names of the shipped scenarios of one kind, or of all, variants included."""
    return shipped_names(kind)


def scenario_model(name_or_path: str | Path) -> type[WorldScenario]:
    """Return the model of a scenario's kind, which says what fields it has.

    Raises:
        InputError: If there is no such scenario, or it is of an unknown kind.
    """
    return kind_named(scenario_kind(name_or_path)).scenario


@overload
def load_scenario(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Any: ...
@overload
def load_scenario(name_or_path: str | Path, overrides: Mapping[str, Any] | None, model: type[S]) -> S: ...
def load_scenario(
    name_or_path: str | Path, overrides: Mapping[str, Any] | None = None, model: type[WorldScenario] | None = None
) -> Any:
    """Load a shipped scenario by name or any scenario file by path.

    Args:
        name_or_path: ``name``, ``name:variant``, ``path.yaml`` or ``path.yaml:variant``.
        overrides: Values by dotted field name, for example ``{"tasks_per_slot.high": 30}``.
        model: Model of the kind that is needed; any kind if None.

    Raises:
        InputError: If the scenario or a field is unknown, a value is impossible, or it is of another kind.
    """
    wanted = str(name_or_path)
    needed = model or scenario_model(wanted)
    return build_scenario(scenario_data(wanted, dict(overrides or {}), needed), needed)


@overload
def build_scenario(data: dict[str, Any]) -> Any: ...
@overload
def build_scenario(data: dict[str, Any], model: type[S]) -> S: ...
def build_scenario(data: dict[str, Any], model: type[WorldScenario] | None = None) -> Any:
    """Validate plain data, as of ``model_dump``, as a scenario of the kind that it states.

    Args:
        data: The data; the field ``kind`` tells the models apart.
        model: Model of the kind that is needed; any kind if None.

    Raises:
        InputError: If the kind or a field is unknown, a field is missing, a value is impossible, or it is of another
            kind.
    """
    what = f"Scenario '{data.get('name', '?')}'"
    kind = kind_named(data.get("kind", DEFAULT_KIND), f"{what}: the field 'kind'")
    if model is not None and kind.scenario is not model:
        needed = model.model_fields["kind"].default
        raise InputError(f"{what} is of the kind {kind.name}, but one of the kind {needed} is needed here.")
    try:
        return kind.scenario.model_validate(kind.scenario.prepared({**data, "kind": kind.name}))
    except ValidationError as error:
        raise from_validation(_without_tags(error), what, kind.scenario.model_fields) from None


@overload
def as_scenario(scenario: WorldScenario | str | Path) -> Any: ...
@overload
def as_scenario(scenario: WorldScenario | str | Path, model: type[S]) -> S: ...
def as_scenario(scenario: WorldScenario | str | Path, model: type[WorldScenario] = WorldScenario) -> Any:
    """Return a scenario as it is, or load the one of a name or a path.

    Raises:
        InputError: As for :func:`load_scenario`, or if it is a scenario of another kind or none at all.
    """
    if isinstance(scenario, model):
        return scenario
    if not isinstance(scenario, str | Path):
        needed = "" if model is WorldScenario else f" of the kind {model.model_fields['kind'].default}"
        raise InputError(f"scenario is {shown(scenario)}, but must be a scenario{needed}, or the name or path of one.")
    return load_scenario(scenario) if model is WorldScenario else load_scenario(scenario, None, model)


def _without_tags(error: ValidationError) -> ValidationError:
    """Return the first complaint without the tags of unions, written in parentheses, in the name of its field."""
    first = error.errors(include_url=False)[0]
    return ValidationError.from_exception_data(
        error.title,
        [
            {
                "type": PydanticCustomError(first["type"], first["msg"]),
                "loc": tuple(part for part in first["loc"] if not str(part).startswith("(")),
                "input": first["input"],
            }
        ],
    )
