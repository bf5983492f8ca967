# SPDX-License-Identifier: Apache-2.0
"""The kinds of worlds that can be served: the one place of the service that knows which there are.

The entry of a kind that comes with the package is ``SERVED`` in the module of its name in this folder. Others are
plugins (:mod:`edgegen.envs.core.plugins`), in every process: the gateway is one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import SHIPPED, kind_named, kinds
from edgegen.envs.core.plugins import GROUPS
from edgegen.envs.core.registry import Registry
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.live_world import LiveWorld
from edgegen.serve.control.steps import StepsView

Clock = Callable[[], float]
"""Monotonic time, s."""


@dataclass(frozen=True)
class Served:
    """How the worlds of one kind are served.

    Attributes:
        world: From a config, the books of its edges, the policy and the clock to the live world.
        scenario: From a config and the capacities of its edges in Gcycle/s to the scenario that policies have to fit.
        training: From a config to the scenario in which policies for it are trained; the same one if None.
        usual: Rule of the kind for roles that nobody is named for; its reference if None.
        steps: From a config, the name of an edge and the scenario of the service to what the allocator there sees; None
            if the kind has none.
        kind: Name of the kind; plugins say it.
    """

    world: Callable[[ServiceConfig, Sequence[Server], Policy, Clock], LiveWorld]
    scenario: Callable[[ServiceConfig, tuple[float, ...]], Any]
    training: Callable[[ServiceConfig], Any] | None = None
    usual: str | None = None
    steps: Callable[[ServiceConfig, str, Any], StepsView] | None = None
    kind: str = ""


SERVED: Registry[Served] = Registry(
    "way to serve the kind",
    {name: f"{module}:SERVED" for name in SHIPPED if find_spec(module := f"{__package__}.{name}")},
    groups=(*GROUPS, "edgegen.served"),
)
"""How worlds are served, by kind."""


def adopt(plugin: Any, reference: str) -> str | None:
    """Register a plugin if it says how a kind is served; returns the kind's name, or None if it is something else.

    Raises:
        InputError: If its kind is unknown, or is served already.
    """
    if not isinstance(plugin, Served):
        return None
    kind = kind_named(plugin.kind, f"kind of '{reference}'").name
    register_served(kind, plugin)
    return kind


def register_served(kind: str, served: Served) -> None:
    """Say how worlds of a kind are served.

    Raises:
        InputError: If that has been said already.
    """
    SERVED.register(kind, served)


def served(kind: str) -> Served:
    """Return how worlds of a kind are served.

    Raises:
        InputError: If there is no such kind, or its worlds can not be served.
    """
    name = kind_named(kind).name
    if (found := SERVED.get(name)) is None:
        raise InputError(f"Worlds of the kind {name} can not be served yet.")
    return found


def served_kinds() -> list[str]:
    """Names of the kinds whose worlds can be served."""
    known = SERVED.names()
    return [name for name in kinds() if name in known]


def scenario_of(
    config: ServiceConfig, measured_gcycles_s: Mapping[str, float] | None = None, kind: str | None = None
) -> Any:
    """Describe the edges of a service as a scenario, to check that a policy fits.

    Args:
        config: The service.
        measured_gcycles_s: As for :meth:`ServiceConfig.capacities_gcycles_s`.
        kind: Kind of the scenario; that of the service if None.

    Raises:
        InputError: If its kind can not be served, or no scenario can stand for it.
    """
    return served(kind or config.kind).scenario(config, config.capacities_gcycles_s(measured_gcycles_s))


def training_scenario(config: ServiceConfig) -> Any:
    """Describe a service as a world to train in.

    Raises:
        InputError: As for :func:`scenario_of`.
    """
    training = served(config.kind).training
    return scenario_of(config) if training is None else training(config)
