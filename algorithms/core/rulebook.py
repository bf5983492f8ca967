# SPDX-License-Identifier: Apache-2.0
"""The policies that need no training, by kind of world: rules, searches, oracles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.core.tunable import Tunable
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import SHIPPED, kind_named, kinds
from edgegen.envs.core.registry import Registry
from edgegen.envs.core.world import WorldScenario

Maker = Callable[[Any, int], Policy]
"""Makes a policy for a scenario from a seed."""


@dataclass(frozen=True)
class Rule:
    """A rule that is added to those of a kind.

    Attributes:
        maker: What makes it.
        origin: Where it comes from.
        tunable: Its constants, if it has some to tune.
    """

    maker: Maker
    origin: str
    tunable: Tunable | None = None


@dataclass(frozen=True)
class RuleBook:
    """The rules of one kind of world.

    Attributes:
        makers: What makes each of them, by name, in the order of tables.
        plays: Whether the one of a name can play a scenario; oracles can only where they can plan.
        tunable: Those that have constants to tune, by name.
    """

    makers: Mapping[str, Maker]
    plays: Callable[[str, Any], bool] = lambda name, scenario: True
    tunable: Mapping[str, Tunable] = field(default_factory=dict)

    def playable(self, scenario: WorldScenario) -> list[str]:
        """Names of those that can play a scenario."""
        return [name for name in self.makers if self.plays(name, scenario)]


BOOKS: Registry[RuleBook] = Registry(
    "rule book of the kind", {kind: f"edgegen.algorithms.rules.{kind}:RULE_BOOK" for kind in SHIPPED}
)
"""Rule books by kind."""


_ADDED: dict[str, dict[str, Rule]] = {}
"""Rules that plugins add to those of a kind, by kind and name."""


def register_rules(kind: str, book: RuleBook) -> None:
    """Say which rules there are for a kind of world.

    Raises:
        InputError: If that has been said already.
    """
    BOOKS.register(kind, book)


def add_rule(kind: str, name: str, rule: Rule) -> None:
    """Add a rule to those of a kind; the same one again changes nothing.

    Raises:
        InputError: If there is no such kind, or another rule of this name.
    """
    known = rule_book(kind).makers
    added = _ADDED.setdefault(kind, {})
    if name in known and (name not in added or added[name].origin != rule.origin):
        raise InputError(f"There is a rule '{name}' for worlds of the kind {kind} already.")
    added[name] = rule


def rule_book(kind: str) -> RuleBook:
    """Return the rules of a kind; there may be none.

    Raises:
        InputError: If there is no such kind, or a plugin can not be used.
    """
    kind = kind_named(kind).name
    book, added = BOOKS.get(kind) or RuleBook({}), _ADDED.get(kind)
    if not added:
        return book
    return RuleBook(
        makers={**book.makers, **{name: rule.maker for name, rule in added.items()}},
        plays=lambda name, scenario: name in added or book.plays(name, scenario),
        tunable={**book.tunable, **{name: rule.tunable for name, rule in added.items() if rule.tunable is not None}},
    )


def rules_for(scenario: WorldScenario) -> list[str]:
    """Names of the rules, searches and oracles that can play a scenario, without any training."""
    return rule_book(scenario.kind).playable(scenario)


def kinds_with_rule(name: str) -> list[str]:
    """Names of the kinds that have a rule of this name."""
    return [kind for kind in kinds() if name in rule_book(kind).makers]
