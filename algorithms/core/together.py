# SPDX-License-Identifier: Apache-2.0
"""One policy made of several, each for the roles it is good at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.world import World


class Together(Policy):
    """A policy for each role. Each keeps a memory and random numbers of its own, for all the roles it is given.

    Args:
        parts: Policies by role; each must have the role it is given, and may have others, which it is not asked for.
        seed: Of the random numbers of all parts.

    Raises:
        ValueError: If a policy has not the role it is given.
    """

    def __init__(self, parts: Mapping[str, Policy], seed: int = 0) -> None:
        for role, part in parts.items():
            if role not in part.roles:
                raise ValueError(f"the policy {part.name} does not decide for the role {role}")
        self.parts = dict(parts)
        # Names of memories: that of the first role, so that a policy with several has one memory for all of them.
        self._names = {role: next(name for name in parts if parts[name] is part) for role, part in parts.items()}
        self.roles = frozenset(parts)
        self.notes = tuple(dict.fromkeys(note for part in self.parts.values() for note in part.notes))
        self.origin = " and ".join(dict.fromkeys(part.origin for part in self.parts.values() if part.origin))
        self.trained = any(part.trained for part in self.parts.values())
        self.name = " ".join(f"{role}={part.name}" for role, part in self.parts.items())
        self.information = "; ".join(f"{role}: {part.information}" for role, part in self.parts.items())
        super().__init__(seed)

    def seed(self, seed: int) -> None:
        """Restart the random numbers of all parts."""
        for part in self.parts.values():
            part.seed(seed)

    def prepare(self, world: World) -> Memory:
        """Return the memories of all parts, each under the name of its first role."""
        memory: Memory = {}
        for name in dict.fromkeys(self._names.values()):
            memory |= _named(name, self.parts[name].prepare(world))
        return memory

    def begin(self, role: str, view: Any) -> Memory:
        """Return what the policy of a role begins with, under the name of its first role."""
        return _named(self._names[role], self.parts[role].begin(role, view))

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """Let the policy of a role decide; see :meth:`Policy.act`."""
        first = self._names[role]
        prefix = f"{first}/"
        own = {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
        others = {name: value for name, value in memory.items() if not name.startswith(prefix)}
        action, own = self.parts[role].act(role, view, own, explore)
        return action, {**others, **_named(first, own)}


def together(seed: int = 0, **parts: Policy) -> Together:
    """Combine policies by role: ``together(router=trained, cacher=rule)``."""
    return Together(parts, seed)


def _named(part: str, memory: Memory) -> Memory:
    return {f"{part}/{name}": value for name, value in memory.items()}
