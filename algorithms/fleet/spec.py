# SPDX-License-Identifier: Apache-2.0
"""What a policy of the learned fleet is: all that is needed to rebuild it, in any world."""

from __future__ import annotations

from typing import Literal

from edgegen.algorithms.fleet.decisions import (
    ALLOCATOR_FEATURES,
    CACHER_FEATURES,
    CHARGED_FEATURES,
    ROUTER_FEATURES,
)
from edgegen.algorithms.fleet.nets import ResidualChain
from edgegen.algorithms.fleet.settings import FleetSettings, Learned
from edgegen.algorithms.fleet.start import tuned_prices
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.envs.core.fields import Count, Flag, Frozen, Positive, Width
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.terms import rates_of
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER

FEATURES = {ROUTER: ROUTER_FEATURES, ALLOCATOR: ALLOCATOR_FEATURES, CACHER: CACHER_FEATURES}
"""Features of a candidate, by role, where nothing is charged for the work of sites."""


class FleetSpec(Frozen):
    """The chains and the rule that they start from.

    Attributes:
        learn: Roles that have a chain.
        hidden: Width of the chains.
        denoising_steps: Steps of the chains.
        unit_s: Time that is 1 in the features: the mean promised delay of the world of the training, in its
            ``unit_s``; s where that is not given.
        prices: Constants of the rule ``price-greedy``.
        charged: Whether routers and allocators see what the objective charges for the work of sites.
    """

    method: Literal["fleet"] = "fleet"
    learn: tuple[Learned, ...]
    hidden: Width
    denoising_steps: Count
    unit_s: Positive
    prices: Prices
    charged: Flag = False

    @classmethod
    def of(cls, scenario: FleetScenario, settings: FleetSettings) -> FleetSpec:
        """Return what settings ask for in a world; tunes the rule if they have no constants for it."""
        prices = settings.prices or tuned_prices(scenario, settings.tune_trials, settings.tune_episodes)
        return cls(
            learn=settings.learn,
            hidden=settings.hidden,
            denoising_steps=settings.denoising_steps,
            unit_s=scenario.deadline_s.mean / scenario.unit_s,
            prices=prices,
            charged=len(rates_of(scenario)) > 0,
        )


def features_of(spec: FleetSpec, role: str) -> int:
    """Features of a candidate that a role's chain sees."""
    return FEATURES[role] + (CHARGED_FEATURES if spec.charged and role != CACHER else 0)


def make_chain(spec: FleetSpec, role: str) -> ResidualChain:
    """Make the chain of a role, with fresh weights."""
    return ResidualChain(features_of(spec, role), spec.hidden, spec.denoising_steps, role != ALLOCATOR)
