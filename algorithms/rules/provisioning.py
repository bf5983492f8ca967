# SPDX-License-Identifier: Apache-2.0
"""All rules, searches and oracles of the provisioning worlds."""

from __future__ import annotations

from edgegen.algorithms.core.rulebook import Maker, RuleBook
from edgegen.algorithms.rules.benchmarks import ORACLES, PROVISIONING_BENCHMARKS
from edgegen.algorithms.rules.caching import PROVISIONING_RULES
from edgegen.algorithms.rules.caching_optimum import is_plannable
from edgegen.algorithms.rules.history_knapsack import TUNABLE


def _maker(name: str) -> Maker:
    rule = PROVISIONING_RULES[name]
    return lambda scenario, seed: rule(seed)


_ALL: dict[str, Maker] = {
    **{name: _maker(name) for name in PROVISIONING_RULES},
    **{name: tunable.maker for name, tunable in TUNABLE.items()},
    **PROVISIONING_BENCHMARKS,
}


RULE_BOOK = RuleBook(_ALL, lambda name, scenario: name not in ORACLES or is_plannable(scenario), TUNABLE)
"""The entry for :mod:`edgegen.algorithms.core.rulebook`."""
