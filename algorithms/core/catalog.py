# SPDX-License-Identifier: Apache-2.0
"""From a name, a folder or a registered model to a policy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edgegen.algorithms.core.codec import load_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.registered import fetch, is_registered
from edgegen.algorithms.core.rulebook import kinds_with_rule, rule_book
from edgegen.algorithms.core.together import Together
from edgegen.algorithms.core.trained import MANIFEST
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.paths import as_path, is_there
from edgegen.envs.core.plugins import plugged
from edgegen.envs.core.world import WorldScenario

CHECKPOINT_PREFIX = "checkpoint-"
"""Checkpoints of a run are folders ``checkpoint-<episodes>``; each holds ``algorithm/`` and ``policy/``."""


def make_policy(name_or_path: str, scenario: WorldScenario, seed: int = 0) -> Policy:
    """Make a rule, search or oracle by name, or load a trained policy, for a scenario of whatever kind.

    Args:
        name_or_path: Name of a rule; a run, checkpoint or ``policy/`` folder; ``models:/NAME@ALIAS``; a reference to a
            plugin; or several of these by role, as in ``"router=runs/mine cacher=lru"``.
        scenario: The world.
        seed: Of the policy's random numbers.

    Raises:
        InputError: If there is none, or the policy is damaged or does not fit the scenario.
    """
    roles = tuple(kind_of(scenario).world.roles)
    parts = split_roles(name_or_path, roles)
    if parts:
        return _together(parts, roles, scenario, seed)
    name_or_path = plugged(name_or_path)
    book = rule_book(scenario.kind)
    if name_or_path in book.makers:  # one that can not play this very scenario says why
        return book.makers[name_or_path](scenario, seed)
    known = book.playable(scenario)
    others = kinds_with_rule(name_or_path)
    if others:
        raise InputError(
            f"The policy '{name_or_path}' is for {others[0]}, but scenario '{scenario.name}' is of the kind "
            f"{scenario.kind}; rules for it are {', '.join(known)}."
        )
    return load_policy(find_policy_folder(name_or_path, known), scenario, seed)


def split_roles(text: str, roles: Collection[str]) -> dict[str, str]:
    """Split ``"router=ONE cacher=OTHER"`` into policies by role; empty if the text does not begin with a role."""
    words = text.split(" ")
    if not any(words[0].startswith(f"{role}=") for role in roles):
        return {}
    parts: dict[str, str] = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not equals or role not in roles or not name:
            raise InputError(
                f"'{word}' in the policy '{text}' must look like ROLE=POLICY; roles are {', '.join(roles)}."
                f"{did_you_mean(role, roles)}"
            )
        if role in parts:
            raise InputError(f"The policy '{text}' names the role '{role}' twice.")
        parts[role] = name
    return parts


def plain_name(name_or_path: str, roles: Collection[str]) -> str:
    """Return what a person calls a policy, with references to plugins replaced by the names of their rules.

    Raises:
        InputError: If a plugin can not be used, or roles are misspelt.
    """
    parts = split_roles(name_or_path, roles)
    return " ".join(f"{role}={plugged(name)}" for role, name in parts.items()) or plugged(name_or_path)


def _together(parts: dict[str, str], roles: Collection[str], scenario: WorldScenario, seed: int) -> Policy:
    missing = [role for role in roles if role not in parts]
    if missing:
        raise InputError(
            f"Nobody decides for the role '{missing[0]}' in scenario '{scenario.name}'; add {missing[0]}=POLICY."
        )
    made = {name: make_policy(name, scenario, seed) for name in dict.fromkeys(parts.values())}
    for role, name in parts.items():
        if role not in made[name].roles:
            raise InputError(
                f"The policy '{name}' does not decide for the role '{role}'; it does for "
                f"{', '.join(sorted(made[name].roles))}."
            )
    return Together({role: made[name] for role, name in parts.items()}, seed)


def find_policy_folder(name_or_path: str, rules: Collection[str]) -> Path:
    """Find the ``policy/`` folder in a run (its latest checkpoint), a checkpoint or a registered model, or take itself.

    Args:
        name_or_path: The folder, or ``models:/NAME@ALIAS``.
        rules: Names that would have been understood as well, for the complaint.

    Raises:
        InputError: If there is none.
    """
    if is_registered(name_or_path):
        return fetch(name_or_path)
    folder = as_path(name_or_path, "Policy")
    if not is_there(folder):
        raise InputError(
            f"Unknown policy '{name_or_path}'; give a rule ({', '.join(rules)}) or the folder of a trained policy."
            f"{did_you_mean(name_or_path, rules)}"
        )
    latest = latest_checkpoint(folder)
    for candidate in (folder, folder / "policy", *([latest / "policy"] if latest else [])):
        if (candidate / MANIFEST).is_file():
            return candidate
    raise InputError(f"'{folder}' holds no trained policy: neither a run with a checkpoint nor a policy folder.")


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the one with the most episodes last; they appear whole, so each is complete."""
    found = [
        (int(number), path)
        for path in run.glob(f"{CHECKPOINT_PREFIX}*")
        if (number := path.name.removeprefix(CHECKPOINT_PREFIX)).isdigit()
    ]
    return [path for _, path in sorted(found)]


def latest_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint of a run with the most episodes."""
    found = checkpoints(run)
    return found[-1] if found else None
