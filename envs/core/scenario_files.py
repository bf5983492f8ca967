# SPDX-License-Identifier: Apache-2.0
"""Scenario files of every kind: YAML, named by their stem, with variants, built on top of one another.

A file says its ``kind`` (``offloading`` if it does not), may ``extend`` another file or scenario of the same kind, and
may hold ``variants``: named sets of changes to its own fields, addressed as ``name:variant``. What the fields mean is
the business of the kind's model; this module turns a name and overrides into plain data for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import DEFAULT_KIND, kind_named
from edgegen.envs.core.named_files import CSV, PARQUET, YAML, find_file, is_file_name
from edgegen.envs.core.paths import as_path, beside, is_there
from edgegen.envs.core.plugins import plugged
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.core.yaml_files import read_mapping

TERMS_FIELD = "objective"
"""Field whose parts are names of terms, or references to them."""
SCENARIO_FOLDER = Path(__file__).parents[1] / "scenarios"


def shipped_names(kind: str | None = None) -> list[str]:
    """Names of the shipped scenarios of one kind, or of all, variants included."""
    names = []
    for path in sorted(SCENARIO_FOLDER.glob("*.yaml")):
        if kind is None or _kind_of(path) == kind:
            names.append(path.stem)
            names += [f"{path.stem}:{variant}" for variant in _read(path)["variants"]]
    return names


def scenario_kind(name_or_path: str | Path) -> str:
    """Return the kind of a scenario, shipped or a file.

    Raises:
        InputError: If there is no such scenario, or its file can not be read.
    """
    return _kind_of(_path_of(str(name_or_path)))


def scenario_data(wanted: str, overrides: dict[str, Any], model: type[WorldScenario]) -> dict[str, Any]:
    """Return the data of a scenario on top of what it extends, not yet validated.

    Args:
        wanted: ``name``, ``name:variant``, ``path.yaml`` or ``path.yaml:variant``.
        overrides: Values by dotted field name.
        model: Model of the kind that is needed.

    Raises:
        InputError: If the scenario, its variant or a field is unknown, or the scenario is of another kind.
    """
    kind = model.model_fields["kind"].default
    found = _kind_of(_path_of(wanted, kind))
    if found != kind:
        raise InputError(
            f"Scenario '{wanted}' is of the kind {found}, but one of the kind {kind} is needed here; "
            f"shipped ones are {', '.join(shipped_names(kind))}."
        )
    data = _merged(wanted, kind, model)
    data["kind"] = kind
    return with_overrides(data, overrides, wanted, model)


def named_in(file: Path, wanted: str) -> str:
    """The scenario, or other file, that a sweep or a study names: a file beside it, else one in the working folder.

    Args:
        file: The file of the sweep or study.
        wanted: What it names: ``name``, ``name:variant``, ``path.yaml`` or ``path.yaml:variant``.
    """
    name, variant = split_variant(wanted)
    if not is_file_name(name):
        return wanted
    near = beside(file, name)
    found = near if is_there(Path(near)) or not is_there(as_path(name)) else name
    return f"{found}:{variant}" if variant else found


def split_variant(wanted: str) -> tuple[str, str]:
    """Split ``name:variant`` or ``path.yaml:variant`` in two; a path may hold colons of its own.

    Returns:
        Name or path, and the variant, empty if there is none.
    """
    if is_file_name(wanted):
        return wanted, ""
    for ending in YAML:
        stem, colon, variant = wanted.rpartition(f"{ending}:")
        if colon:
            return stem + ending, variant
    stem, _, variant = wanted.partition(":")
    return stem, variant


def with_overrides(
    data: dict[str, Any], overrides: dict[str, Any], what: str, model: type[BaseModel]
) -> dict[str, Any]:
    """Return a copy of ``data`` with dotted names replaced; unknown names are refused with a suggestion."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    known = sorted(set(model.model_fields) - {"kind"})
    for name, value in overrides.items():
        head, _, rest = name.partition(".")
        if head not in known:
            raise InputError(
                f"Scenario '{what}' has no field '{name}'; fields are {', '.join(known)}.{did_you_mean(head, known)}"
            )
        if not rest:
            result[head] = with_terms_named(value) if head == TERMS_FIELD else value
            continue
        if head == TERMS_FIELD:
            _set_weight(result, rest, value, what)
            continue
        parts = _parts(model.model_fields[head].annotation)
        if not parts or (head in result and not isinstance(result[head], dict)):
            raise InputError(f"Scenario '{what}': the field '{head}' has no parts, so '{name}' can not be set.")
        if rest not in parts:
            raise InputError(
                f"Scenario '{what}': the field '{head}' has no part '{rest}'; parts are {', '.join(sorted(parts))}."
                f"{did_you_mean(rest, parts)}"
            )
        result.setdefault(head, {})[rest] = value
    return result


def with_terms_named(weights: Any, file: Path | None = None) -> Any:
    """Return weights of an objective with references to plugins replaced by the names of their terms.

    Args:
        weights: What a field ``objective`` holds.
        file: The file that names them, if one does.

    Raises:
        InputError: If a plugin can not be used.
    """
    if not isinstance(weights, dict):
        return weights
    return {plugged(name, file) if isinstance(name, str) else name: weight for name, weight in weights.items()}


def _terms_beside(path: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a variant's changes with the terms that its file names."""
    before = f"{TERMS_FIELD}."
    return {
        before + plugged(name.removeprefix(before), path) if name.startswith(before) else name: value
        if name != TERMS_FIELD
        else with_terms_named(value, path)
        for name, value in changes.items()
    }


def _set_weight(data: dict[str, Any], name: str, weight: Any, what: str) -> None:
    """Set the weight of a term, in place."""
    weights = data.setdefault(TERMS_FIELD, {})
    if not isinstance(weights, dict):
        raise InputError(f"Scenario '{what}': the field '{TERMS_FIELD}' must map terms to their weights.")
    weights[plugged(name)] = weight


def _merged(wanted: str, kind: str, model: type[WorldScenario], extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    stem, variant = split_variant(wanted)
    path = _path_of(wanted, kind)
    if path.resolve() in extending:
        raise InputError(f"Scenario file '{path}' extends itself, directly or through others; it must not.")
    data = _read(path)
    variants = data.pop("variants")
    data.setdefault("name", path.stem)
    for field in model.files:
        data = _beside(path, field, data)
        variants = {name: _beside(path, field, changes) for name, changes in variants.items()}
    if TERMS_FIELD in data:
        data[TERMS_FIELD] = with_terms_named(data[TERMS_FIELD], path)
    base = data.pop("extends", None)
    if base is not None:
        # A file is looked for beside the one that extends it, a name among the shipped ones.
        base = beside(path, str(base)) if is_file_name(split_variant(str(base))[0]) else str(base)
        found = _kind_of(_path_of(base, kind))
        if found != kind:
            raise InputError(f"Scenario file '{path}' is of the kind {kind}, but extends '{base}' of the kind {found}.")
        data = {**_merged(base, kind, model, (*extending, path.resolve())), **data}
    if variant:
        if variant not in variants:
            known = ", ".join(variants) or "none"
            raise InputError(f"Scenario '{stem}' has no variant '{variant}'; it has: {known}.")
        data = with_overrides(data, _terms_beside(path, variants[variant]), wanted, model)
        data["name"] = f"{data['name']}:{variant}"
    return data


def _path_of(wanted: str, kind: str | None = None) -> Path:
    return find_file(split_variant(wanted)[0], SCENARIO_FOLDER, "scenario", lambda: shipped_names(kind), wanted)


def _kind_of(path: Path, extending: tuple[Path, ...] = ()) -> str:
    """Return the kind a file states, or that of what it extends."""
    data = _read(path)
    base = data.get("extends")
    if "kind" in data:
        return kind_named(data["kind"], f"Scenario file '{path}': the field 'kind'", path).name
    if base is None or path.resolve() in extending:
        return DEFAULT_KIND
    wanted = beside(path, str(base)) if is_file_name(split_variant(str(base))[0]) else str(base)
    return _kind_of(_path_of(wanted), (*extending, path.resolve()))


def _beside(path: Path, field: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return fields, or a variant's changes, with the file that one names looked for beside ``path``."""
    head, _, rest = field.partition(".")
    if rest and field not in data:  # a variant may name the whole
        inner = data.get(head)
        return {**data, head: _beside(path, rest, inner)} if isinstance(inner, dict) else data
    value = data.get(field)
    if isinstance(value, str) and (is_file_name(value, YAML + CSV + PARQUET) or "/" in value):  # perhaps of a folder
        return {**data, field: beside(path, value)}
    return data


def _parts(annotation: Any) -> set[str]:
    """Names of the fields of every model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return set(annotation.model_fields)
    return {name for inner in get_args(annotation) for name in _parts(inner)}


def _read(path: Path) -> dict[str, Any]:
    data = read_mapping(path, "Scenario file")
    variants = data.setdefault("variants", {})
    if not isinstance(variants, dict) or not all(isinstance(changes, dict) for changes in variants.values()):
        raise InputError(f"Scenario file '{path}': the field 'variants' must map names to changes, and does not.")
    for name, changes in variants.items():
        for key in (name, *changes):
            if not isinstance(key, str):
                raise InputError(f"Scenario file '{path}': in 'variants', {key!r} stands where a name is needed.")
    return data
