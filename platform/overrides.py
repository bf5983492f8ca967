# SPDX-License-Identifier: Apache-2.0
"""``--set key=value``: changes to a scenario or an algorithm, from the command line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import yaml

from edgegen.envs.core.errors import InputError, did_you_mean, shortened
from edgegen.envs.core.yaml_files import parse_yaml


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` texts; values are YAML scalars, lists or mappings, and the last of a repeated key holds.

    Raises:
        InputError: If a text has no ``=``, no key, or a value that is not YAML or names a field twice.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        key = key.strip()
        if not separator or not key:
            raise InputError(
                f"--set '{shortened(setting)}' must look like key=value, for example --set tasks_per_slot.high=30."
            )
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            shown = shortened(" ".join(text.split()))
            raise InputError(
                f"--set {key}: '{shown}' is not a YAML value such as 3, 0.5, true or [1, 2]: {error}."
            ) from None
        if value is None:
            raise InputError(f"--set {key} has no value; write {key}=VALUE.")
        overrides[key] = value
    return overrides


def split_overrides(
    overrides: dict[str, Any], scenario_fields: Collection[str], algorithm_fields: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide overrides into those of the scenario and those of the algorithm.

    A name belongs to whoever has a field of that name; ``scenario.x`` and ``algorithm.x`` say it outright.

    Args:
        overrides: Values by dotted name.
        scenario_fields: Top-level fields of a scenario.
        algorithm_fields: Fields of the algorithm's configuration; empty where there is no algorithm.

    Returns:
        Overrides of the scenario and of the algorithm, without the prefixes.

    Raises:
        InputError: If a name is unknown, or belongs to both.
    """
    scenario: dict[str, Any] = {}
    algorithm: dict[str, Any] = {}
    for name, value in overrides.items():
        head, _, rest = name.partition(".")
        if head == "scenario" and rest:
            scenario[rest] = value
        elif head == "algorithm" and rest and algorithm_fields:
            algorithm[rest] = value
        elif head in scenario_fields and head in algorithm_fields:
            raise InputError(
                f"--set {name}: both the scenario and the algorithm have a field '{head}'; "
                f"write scenario.{name} or algorithm.{name}."
            )
        elif head in scenario_fields:
            scenario[name] = value
        elif head in algorithm_fields:
            algorithm[name] = value
        else:
            known = [*sorted(scenario_fields), *sorted(algorithm_fields)]
            raise InputError(f"--set: unknown name '{name}'; known are {', '.join(known)}.{did_you_mean(head, known)}")
    return scenario, algorithm
