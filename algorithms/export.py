"""Trained policies on disk: configuration as JSON, weights as safetensors. No pickle, no Ray.

A ``policy/`` folder holds ``policy.json`` and ``weights.safetensors``. It is what evaluation and serving load.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgegen.algorithms.ladts.actor import ActorSpec, LatentDiffusionActor
from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.policy import Policy
from edgegen.envs.errors import InputError
from edgegen.envs.scenario import Scenario

FORMAT = "edgegen-policy/1"
MANIFEST = "policy.json"
WEIGHTS = "weights.safetensors"
LATENTS = "latents"


def save_policy(policy: LADTSPolicy, folder: Path, scenario: Scenario, training: dict[str, Any]) -> None:
    """Write a policy folder; it appears whole or not at all.

    Args:
        policy: What was trained.
        folder: Where to; must not exist.
        scenario: The world it was trained in, recorded for people.
        training: What else to record: algorithm settings, seed, episodes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        tensors = {f"actor.{name}": value.contiguous() for name, value in policy.actor.state_dict().items()}
        if policy.latents is not None:
            tensors[LATENTS] = policy.latents.contiguous()
        save_file(tensors, temporary / WEIGHTS)
        manifest = {
            "format": FORMAT,
            "algorithm": "ladts",
            "spec": policy.spec.model_dump(),
            "weights_sha256": _digest(temporary / WEIGHTS),
            "scenario": scenario.model_dump(),
            "training": training,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp is private; a policy is meant to be read by the service
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_policy(folder: Path, scenario: Scenario, seed: int = 0) -> Policy:
    """Load a policy folder for a scenario.

    Raises:
        InputError: If the folder is not a policy, is damaged, or was trained for another number of servers.
    """
    manifest = read_manifest(folder)
    try:
        spec = ActorSpec.model_validate(manifest.get("spec"))
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(f"The policy in '{folder}' is damaged: {MANIFEST} has a bad field 'spec.{field}'.") from None
    if spec.servers != scenario.servers:
        trained = manifest.get("scenario", {}).get("name", "?")
        raise InputError(
            f"The policy in '{folder}' was trained for {spec.servers} servers (scenario '{trained}'), but scenario "
            f"'{scenario.name}' has {scenario.servers}; choose a scenario with {spec.servers} servers or train anew."
        )
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"The policy in '{folder}' is incomplete: {WEIGHTS} is missing.")
    if _digest(weights) != manifest.get("weights_sha256"):
        raise InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not match its checksum in {MANIFEST}.")
    try:
        tensors = load_file(weights)
        latents = tensors.pop(LATENTS, None)
        actor = LatentDiffusionActor(spec)
        actor.load_state_dict({name.removeprefix("actor."): value for name, value in tensors.items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not fit its spec ({reason}).") from None
    if not all(torch.isfinite(value).all() for value in actor.state_dict().values()):
        raise InputError(f"The policy in '{folder}' is unusable: {WEIGHTS} holds values that are not finite.")
    actor.requires_grad_(False)
    return LADTSPolicy(actor, latents, seed)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check ``policy.json``.

    Raises:
        InputError: If it is missing, not JSON, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{folder}' is not a policy folder: {MANIFEST} is missing.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"The policy in '{folder}' is damaged: {MANIFEST} can not be read ({error}).") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or manifest.get("algorithm") != "ladts":
        raise InputError(f"The policy in '{folder}' has format '{found}'; this version of edgegen reads '{FORMAT}'.")
    checked: dict[str, Any] = manifest
    return checked


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
