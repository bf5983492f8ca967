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


def unfamiliar(manifest: Mapping[str, Any], also: Traits, scenario: WorldScenario) -> tuple[str, ...]:
    """Sentences about traits of a scenario that lie beyond those a policy was trained or tuned with.

    Args:
        manifest: Content of ``policy.json``.
        also: What else it met, by trait, besides what its scenario says.
        scenario: The world it is to decide in.
    """
    try:
        home = build_scenario(dict(manifest["scenario"]))
    except (KeyError, TypeError, ValueError, InputError):  # who needs it complains
        return ()
    if home.kind != scenario.kind:
        return ()
    kind = kind_of(scenario)
    met, notes = kind.traits(home), []
    for trait, (low, high) in kind.traits(scenario).items():
        least, most = met[trait]
        if trait in also:
            least, most = min(least, also[trait][0]), max(most, also[trait][1])
        if low < least * (1 - TOLERANCE) or high > most * (1 + TOLERANCE):
            notes.append(f"has met {trait} of {_span(least, most)}, and meets {_span(low, high)} here")
    return tuple(notes)


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
