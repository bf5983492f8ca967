# SPDX-License-Identifier: Apache-2.0
"""Rules with named constants: what `edgegen tune` searches, and policy folders of rules that were tuned.

A tuned rule is a learned policy with a dozen numbers: it has a folder like a trained one, and is compared, replayed,
combined and served by it. The folder holds ``policy.json`` alone; the constants are in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError

from edgegen.algorithms.core.familiar import MET, met_in
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.trained import FORMAT, MANIFEST, appearing_whole
from edgegen.envs.core.errors import InputError, from_validation
from edgegen.envs.core.fields import Frozen
from edgegen.envs.core.world import WorldScenario

TUNED = "tuned rule"
"""What stands for the method that trained a policy."""


class Constants(Frozen):
    """Constants of a rule, by name; every field is made by :func:`constant` or :func:`choice`: its range is known."""

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        """Ranges of all constants, by name."""
        found = {}
        for name, field in cls.model_fields.items():
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            found[name] = Range(**{key: tuple(v) if key == "options" else v for key, v in extra.items()})  # type: ignore
        return found

    @classmethod
    def starts(cls) -> tuple[Self, ...]:
        """What a search tries first, before it proposes anything: the defaults, and what else is known to be good."""
        return (cls(),)


@dataclass(frozen=True)
class Range:
    """Where a constant is searched: between two ends, evenly on a logarithmic scale or on a linear one, or by name.

    Attributes:
        low: Least value.
        high: Largest value.
        log: Whether the scale is logarithmic.
        options: Names of which the constant is one; then it is no number, and has no ends.
    """

    low: float = math.nan
    high: float = math.nan
    log: bool = False
    options: tuple[str, ...] = ()


def constant(default: float, low: float, high: float, log: bool = False) -> Any:
    """Declare a constant of a rule.

    Args:
        default: What it is unless tuned.
        low: Least value.
        high: Largest value.
        log: Whether it is searched on a logarithmic scale.
    """
    return Field(default, ge=low, le=high, json_schema_extra={"low": low, "high": high, "log": log})


def choice(default: str, options: Any) -> Any:
    """Declare a constant of a rule that is one of some names.

    Args:
        default: What it is unless tuned.
        options: The ``Literal`` of all names, which is also the type of the field.
    """
    return Field(default, json_schema_extra={"options": list(get_args(options))})


@dataclass(frozen=True)
class Tunable:
    """A rule that can be tuned.

    Attributes:
        constants: Its constants.
        make: Makes it for a scenario, with constants and a seed.
    """

    constants: type[Constants]
    make: Callable[[Any, Any, int], Policy]

    def maker(self, scenario: Any, seed: int) -> Policy:
        """Make it as it is unless tuned."""
        return self.make(scenario, self.constants(), seed)


def save_tuned(
    folder: Path, rule: str, policy: Policy, constants: Constants, scenario: WorldScenario, tuning: dict[str, Any]
) -> None:
    """Write the policy folder of a tuned rule; it appears whole or not at all.

    Args:
        folder: Where to; must not exist.
        rule: Name of the rule.
        policy: The rule as tuned.
        constants: Its constants.
        scenario: The world it was tuned in.
        tuning: What else to record: trials, episodes, simulated requests, seed.
    """
    manifest = {
        "format": FORMAT,
        "algorithm": TUNED,
        "rule": rule,
        "roles": sorted(policy.roles),
        "constants": constants.model_dump(),
        "scenario": scenario.model_dump(),
        MET: met_in(scenario, {}),
        "training": tuning,
    }
    with appearing_whole(folder) as temporary:
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def restore_tuned(folder: Path, manifest: dict[str, Any], tunable: Tunable, scenario: Any, seed: int) -> Policy:
    """Make a rule with the constants of its folder.

    Raises:
        InputError: If a constant is unknown, missing or out of its range.
    """
    found = manifest.get("constants")
    if not isinstance(found, dict) or set(found) != set(tunable.constants.model_fields):
        expected = ", ".join(tunable.constants.model_fields)
        raise InputError(f"The policy in '{folder}' is damaged: its constants must be {expected}.")
    try:
        constants = tunable.constants.model_validate(found)
    except ValidationError as error:
        raise from_validation(error, f"The policy in '{folder}': constants", list(found)) from None
    policy = tunable.make(scenario, constants, seed)
    policy.name = tuned_name(manifest["rule"])
    return policy


def tuned_name(rule: str) -> str:
    """What a rule is called once its constants are tuned."""
    return f"{rule} (tuned)"
