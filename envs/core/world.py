# SPDX-License-Identifier: Apache-2.0
"""What every world is: something that asks for decisions, role by role, and tells what came of them.

A world plays E independent copies in lockstep; everything it shows and takes is a tensor with a leading axis E. Whoever
plays one needs nothing else of it: :func:`edgegen.algorithms.core.play.play` plays every kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from edgegen.envs.core.fields import Frozen


class View:
    """What can be known on a turn: its subclasses are frozen dataclasses of named tensors, units in the names.

    The same view is built from the state of a simulator and from the books of a live service, so a policy can not tell
    them apart. Metadata of a field may say ``open_axes`` (axes of any length beside the first) and ``unknowable_like``
    (no real server knows it; the field whose shape it has).
    """


@dataclass(frozen=True)
class Role:
    """A kind of decision that somebody at every site makes. An agent is a (role, site) pair.

    Attributes:
        name: What it is called: ``router``, ``cacher``, ``allocator``.
        action: ``choice`` of one of some entities for each entity acted upon (integers), ``subset`` of them (bool), or
            ``shares`` of something divisible (numbers).
        over: The entities acted upon: ``tasks``, ``models``, ``users``.
        decides: What the action holds, by name; several names are the order of its last axis.
        view: Class of the :class:`View` that it sees.
        varies: Whether the number of entities acted upon differs from turn to turn.
        shape: From a scenario to the shape of a whole decision: sites, then ``(entities, choices)`` for a choice,
            ``(entities,)`` for a subset, ``(entities, parts)`` for shares; None where it is not the same on every turn.
    """

    name: str
    action: Literal["choice", "subset", "shares"]
    over: str
    decides: tuple[str, ...]
    view: type[Any]
    varies: bool = False
    shape: Callable[[Any], tuple[int, ...]] | None = None


class Outcome(Protocol):
    """What came of a decision."""

    @property
    def rewards(self) -> Mapping[str, Tensor]:
        """Rewards by role ``[E, sites]``, more is better, of the roles whose turn is settled by this decision."""


class WorldScenario(Frozen):
    """A world as its file describes it; every kind adds the fields that it needs.

    Attributes:
        kind: Name of the kind of world, by which plain data is told apart.
        name: How the scenario is called in results; ``stem`` or ``stem:variant`` for shipped files.
        description: One or two sentences for people.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """Fields, by dotted name, that may name a file; it is looked for beside the scenario file that names it."""

    kind: str
    name: str
    description: str = ""

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return plain data as it is validated, with the content of files in the place of their names."""
        return data


class World(ABC):
    """E independent copies of a scenario, played in lockstep.

    Attributes:
        kind: Name of the kind of world.
        roles: Roles by name, in the order of their first turns.
        scenario: The scenario.
        copies: Number of copies E.
        device: Where state and equations live.
    """

    kind: ClassVar[str]
    roles: ClassVar[Mapping[str, Role]]
    scenario: Any
    copies: int
    device: torch.device

    @abstractmethod
    def reset(self, seed: int | None = None, first_episode: int = 0) -> Any:
        """Begin the next E episodes, or with a seed E episodes of that seed's stream; returns the first view.

        Args:
            seed: Root of the streams.
            first_episode: With a seed, number of the first episode.
        """

    @property
    @abstractmethod
    def turn(self) -> str | None:
        """Role whose decision is due; None once the episode is over."""

    @property
    @abstractmethod
    def round(self) -> int:
        """Rounds of the episode that are over; a round begins with the turn of the slowest role."""

    @abstractmethod
    def observe(self) -> Any:
        """Return the :class:`View` of this turn; once the episode is over, of the first turn that would follow."""

    @abstractmethod
    def decide(self, action: Tensor) -> Any:
        """Take the decision of all sites and copies on this turn, and go on to the next one; returns the outcome.

        Raises:
            ValueError: If the episode is over or the action is impossible.
        """

    @property
    def future(self) -> Any:
        """Everything that happens from outside in these episodes, for oracles; None where nobody knows it."""
        return None

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.turn is None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state as plain values and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by ``state_dict`` of a world of the same scenario and copies."""
