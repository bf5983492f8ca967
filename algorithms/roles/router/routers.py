# SPDX-License-Identifier: Apache-2.0
"""The table of routers, by the settings that choose one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.algorithms.roles.router.router import Router
from edgegen.algorithms.roles.router.sets import SetDiffusionRouter, SetRouter
from edgegen.algorithms.roles.router.spec import RouterSpec
from edgegen.algorithms.roles.router.stacked import DiffusionRouter, PlainRouter, ValueRouter
from edgegen.envs.offloading.scenario import OffloadingScenario

if TYPE_CHECKING:
    from edgegen.algorithms.roles.router.settings import RouterSettings

ROUTERS: dict[tuple[str, str], type[Router]] = {
    ("mlp", "diffusion"): DiffusionRouter,
    ("mlp", "mlp"): PlainRouter,
    ("mlp", "q"): ValueRouter,
    ("set", "diffusion"): SetDiffusionRouter,
    ("set", "mlp"): SetRouter,
}
"""Routers by the settings ``network`` and ``actor``."""


def router_class(network: str, actor: str) -> type[Router]:
    """Return the router that two settings name.

    Raises:
        ValueError: If there is no such actor for that network.
    """
    if (network, actor) not in ROUTERS:
        actors = " or ".join(repr(other) for known, other in ROUTERS if known == network)
        raise ValueError(f"actor is {actor!r}, but network {network!r} needs {actors}")
    return ROUTERS[network, actor]


def router_of(spec: RouterSpec) -> Router:
    """Make the router that a spec describes."""
    return router_class(spec.network, spec.actor)(spec)


def router_for(scenario: OffloadingScenario, settings: RouterSettings) -> Router:
    """Make the router that settings ask for in a scenario."""
    return router_class(settings.network, settings.actor).of(scenario, settings)
