# SPDX-License-Identifier: Apache-2.0
"""Trainings of one method that differ in their seeds alone, for comparisons of methods and not of lucky runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgegen.algorithms.core.catalog import find_policy_folder, split_roles
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.core.rulebook import rules_for
from edgegen.algorithms.core.tunable import TUNED, tuned_name
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.runs.comparison import Comparison, pooled_row


@dataclass(frozen=True)
class Training:
    """What made a policy.

    Attributes:
        label: Label of the policy.
        method: Name of its method, with its preset.
        essence: All that decides what a training becomes but its seed, as text.
        seed: Training seed.
    """

    label: str
    method: str
    essence: str
    seed: int


def training_of(label: str, folder: str) -> Training:
    """Read what made the policy of a run, a checkpoint or a policy folder.

    Raises:
        InputError: If there is no policy, or it does not say how it was trained.
    """
    manifest = read_manifest(find_policy_folder(folder, ()))
    training = manifest.get("training")
    if not isinstance(training, dict) or not isinstance(training.get("seed"), int):
        raise InputError(f"The policy in '{folder}' does not say with which seed it was trained; it can not be pooled.")
    if manifest["algorithm"] == TUNED:
        method = tuned_name(str(manifest["rule"]))
        what: dict[str, Any] = {name: value for name, value in training.items() if name in ("trials", "episodes")}
    else:
        method = " ".join(filter(None, (manifest["algorithm"], training.get("preset"))))
        what = {"settings": training.get("settings"), "episodes": training.get("episodes")}
    essence = json.dumps([method, what, manifest.get("scenario")], sort_keys=True)
    return Training(label, method, essence, training["seed"])


def in_folders(named: Mapping[str, str], world: WorldScenario) -> dict[str, str]:
    """Return those of the policies that lie in folders or a registry, by label.

    Args:
        named: What the policies are called where they are made, plugins by the names of their rules.
        world: Where they play.
    """
    rules, roles = rules_for(world), kind_of(world).world.roles
    return {label: name for label, name in named.items() if name not in rules and not split_roles(name, roles)}


def pooled_by_method(comparison: Comparison, folders: Mapping[str, str]) -> Comparison:
    """Pool the policies of a comparison that the same method made with other seeds, each method to one row.

    Args:
        comparison: The policies one by one.
        folders: Where the trained ones are, by label; the others stay as they are.

    Raises:
        InputError: If two are the same training, if the reference is one of those, or if a policy does not say how it
            was trained.
    """
    if comparison.reference in folders:
        raise InputError(
            f"--reference is '{comparison.reference}', but trainings are pooled; compare with a rule that is not one "
            "of them."
        )
    found = [training_of(label, folder) for label, folder in folders.items()]
    groups: dict[str, list[Training]] = {}
    for training in found:
        group = groups.setdefault(training.essence, [])
        for other in group:
            if other.seed == training.seed:
                raise InputError(
                    f"'{other.label}' and '{training.label}' are the same training with the same seed "
                    f"({training.seed}); pool different ones."
                )
        group.append(training)
    base = comparison.row(comparison.reference)
    ceiling = next((row for row in comparison.rows if row.label == comparison.kind.ceiling), None)
    rows = [row for row in comparison.rows if row.label not in folders]
    names = _names(list(groups.values()))
    for name, group in zip(names, groups.values(), strict=True):
        members = {training.seed: comparison.row(training.label) for training in group}
        results = {seed: row.results for seed, row in sorted(members.items())}
        information = next(iter(members.values())).information
        rows.append(pooled_row(name, information, results, base.results, None if ceiling is None else ceiling.results))
    return comparison.with_rows(rows)


def _names(groups: list[list[Training]]) -> list[str]:
    """A name for each group: its method, and the label of its first member where two groups have the same."""
    methods = [group[0].method for group in groups]
    return [
        method if methods.count(method) == 1 else f"{method} ({group[0].label}{', …' if len(group) > 1 else ''})"
        for method, group in zip(methods, groups, strict=True)
    ]
