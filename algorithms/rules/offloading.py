# SPDX-License-Identifier: Apache-2.0
"""All rules of the offloading worlds."""

from __future__ import annotations

from edgegen.algorithms.core.rulebook import Maker, RuleBook
from edgegen.algorithms.rules.priced_greedy import PRICED_GREEDY, PricedGreedy
from edgegen.algorithms.rules.routing import (
    CapacityWeighted,
    LeastDelay,
    Local,
    OptTS,
    PowerOfTwo,
    RoundRobin,
    RoutingRule,
    Uniform,
    WaterFilling,
)
from edgegen.envs.core.errors import InputError, did_you_mean

_PLAIN: tuple[type[RoutingRule], ...] = (
    *(Uniform, Local, RoundRobin, CapacityWeighted, WaterFilling, PowerOfTwo, LeastDelay),
    OptTS,
)

TUNABLE = {PricedGreedy.name: PRICED_GREEDY}
"""Rules with constants to tune."""

RULES: dict[str, Maker] = {
    **{rule.name: lambda scenario, seed, rule=rule: rule(seed) for rule in _PLAIN},  # type: ignore[misc]
    **{name: tunable.maker for name, tunable in TUNABLE.items()},
}
"""What makes each rule, by name."""


def make_rule(name: str, seed: int = 0) -> RoutingRule:
    """Make a rule by name; no routing rule has to know the scenario.

    Raises:
        InputError: If there is no such rule.
    """
    if name not in RULES:
        raise InputError(f"Unknown policy '{name}'; rules are {', '.join(RULES)}.{did_you_mean(name, RULES)}")
    rule = RULES[name](None, seed)
    assert isinstance(rule, RoutingRule)
    return rule


RULE_BOOK = RuleBook(RULES, tunable=TUNABLE)
"""The entry for :mod:`edgegen.algorithms.core.rulebook`."""
