# SPDX-License-Identifier: Apache-2.0
"""All rules of the fleet; each decides for all three roles, and may be asked for one of them."""

from __future__ import annotations

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.rulebook import Maker, RuleBook
from edgegen.algorithms.core.tunable import Tunable
from edgegen.algorithms.rules import fleet_constants as kernel
from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.algorithms.rules.fleet_families import Families, Informed, Prices, priced
from edgegen.algorithms.rules.fleet_policy import FleetRule, InformedRule
from edgegen.envs.fleet.scenario import FleetScenario

KNOWN = "what is resident, reported backlogs, recent demand, prices"
FAR = 1e6
"""A time that is never waited, s."""

RULES: dict[str, tuple[Rule, str]] = {
    "home": (Rule(kernel.HOME, kernel.ALL, kernel.LRU, 0.0, 0.0), "nothing; loads what is asked for"),
    "affinity": (
        Rule(kernel.COMPLETION, kernel.IN_TIME, kernel.LRU, 0.0, 0.0, spill_s=FAR, cloud_s=FAR),
        "what is resident, reported backlogs",
    ),
    "earliest": (
        Rule(kernel.COMPLETION, kernel.IN_TIME, kernel.SPREAD, 0.0, 0.0),
        "what is resident, reported backlogs, recent demand",
    ),
}
"""Rules without constants to tune, and what they know."""


def rule_of(name: str, scenario: FleetScenario, constants: Prices | None = None) -> Rule:
    """Return a rule as the kernel takes it.

    Args:
        name: Its name.
        scenario: The world.
        constants: Its constants, if it has any and they are not the defaults.
    """
    if name in RULES:
        return priced(RULES[name][0], scenario)
    return (constants or FAMILIES[name]()).rule(scenario)


FAMILIES: dict[str, type[Prices]] = {"price-greedy": Prices, "fleet-rule": Families, "informed-greedy": Informed}
"""Rules with constants."""


def _maker(name: str) -> Maker:
    return lambda scenario, seed: FleetRule(name, rule_of(name, scenario), RULES[name][1], seed)


def _tunable(name: str) -> Tunable:
    return Tunable(FAMILIES[name], lambda scenario, own, seed: FleetRule(name, own.rule(scenario), KNOWN, seed))


def _informed(scenario: FleetScenario, seed: int) -> Policy:
    known = "true backlogs of all sites, which no home knows; what is resident, recent demand, prices"
    return InformedRule("informed-greedy", rule_of("informed-greedy", scenario), known, seed)


TUNABLE = {name: _tunable(name) for name in ("price-greedy", "fleet-rule")}
"""Rules to tune; what knows more than homes can is no bar for what does not."""

RULE_BOOK = RuleBook(
    {
        **{name: _maker(name) for name in RULES},
        **{name: tunable.maker for name, tunable in TUNABLE.items()},
        "informed-greedy": _informed,
    },
    tunable=TUNABLE,
)
"""The entry for :mod:`edgegen.algorithms.core.rulebook`."""
