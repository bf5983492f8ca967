"""Trained policies on disk: configuration as JSON, weights as safetensors. No pickle, no Ray.

A ``policy/`` folder holds ``policy.json`` and ``weights.safetensors``. It is what evaluation and serving load.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.provisioning_policy import ProvisioningPolicy
from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.t2drl.allocator import AllocationActor
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.policy import T2DRLPolicy
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario, build_provisioning

FORMAT = "edgegen-policy/1"
MANIFEST = "policy.json"
WEIGHTS = "weights.safetensors"
LATENTS = "latents"
ALGORITHMS = ("ladts", "t2drl")
"""Algorithms whose policies this version reads."""

Spec = TypeVar("Spec", bound=BaseModel)


def save_policy(
    policy: LADTSPolicy | T2DRLPolicy,
    folder: Path,
    scenario: OffloadingScenario | ProvisioningScenario,
    training: dict[str, Any],
) -> None:
    """Write a policy folder; it appears whole or not at all.

    Args:
        policy: What was trained.
        folder: Where to; must not exist.
        scenario: The world it was trained in.
        training: What else to record: algorithm settings, seed, episodes.
    """
    networks: dict[str, torch.nn.Module] = {"actor": policy.actor}
    if isinstance(policy, T2DRLPolicy):
        networks["cacher"] = policy.cacher
    tensors = {
        f"{name}.{part}": value.contiguous()
        for name, net in networks.items()
        for part, value in net.state_dict().items()
    }
    if isinstance(policy, LADTSPolicy) and policy.latents is not None:
        tensors[LATENTS] = policy.latents.contiguous()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(tensors, temporary / WEIGHTS)
        manifest = {
            "format": FORMAT,
            "algorithm": "t2drl" if isinstance(policy, T2DRLPolicy) else "ladts",
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


def load_policy(folder: Path, scenario: OffloadingScenario, seed: int = 0) -> Policy:
    """Load a policy folder for an offloading scenario.

    Raises:
        InputError: If the folder is not a policy, is damaged, or was trained for another number of servers and can not
            do with these.
    """
    manifest = _manifest_of(folder, "ladts", scenario.name)
    spec = _spec(folder, manifest, ActorSpec).for_servers(scenario)
    if spec.servers != scenario.servers:
        trained = manifest.get("scenario", {}).get("name", "?")
        raise InputError(
            f"The policy in '{folder}' was trained for {spec.servers} servers (scenario '{trained}'), but scenario "
            f"'{scenario.name}' has {scenario.servers}; choose a scenario with {spec.servers} servers or train anew."
        )
    tensors = _tensors(folder, manifest)
    latents = tensors.pop(LATENTS, None)
    actor = make_actor(spec)
    _fill(folder, {"actor": actor}, tensors)
    return LADTSPolicy(actor, latents, seed)


def load_provisioning_policy(folder: Path, scenario: ProvisioningScenario, seed: int = 0) -> ProvisioningPolicy:
    """Load a policy folder for a provisioning scenario.

    Raises:
        InputError: If the folder is not a policy, is damaged, or was trained for other numbers of cells, users, models
            or states of the skewness.
    """
    manifest = _manifest_of(folder, "t2drl", scenario.name)
    if not isinstance(manifest.get("scenario"), dict):
        raise InputError(f"The policy in '{folder}' is damaged: {MANIFEST} has no field 'scenario'.")
    spec = _spec(folder, manifest, T2DRLSpec)
    here = T2DRLSpec.of(scenario, spec.settings)
    for name in ("cells", "users", "models", "skewness_states"):
        if (trained := getattr(spec, name)) != (found := getattr(here, name)):
            raise InputError(
                f"The policy in '{folder}' was trained for {trained} {name.replace('_', ' ')}, but scenario "
                f"'{scenario.name}' has {found}; choose a scenario with {trained} or train anew."
            )
    actor, cacher = AllocationActor(spec), CachingNetwork(spec)
    _fill(folder, {"actor": actor, "cacher": cacher}, _tensors(folder, manifest))
    # The states keep the scales of the world it was trained in.
    return T2DRLPolicy(actor, cacher, build_provisioning(dict(manifest["scenario"])), seed)


def _manifest_of(folder: Path, algorithm: str, scenario: str) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest["algorithm"] != algorithm:
        raise InputError(
            f"The policy in '{folder}' was trained by {manifest['algorithm']} for another kind of scenario than "
            f"'{scenario}'; policies for it are trained by {algorithm}."
        )
    return manifest


def _spec(folder: Path, manifest: dict[str, Any], model: type[Spec]) -> Spec:
    try:
        return model.model_validate(manifest.get("spec"))
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(f"The policy in '{folder}' is damaged: {MANIFEST} has a bad field 'spec.{field}'.") from None


def _tensors(folder: Path, manifest: dict[str, Any]) -> dict[str, torch.Tensor]:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"The policy in '{folder}' is incomplete: {WEIGHTS} is missing.")
    if _digest(weights) != manifest.get("weights_sha256"):
        raise InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not match its checksum in {MANIFEST}.")
    try:
        tensors: dict[str, torch.Tensor] = load_file(weights)
    except SafetensorError as error:
        raise _unfit(folder, error) from None
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise InputError(f"The policy in '{folder}' is unusable: {WEIGHTS} holds values that are not finite.")
    return tensors


def _fill(folder: Path, networks: dict[str, torch.nn.Module], tensors: dict[str, torch.Tensor]) -> None:
    """Load the weights of every network, whose names their tensors begin with."""
    for name, network in networks.items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise _unfit(folder, error) from None
        network.requires_grad_(False)


def _unfit(folder: Path, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0]
    return InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not fit its spec ({reason}).")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check ``policy.json``.

    Raises:
        InputError: If it is missing, not JSON, of another format or of an unknown algorithm.
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
    if manifest.get("algorithm") not in ALGORITHMS:
        raise InputError(
            f"The policy in '{folder}' is of the algorithm '{manifest.get('algorithm')}'; this version of edgegen has "
            f"{', '.join(ALGORITHMS)}."
        )
    checked: dict[str, Any] = manifest
    return checked


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
