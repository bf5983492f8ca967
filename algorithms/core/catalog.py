"""From a name, a folder or a registered model to a policy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edgegen.algorithms.core.codec import MANIFEST, load_policy, load_provisioning_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.core.registered import fetch, is_registered
from edgegen.algorithms.rules.benchmarks import ORACLES, PROVISIONING_BENCHMARKS
from edgegen.algorithms.rules.caching_optimum import is_plannable
from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.algorithms.rules.provisioning import PROVISIONING_RULES, make_provisioning_rule
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.paths import as_path, is_there
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario

CHECKPOINT_PREFIX = "checkpoint-"
"""Checkpoints of a run are folders ``checkpoint-<episodes>``; each holds ``algorithm/`` and ``policy/``."""


def make_policy(name_or_path: str, scenario: OffloadingScenario, seed: int = 0) -> Policy:
    """Make a rule by name, or load a trained policy from a run, checkpoint or ``policy/`` folder.

    Raises:
        InputError: If there is neither, or the policy is damaged or does not fit the scenario.
    """
    if name_or_path in RULES:
        return make_rule(name_or_path, seed)
    _refuse_other_kind(name_or_path, (*PROVISIONING_RULES, *PROVISIONING_BENCHMARKS), "provisioning", scenario, RULES)
    return load_policy(find_policy_folder(name_or_path), scenario, seed)


def provisioning_rules(scenario: ProvisioningScenario) -> list[str]:
    """Names of the rules and benchmarks that can play a provisioning scenario; oracles only where they can plan."""
    benchmarks = dict(PROVISIONING_BENCHMARKS)
    if not is_plannable(scenario):
        benchmarks = {name: make for name, make in benchmarks.items() if name not in ORACLES}
    return [*PROVISIONING_RULES, *benchmarks]


def make_provisioning_policy(name_or_path: str, scenario: ProvisioningScenario, seed: int = 0) -> ProvisioningPolicy:
    """Make a rule or a benchmark by name, or load a trained policy from a run, checkpoint or ``policy/`` folder.

    Raises:
        InputError: If there is neither, or the policy is damaged or does not fit the scenario.
    """
    if name_or_path in PROVISIONING_RULES:
        return make_provisioning_rule(name_or_path, seed)
    if name_or_path in PROVISIONING_BENCHMARKS:
        return PROVISIONING_BENCHMARKS[name_or_path](scenario, seed)
    rules = (*PROVISIONING_RULES, *PROVISIONING_BENCHMARKS)
    _refuse_other_kind(name_or_path, RULES, "offloading", scenario, rules)
    return load_provisioning_policy(find_policy_folder(name_or_path, rules), scenario, seed)


def _refuse_other_kind(
    name: str,
    others: Collection[str],
    kind: str,
    scenario: OffloadingScenario | ProvisioningScenario,
    known: Collection[str],
) -> None:
    if name in others:
        own = "offloading" if kind == "provisioning" else "provisioning"
        raise InputError(
            f"The policy '{name}' is for {kind}, but scenario '{scenario.name}' is of the kind {own}; "
            f"rules for it are {', '.join(known)}."
        )


def find_policy_folder(name_or_path: str, rules: Collection[str] = tuple(RULES)) -> Path:
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
