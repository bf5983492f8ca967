# SPDX-License-Identifier: Apache-2.0
"""Rules from outside of the package: what a policy class must be, and what is said of one that fails.

A rule is a class derived from :class:`Policy` with ``name``, ``kind`` (of world) and ``roles``. It is made with what
its constructor takes of ``scenario``, ``seed`` and ``constants``; one whose attribute ``constants`` is a class derived
from :class:`Constants` can be tuned.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.core.rulebook import Rule, add_rule
from edgegen.algorithms.core.tunable import Constants, Tunable
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import Meter, kind_named
from edgegen.envs.core.plugins import told
from edgegen.envs.core.world import World

GIVEN = ("scenario", "seed", "constants")
"""What the constructor of a rule may take, by name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

T = TypeVar("T")


def adopt(plugin: Any, reference: str) -> str | None:
    """Register a plugin if it is a class of policies; returns the rule's name, or None if it is something else.

    Raises:
        InputError: If it does not fit, or its name is taken.
    """
    if not (isinstance(plugin, type) and issubclass(plugin, Policy)):
        return None
    what = f"the rule {plugin.__name__}"
    _check(plugin, what)
    constants = _constants(plugin, what)
    taken = _taken(plugin, what, constants is not None)
    origin = f"the rule '{plugin.name}' of {reference}"

    def make(scenario: Any, chosen: Any, seed: int) -> Policy:
        given = {"scenario": scenario, "seed": seed, "constants": chosen}
        return PluggedRule(_guarded(origin, "made", lambda: plugin(**{name: given[name] for name in taken})), origin)

    tunable = None if constants is None else Tunable(constants, make)
    maker = tunable.maker if tunable is not None else lambda scenario, seed: make(scenario, None, seed)
    add_rule(plugin.kind, plugin.name, Rule(maker, origin, tunable))
    return plugin.name


class PluggedRule(Policy):
    """A rule from outside. Whatever it raises is told in one sentence, with the line of its file.

    Args:
        rule: The rule.
        origin: Where it comes from.
    """

    def __init__(self, rule: Policy, origin: str) -> None:
        self.rule, self.origin = rule, origin
        self.name, self.information, self.roles = rule.name, rule.information or "not said", rule.roles
        self.kind, self.notes = rule.kind, rule.notes

    def seed(self, seed: int) -> None:
        """See :meth:`Policy.seed`."""
        self._call("seed", lambda: self.rule.seed(seed))

    def random(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """See :meth:`Policy.random`."""
        return self.rule.random(shape, like)

    def prepare(self, world: World) -> Memory:
        """See :meth:`Policy.prepare`."""
        return self._memory("prepare", self._call("prepare", lambda: self.rule.prepare(world)))

    def begin(self, role: str, view: Any) -> Memory:
        """See :meth:`Policy.begin`."""
        return self._memory("begin", self._call("begin", lambda: self.rule.begin(role, view)))

    def play_through(self, world: World, meter: Meter) -> bool:
        """See :meth:`Policy.play_through`."""
        return self._call("play_through", lambda: self.rule.play_through(world, meter))

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        decided = self._call("act", lambda: self.rule.act(role, view, memory, explore))
        if not isinstance(decided, tuple) or len(decided) != 2 or not isinstance(decided[0], Tensor):
            raise InputError(
                f"The method act of {self.origin} must return a tensor and the memory, but returns {_shown(decided)}."
            )
        return decided[0], self._memory("act", decided[1])

    def _memory(self, method: str, memory: Any) -> Memory:
        if not isinstance(memory, dict) or not all(isinstance(value, Tensor) for value in memory.values()):
            raise InputError(
                f"The memory that {method} of {self.origin} returns must map names to tensors, but is {_shown(memory)}."
            )
        return memory

    def _call(self, method: str, call: Callable[[], T]) -> T:
        return _guarded(self.origin, f"asked to {method}", call)


def _guarded(origin: str, when: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{origin[0].upper()}{origin[1:]} fails when it is {when}: {told(error)}.") from error


def _check(plugin: type[Policy], what: str) -> None:
    if inspect.isabstract(plugin):
        missing = ", ".join(sorted(plugin.__abstractmethods__))
        raise InputError(f"{what} lacks the method {missing}.")
    if plugin.name == Policy.name or not isinstance(plugin.name, str) or not _NAME.fullmatch(plugin.name):
        raise InputError(
            f"{what} has the name {plugin.name!r}, but must have one of its own, of letters, digits, '.', '_' and '-'."
        )
    if not plugin.kind:
        raise InputError(f"{what} does not say for which kind of world it is; add, for example, kind = 'offloading'.")
    roles = kind_named(plugin.kind, f"kind of {what}").world.roles
    if not isinstance(plugin.roles, frozenset | set) or not plugin.roles or not set(plugin.roles) <= set(roles):
        raise InputError(
            f"{what} has the roles {_shown(plugin.roles)}, but must have a set of those of {plugin.kind}: "
            f"{', '.join(roles)}."
        )


def _constants(plugin: type[Policy], what: str) -> type[Constants] | None:
    found = getattr(plugin, "constants", None)
    if found is None:
        return None
    if not (isinstance(found, type) and issubclass(found, Constants)):
        raise InputError(f"constants of {what} is {_shown(found)}, but must be a class derived from Constants.")
    plain = [name for name, field in found.model_fields.items() if not isinstance(field.json_schema_extra, dict)]
    if plain or not found.model_fields:
        missing = f"'{plain[0]}' of" if plain else "fields of"
        raise InputError(f"{missing} {found.__name__} must be made with constant or choice, which say its range.")
    return found


def _taken(plugin: type[Policy], what: str, has_constants: bool) -> list[str]:
    """Which of what is given the constructor takes."""
    allowed = [name for name in GIVEN if name != "constants" or has_constants]
    taken = []
    for name, parameter in inspect.signature(plugin).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in allowed and parameter.kind is not parameter.POSITIONAL_ONLY:
            taken.append(name)
        elif parameter.default is parameter.empty:
            raise InputError(f"{what} is made with '{name}', but can only be given {', '.join(allowed)}, by name.")
    return taken


def _shown(thing: Any) -> str:
    if isinstance(thing, tuple):
        return f"({', '.join(_shown(part) for part in thing)})"
    return repr(thing) if isinstance(thing, int | float | str | type(None)) else f"of the type {type(thing).__name__}"
