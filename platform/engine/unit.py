# SPDX-License-Identifier: Apache-2.0
"""Units of work: what they are, by what they are told apart, and what they are judged on."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.world import WorldScenario

if TYPE_CHECKING:
    from edgegen.algorithms.core.policy import Policy
    from edgegen.platform.engine.doing import Effort

FORMAT = "edgegen-unit-1"
SAMPLED, GREEDY, RULE = "sampled", "greedy", "rule"
"""Modes of an evaluation: actions of a trained policy drawn, or its most likely ones; a rule."""


@dataclass(frozen=True)
class Evaluation:
    """What policies are judged on: the arrivals of ``edgegen compare`` in a world with the same seed."""

    world: WorldScenario
    episodes: int
    seed: int

    @property
    def file_name(self) -> str:
        """Where a unit keeps its results."""
        return f"evaluation-{digest([plain(self.world), self.episodes, self.seed])}.json"


@dataclass(frozen=True)
class Unit(ABC):
    """A training, or a play of a rule, that is done once, whoever asks for it.

    It may be cut off at any moment; :meth:`work` is called again and goes on.

    Attributes:
        title: What people see while it runs.
        world: Where.
        name: The algorithm, or the rule.
        settings: All settings of the algorithm.
        changed: Those that are not at their defaults.
        preset: What the settings began with.
        seed: Training seed.
        episodes: Training episodes.
        evaluations: What the result is judged on.
    """

    title: str
    world: WorldScenario
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    seed: int = 0
    episodes: int = 0
    evaluations: tuple[Evaluation, ...] = ()

    kind: ClassVar[str]
    """What is done: a word that is part of the identity."""
    learns: ClassVar[bool] = True
    """Whether it trains, and tells how many episodes it has finished."""

    @property
    def essence(self) -> dict[str, Any]:
        """What decides the result, as plain values; names and descriptions do not, nor what it is judged on.

        Fields at their defaults are left out, so that a field that did not exist when a unit was done does not make it
        another one. That no default has changed since is checked where results are read.
        """
        return {
            **self._who,
            "settings": dict(self.changed),
            "seed": self.seed,
            "episodes": self.episodes,
        }

    @property
    def _who(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": self.kind, "name": self.name, "world": plain(self.world)}

    @property
    def identity(self) -> str:
        """Hash of the essence."""
        return digest(self.essence)

    @property
    def cost_keys(self) -> tuple[str, str]:
        """Units of the same first key cost about as much per episode, those of the same second one are related."""
        size = kind_of(self.world).effort(self.world)
        same = json.dumps([self.kind, self.name, dict(self.changed), *size], sort_keys=True)
        return same, f"{self.kind} {self.name} {self.preset}"

    @property
    def bundles(self) -> tuple[Mapping[str, float], ...]:
        """Ray resources of its own process, then of each process that it starts."""
        return ({"CPU": 1.0},)

    @property
    def modes(self) -> Mapping[str, bool]:
        """Modes that it is judged in, and whether actions are drawn in them."""
        return {SAMPLED: True, GREEDY: False}

    def described(self) -> dict[str, Any]:
        """Return what it is, as plain values."""
        return {
            "identity": self.identity,
            "kind": self.kind,
            "title": self.title,
            "name": self.name,
            "preset": self.preset,
            "settings": dict(self.settings),
            "world": self.world.model_dump(mode="json"),
            "seed": self.seed,
            "episodes": self.episodes,
        }

    @abstractmethod
    def work(self, folder: Path, effort: Effort) -> None:
        """Do what is left in its folder, except for the evaluations; Ray is running.

        Args:
            folder: Its folder.
            effort: Is told how far it is.

        Raises:
            StoppedEarlyError: If the process was asked to stop.
        """

    @abstractmethod
    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """Return the policy to judge, after the work."""


@dataclass(frozen=True)
class Play(Unit):
    """A rule on evaluation episodes.

    Attributes:
        explore: Whether a rule that draws its actions does so.
    """

    kind: ClassVar[str] = "play"
    learns: ClassVar[bool] = False
    explore: bool = True

    @property
    def essence(self) -> dict[str, Any]:
        """See :meth:`Unit.essence`."""
        return self._who if self.explore else {**self._who, "explore": False}

    @property
    def modes(self) -> Mapping[str, bool]:
        """See :meth:`Unit.modes`."""
        return {RULE: self.explore}

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`: there is nothing but the evaluations."""

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        from edgegen.algorithms.core.catalog import make_policy

        return make_policy(self.name, evaluation.world, evaluation.seed)


def plain(world: WorldScenario) -> dict[str, Any]:
    """Return what of a world decides results."""
    data = world.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in data.items() if name not in ("name", "description")}


def digest(what: Any) -> str:
    """Return a short hash of plain values."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
