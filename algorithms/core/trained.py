# SPDX-License-Identifier: Apache-2.0
"""Trained policies, and what is stored of them."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError

FORMAT = "edgegen-policy/1"
MANIFEST = "policy.json"
WEIGHTS = "weights.safetensors"

Spec = TypeVar("Spec", bound=BaseModel)


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes ``folder``, which must not exist, when the block ends without a fault."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp is private; a policy is meant to be read by the service
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


class Decided(NamedTuple):
    """A decision with all that its transition needs.

    Attributes:
        action: What is done, as :meth:`Policy.act` returns it.
        record: How it came about, of the policy's own type.
        memory: What is remembered from now on.
    """

    action: Tensor
    record: Any
    memory: Memory


class TrainedPolicy(Policy):
    """A policy whose networks were trained, and which can be stored.

    Attributes:
        method: Name of the method that trains such policies.
        spec: All that is needed to rebuild the networks.
    """

    method: ClassVar[str]
    spec: Any
    trained = True

    @property
    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks that decide, by name."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored beside the weights of the networks, by name."""
        return {}

    @abstractmethod
    def decide(self, role: str, view: Any, memory: Memory, explore: bool = True) -> Decided:
        """Decide on a turn, and tell how; arguments as for :meth:`Policy.act`."""

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        decided = self.decide(role, view, memory, explore)
        return decided.action, decided.memory

    def kept(self, memory: Memory) -> Memory:
        """What of the memory of a training belongs to the policy."""
        del memory
        return {}

    def take(self, kept: Memory) -> None:
        """Begin with what belongs to a trained policy from now on."""


@dataclass(frozen=True)
class StoredPolicy:
    """A policy as it was read from its folder, not yet rebuilt.

    Attributes:
        folder: Where it was.
        manifest: Content of ``policy.json``.
        tensors: Content of ``weights.safetensors``.
    """

    folder: Path
    manifest: dict[str, Any]
    tensors: dict[str, Tensor]

    def spec(self, model: type[Spec]) -> Spec:
        """Return what the networks are.

        Raises:
            InputError: If the manifest does not say so.
        """
        try:
            return model.model_validate(self.manifest.get("spec"))
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError(
                f"The policy in '{self.folder}' is damaged: {MANIFEST} has a bad field 'spec.{field}'."
            ) from None

    @property
    def scenario(self) -> dict[str, Any]:
        """The world it was trained in, as plain data.

        Raises:
            InputError: If the manifest does not say so.
        """
        found = self.manifest.get("scenario")
        if not isinstance(found, dict):
            raise InputError(f"The policy in '{self.folder}' is damaged: {MANIFEST} has no field 'scenario'.")
        return dict(found)

    def fill(self, networks: dict[str, nn.Module]) -> None:
        """Load the weights of every network, whose names their tensors begin with.

        Raises:
            InputError: If they do not fit.
        """
        for name, network in networks.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise unfit(self.folder, error) from None
            network.requires_grad_(False)


def unfit(folder: Path, error: Exception) -> InputError:
    """Make the complaint about weights that do not fit."""
    reason = str(error).strip().splitlines()[0]
    return InputError(f"The policy in '{folder}' is damaged: {WEIGHTS} does not fit its spec ({reason}).")
