"""Policies as MLflow models: what goes in, what comes out, and how ``mlflow.pyfunc`` loads one.

An input is what a policy observes, as arrays by name; parts of parts have dotted names (``tasks.size_mbit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.learners import find_learner
from edgegen.envs.offloading.view import RouterView
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import AllocatorView, CacherView
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.platform.worlds import AnyPolicy, World, policy_for

Arrays = dict[str, NDArray[Any]]

_UNKNOWABLE = ("frame.popularity",)
"""What no real server knows, and no trained policy uses."""
_OPEN_AXES = {"tasks.": (2,), "server": (2,), "frame.history": (1,)}
"""Axes of any length beside the first, by beginning of the name."""


class PolicyModel:
    """A trained policy behind MLflow's interface. Every call is a decision by itself, from the trained memory.

    Args:
        policy: The policy.
        world: The world it was trained in.
    """

    def __init__(self, policy: AnyPolicy, world: World) -> None:
        self.policy = policy
        self.world = world

    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Arrays:
        """Decide.

        Args:
            model_input: Arrays by name, as in the model's signature.
            params: ``slot`` and ``frame`` (numbers), ``sample`` (draw actions instead of taking the most likely ones)
                and ``seed``.

        Returns:
            For offloading ``server [E, B, N]``; for provisioning what to cache in the frame, ``cache [E, C, M]``, and
            how to divide the slot given what is cached now, ``bandwidth`` and ``compute [E, C, N]``.
        """
        given = {"slot": 0, "frame": 0, "sample": False, "seed": 0, **(params or {})}
        explore = bool(given["sample"])
        self.policy.seed(int(given["seed"]))
        numbers = {"slot": int(given["slot"]), "frame": int(given["frame"])}
        with torch.no_grad():
            if isinstance(self.policy, Policy):
                observation = _rebuilt(RouterView, model_input, "", numbers)
                server, _ = self.policy.act(observation, self.policy.begin(observation), explore)
                return {"server": server.numpy()}
            frame = _rebuilt(CacherView, model_input, "frame.", numbers)
            slot = _rebuilt(AllocatorView, model_input, "slot.", numbers)
            memory = self.policy.begin(frame)
            cache, memory = self.policy.cache(frame, memory, explore)
            bandwidth, compute, _ = self.policy.allocate(slot, memory, explore)
            return {"cache": cache.numpy(), "bandwidth": bandwidth.numpy(), "compute": compute.numpy()}


def _load_pyfunc(data_path: str) -> PolicyModel:
    """Load a policy folder; called by ``mlflow.pyfunc.load_model``."""
    folder = Path(data_path)
    manifest = read_manifest(folder)
    world: World = find_learner(manifest["algorithm"]).build_scenario(dict(manifest["scenario"]))
    return PolicyModel(policy_for(str(folder), world, 0), world)


def signature_of(folder: Path) -> Any:
    """Return the MLflow signature of a policy folder: names, types and shapes of what goes in and comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema

    model = _load_pyfunc(str(folder))
    example = example_input(model.world)
    return ModelSignature(
        inputs=Schema(_specs(example)),
        outputs=Schema(_specs(model.predict(example))),
        params=ParamSchema(
            [
                ParamSpec("slot", "long", 0),
                ParamSpec("frame", "long", 0),
                ParamSpec("sample", "boolean", False),
                ParamSpec("seed", "long", 0),
            ]
        ),
    )


def example_input(world: World) -> Arrays:
    """Return what a policy observes at the beginning of an episode, one copy."""
    if not isinstance(world, ProvisioningScenario):
        return _flat(OffloadingWorld(world, 1).reset(seed=0), "")
    simulator = ProvisioningWorld(world, 1)
    simulator.reset(0)
    frame = simulator.observe_frame()
    simulator.cache(torch.zeros_like(frame.previous_cache))
    return {**_flat(frame, "frame."), **_flat(simulator.observe_slot(), "slot.")}


def _specs(arrays: Arrays) -> list[Any]:
    from mlflow.types import TensorSpec

    specs = []
    for name, array in arrays.items():
        open_axes = {0, *(axis for start, axes in _OPEN_AXES.items() if name.startswith(start) for axis in axes)}
        shape = tuple(-1 if axis in open_axes else size for axis, size in enumerate(array.shape))
        specs.append(TensorSpec(array.dtype, shape, name))
    return specs


def _flat(part: Any, prefix: str) -> Arrays:
    arrays: Arrays = {}
    for field in fields(part):
        name, value = prefix + field.name, getattr(part, field.name)
        if is_dataclass(value):
            arrays |= _flat(value, f"{name}.")
        elif isinstance(value, Tensor) and name not in _UNKNOWABLE:
            arrays[name] = value.contiguous().numpy()
    return arrays


def _rebuilt(kind: type[Any], arrays: Mapping[str, Any], prefix: str, numbers: Mapping[str, int]) -> Any:
    values: dict[str, Any] = {}
    may_be_absent = {field.name for field in fields(kind) if field.default is not MISSING}
    for name, hint in get_type_hints(kind).items():
        full = prefix + name
        if name in may_be_absent and full not in arrays:  # worlds without it do not show it
            continue
        if is_dataclass(hint):
            values[name] = _rebuilt(hint, arrays, f"{full}.", numbers)  # type: ignore[arg-type]
        elif hint is int:
            values[name] = numbers[name]
        elif full in _UNKNOWABLE:
            values[name] = torch.full(arrays["frame.previous_cache"].shape, torch.nan)
        else:
            values[name] = torch.from_numpy(np.ascontiguousarray(arrays[full]))
    return kind(**values)
