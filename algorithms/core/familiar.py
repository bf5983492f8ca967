# SPDX-License-Identifier: Apache-2.0
"""What a stored policy has met, and what of another world it has not: said before anybody trusts its numbers there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Traits, kind_of
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import WorldScenario

TOLERANCE = 0.05
"""Part of a trait by which a world may go beyond what a policy has met; loads are seldom the same to the last digit."""

MET = "met"
"""Field of ``policy.json``: least and largest value of every trait of the worlds of the training."""


def met_in(scenario: WorldScenario, also: Traits) -> dict[str, tuple[float, float]]:
    """Least and largest value by trait, of a world and of what else a training met besides what its scenario says."""
    met = dict(kind_of(scenario).traits(scenario))
    for trait, (low, high) in also.items():
        least, most = met.get(trait, (low, high))
        met[trait] = min(least, low), max(most, high)
    return met


def unfamiliar(manifest: Mapping[str, Any], also: Traits, scenario: WorldScenario) -> tuple[str, ...]:
    """Say which traits of a scenario lie beyond those a policy was trained or tuned with: one sentence, or none.

    Args:
        manifest: Content of ``policy.json``. Where it does not hold what was met, because an older version wrote it,
            that is made of its scenario.
        also: What else the training met, by trait, in that case.
        scenario: The world it is to decide in.
    """
    try:
        home = build_scenario(dict(manifest["scenario"]))
        stored = {trait: (float(low), float(high)) for trait, (low, high) in dict(manifest.get(MET, {})).items()}
    except (KeyError, TypeError, ValueError, InputError):  # who needs it complains
        return ()
    if home.kind != scenario.kind:
        return ()
    met, here = met_in(home, also) | stored, kind_of(scenario).traits(scenario)
    beyond = [
        trait
        for trait, (low, high) in here.items()
        if low < met[trait][0] * (1 - TOLERANCE) or high > met[trait][1] * (1 + TOLERANCE)
    ]
    if not beyond:
        return ()
    known = ", ".join(f"{trait} {_span(*met[trait])}" for trait in beyond)
    found = ", ".join(f"{trait} {_span(*here[trait])}" for trait in beyond)
    return (f"has met {known}; here it meets {found}",)


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
