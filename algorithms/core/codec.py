# SPDX-License-Identifier: Apache-2.0
"""Trained policies on disk: configuration as JSON, weights as safetensors. No pickle, no Ray.

A ``policy/`` folder holds ``policy.json`` and ``weights.safetensors``. It is what evaluation and serving load.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgegen.algorithms.core.familiar import MET, met_in, unfamiliar
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.algorithms.core.trained import (
    FORMAT,
    MANIFEST,
    WEIGHTS,
    StoredPolicy,
    TrainedPolicy,
    appearing_whole,
    unfit,
)
from edgegen.algorithms.core.tunable import TUNED, restore_tuned
from edgegen.algorithms.methods.registry import find_method, methods, methods_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import DEFAULT_KIND, Traits, kind_named
from edgegen.envs.core.world import WorldScenario


def save_policy(policy: TrainedPolicy, folder: Path, scenario: WorldScenario, training: dict[str, Any]) -> None:
    """Write a policy folder; it appears whole or not at all.

    Args:
        policy: What was trained.
        folder: Where to; must not exist.
        scenario: The world it was trained in.
        training: What else to record: algorithm settings, seed, episodes.
    """
    tensors = {
        f"{name}.{part}": value.contiguous()
        for name, net in policy.networks.items()
        for part, value in net.state_dict().items()
    }
    tensors |= {name: value.contiguous() for name, value in policy.tensors.items()}
    with appearing_whole(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        manifest = {
            "format": FORMAT,
            "algorithm": policy.method,
            "roles": sorted(policy.roles),
            "spec": policy.spec.model_dump(),
            "weights_sha256": _digest(temporary / WEIGHTS),
            "scenario": scenario.model_dump(),
            MET: met_in(scenario, _also(policy.method, training)),
            "training": training,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def load_policy(folder: Path, scenario: WorldScenario, seed: int = 0) -> Policy:
    """Load a policy folder for a scenario: a trained policy, or a rule that was tuned.

    Raises:
        InputError: If the folder is not a policy, is damaged, or was trained for another kind or size of world and can
            not do with this one.
    """
    manifest = read_manifest(folder)
    if manifest["algorithm"] == TUNED:
        return _tuned(folder, manifest, scenario, seed)
    method = find_method(manifest["algorithm"])
    if method.kind_name != scenario.kind:
        fitting = ", ".join(other.name for other in methods_for(scenario.kind)) or "no method yet"
        raise InputError(
            f"The policy in '{folder}' was trained by {method.name} for another kind of scenario than "
            f"'{scenario.name}'; policies for it are trained by {fitting}."
        )
    policy = method.restore(StoredPolicy(folder, manifest, _tensors(folder, manifest)), scenario, seed)
    policy.notes = unfamiliar(manifest, _also(method.name, manifest.get("training")), scenario)
    return policy


def _also(method: str, training: Any) -> Traits:
    """What a training met besides what its scenario says."""
    settings = training.get("settings") if isinstance(training, dict) else None
    return find_method(method).met(settings if isinstance(settings, dict) else {})


def _tuned(folder: Path, manifest: dict[str, Any], scenario: WorldScenario, seed: int) -> Policy:
    rule, known = manifest.get("rule"), rule_book(scenario.kind).tunable
    if not isinstance(rule, str) or rule not in known:
        raise InputError(
            f"The policy in '{folder}' is the tuned rule '{rule}', but the rules with constants for scenario "
            f"'{scenario.name}' are {', '.join(known) or 'none'}."
        )
    policy = restore_tuned(folder, manifest, known[rule], scenario, seed)
    policy.notes = unfamiliar(manifest, {}, scenario)
    return policy


def _tensors(folder: Path, manifest: dict[str, Any]) -> dict[str, torch.Tensor]:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"The policy in '{folder}' is incomplete: {WEIGHTS} is missing.")
    if _digest(weights) != manifest.get("weights_sha256"):
        raise InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not match its checksum in {MANIFEST}.")
    try:
        tensors: dict[str, torch.Tensor] = load_file(weights)
    except SafetensorError as error:
        raise unfit(folder, error) from None
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise InputError(f"The policy in '{folder}' is unusable: {WEIGHTS} holds values that are not finite.")
    return tensors


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check ``policy.json``.

    Raises:
        InputError: If it is missing, not JSON, of another format, or of an unknown algorithm or kind of world.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{folder}' is not a policy folder: {MANIFEST} is missing.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"The policy in '{folder}' is damaged: {MANIFEST} can not be read ({error}).") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(f"The policy in '{folder}' has format '{found}'; this version of edgegen reads '{FORMAT}'.")
    known = methods()
    if manifest.get("algorithm") not in {*known, TUNED}:
        raise InputError(
            f"The policy in '{folder}' is of the algorithm '{manifest.get('algorithm')}'; this version of edgegen has "
            f"{', '.join(known)}."
        )
    checked: dict[str, Any] = manifest
    scenario = checked.get("scenario")
    if isinstance(scenario, dict):  # who needs it complains where it is missing
        kind_named(scenario.get("kind", DEFAULT_KIND), f"The policy in '{folder}': the field 'kind' of its scenario")
    return checked


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
