# SPDX-License-Identifier: Apache-2.0
"""Policies as MLflow models: what goes in, what comes out, and how ``mlflow.pyfunc`` loads one.

An input is what a policy observes, as arrays by name; parts of parts have dotted names (``tasks.size_mbit``). Where a
policy has several roles, names begin with the role (``cacher.size_gb``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.codec import read_manifest
from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import Role, WorldScenario

Arrays = dict[str, NDArray[Any]]

NUMBERS = ("slot", "frame")
"""Whole numbers of views, which are parameters of a call."""


class PolicyModel:
    """A trained policy behind MLflow's interface. Every call is a decision by itself, from the trained memory.

    Args:
        policy: The policy.
        scenario: The world it was trained in.
    """

    def __init__(self, policy: Policy, scenario: WorldScenario) -> None:
        self.policy = policy
        self.scenario = scenario

    @property
    def roles(self) -> dict[str, Role]:
        """Roles that it decides for, by what the names of their inputs begin with."""
        roles: Mapping[str, Role] = kind_of(self.scenario).world.roles
        own = [role for name, role in roles.items() if name in self.policy.roles]
        return {(f"{role.name}." if len(own) > 1 else ""): role for role in own}

    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Arrays:
        """Decide.

        Args:
            model_input: Arrays by name, as in the model's signature.
            params: ``slot`` and ``frame`` (numbers), ``sample`` (draw actions instead of taking the most likely ones)
                and ``seed``.

        Returns:
            What each role decides: for offloading ``server [E, B, N]``; for provisioning what to cache in the frame,
            ``cache [E, C, M]``, and how to divide the slot given what is cached now, ``bandwidth`` and ``compute
            [E, C, N]``.
        """
        given = {**dict.fromkeys(NUMBERS, 0), "sample": False, "seed": 0, **(params or {})}
        explore = bool(given["sample"])
        self.policy.seed(int(given["seed"]))
        numbers = {name: int(given[name]) for name in NUMBERS}
        decided: Arrays = {}
        memory: dict[str, Tensor] = {}
        with torch.no_grad():
            for prefix, role in self.roles.items():
                view = _rebuilt(role.view, model_input, prefix, numbers)
                memory |= self.policy.begin(role.name, view)
                action, memory = self.policy.act(role.name, view, memory, explore)
                parts = [action] if len(role.decides) == 1 else action.unbind(-1)
                decided |= {name: part.contiguous().numpy() for name, part in zip(role.decides, parts, strict=True)}
        return decided

    def example_input(self) -> Arrays:
        """Return what the policy observes at the beginning of an episode, one copy; the policy stays as it is."""
        policy = copy.deepcopy(self.policy)  # some draw random numbers even where they do not explore
        world = kind_of(self.scenario).world(self.scenario, 1)
        world.reset(0)
        arrays: Arrays = {}
        memory = policy.prepare(world)
        for prefix, role in self.roles.items():
            view = world.observe()
            arrays |= _flat(view, role.view, prefix)
            memory |= policy.begin(role.name, view)
            action, memory = policy.act(role.name, view, memory, explore=False)
            world.decide(action)
        return arrays

    def open_axes(self, name: str) -> set[int]:
        """Axes of any length of an input or an output."""
        for prefix, role in self.roles.items():
            if name in role.decides:
                return {0, 2} if role.varies else {0}
            if name.startswith(prefix):
                head = name.removeprefix(prefix).partition(".")[0]
                found = [field for field in fields(role.view) if field.name == head]
                if found:
                    return {0, *found[0].metadata.get("open_axes", ())}
        return {0}


def _load_pyfunc(data_path: str) -> PolicyModel:
    """Load a policy folder; called by ``mlflow.pyfunc.load_model``."""
    folder = Path(data_path)
    manifest = read_manifest(folder)
    scenario: WorldScenario = build_scenario(dict(manifest["scenario"]))
    return PolicyModel(make_policy(str(folder), scenario, 0), scenario)


def signature_of(folder: Path) -> Any:
    """Return the MLflow signature of a policy folder: names, types and shapes of what goes in and comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema

    model = _load_pyfunc(str(folder))
    example = model.example_input()
    return ModelSignature(
        inputs=Schema(_specs(model, example)),
        outputs=Schema(_specs(model, model.predict(example))),
        params=ParamSchema(
            [
                *(ParamSpec(name, "long", 0) for name in NUMBERS),
                ParamSpec("sample", "boolean", False),
                ParamSpec("seed", "long", 0),
            ]
        ),
    )


def _specs(model: PolicyModel, arrays: Arrays) -> list[Any]:
    from mlflow.types import TensorSpec

    specs = []
    for name, array in arrays.items():
        open_axes = model.open_axes(name)
        shape = tuple(-1 if axis in open_axes else size for axis, size in enumerate(array.shape))
        specs.append(TensorSpec(array.dtype, shape, name))
    return specs


def _flat(view: Any, of: type[Any], prefix: str) -> Arrays:
    """Arrays of a view by name: those fields that its class has, and that can be known."""
    arrays: Arrays = {}
    for field in _known(of):
        name, value = prefix + field.name, getattr(view, field.name)
        if is_dataclass(value):
            arrays |= _flat(value, type(value), f"{name}.")
        elif isinstance(value, Tensor):
            arrays[name] = value.contiguous().numpy()
    return arrays


def _known(of: type[Any]) -> Iterator[Any]:
    return (field for field in fields(of) if "unknowable_like" not in field.metadata)


def _rebuilt(of: type[Any], arrays: Mapping[str, Any], prefix: str, numbers: Mapping[str, int]) -> Any:
    values: dict[str, Any] = {}
    hints = get_type_hints(of)
    for field in fields(of):
        full, hint = prefix + field.name, hints[field.name]
        like = field.metadata.get("unknowable_like")
        if is_dataclass(hint):
            values[field.name] = _rebuilt(hint, arrays, f"{full}.", numbers)  # type: ignore[arg-type]
        elif hint is int:
            values[field.name] = numbers[field.name]
        elif like is not None:
            values[field.name] = torch.full(arrays[prefix + like].shape, torch.nan)
        elif full in arrays or hint is Tensor:  # others may be missing
            values[field.name] = torch.from_numpy(np.ascontiguousarray(arrays[full]))
    return of(**values)
