"""Units of work: what they are, and by what they are told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.world import WorldScenario

FORMAT = "edgegen-unit-1"
PPO = "ppo"
UnitKind = Literal["training", "play", "stream"]
TRAINING: UnitKind = "training"
PLAY: UnitKind = "play"
STREAM: UnitKind = "stream"


@dataclass(frozen=True)
class Evaluation:
    """What policies are judged on: the arrivals of ``edgegen compare`` in a world with the same seed."""

    world: WorldScenario
    episodes: int
    seed: int

    @property
    def file_name(self) -> str:
        """Where a unit keeps its results."""
        return f"evaluation-{_hash([_plain(self.world), self.episodes, self.seed])}.json"


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done once, whoever asks for it.

    Attributes:
        kind: ``training``: one seed of a method; ``play``: a rule on evaluation episodes; ``stream``: a rule on the
            training episodes of a seed.
        title: What people see while it runs.
        world: Where.
        name: The algorithm, or the rule.
        settings: All settings of the algorithm.
        changed: Those that are not at their defaults.
        preset: What the settings began with.
        seed: Training seed.
        episodes: Training episodes.
        evaluations: What the result is judged on.
        checkpoint_every: Training episodes between checkpoints.
    """

    kind: UnitKind
    title: str
    world: WorldScenario
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    seed: int = 0
    episodes: int = 0
    evaluations: tuple[Evaluation, ...] = ()
    checkpoint_every: int = 25

    @property
    def identity(self) -> str:
        """Hash of all that decides the result; names and descriptions do not, nor what it is judged on.

        Fields at their defaults are left out, so that a field that did not exist when a unit was done does not make it
        another one. That no default has changed since is checked where results are read.
        """
        what: dict[str, Any] = {"format": FORMAT, "kind": self.kind, "name": self.name, "world": _plain(self.world)}
        if self.kind != PLAY:
            what |= {"settings": dict(self.changed), "seed": self.seed, "episodes": self.episodes}
        return _hash(what)

    @property
    def cost_key(self) -> str:
        """Units of the same key cost about as much per episode."""
        return json.dumps([self.kind, self.name, dict(self.changed), *_size(self.world)], sort_keys=True)


def _plain(world: WorldScenario) -> dict[str, Any]:
    """What of a world decides results."""
    data = world.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in data.items() if name not in ("name", "description")}


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _size(world: WorldScenario) -> tuple[int, ...]:
    """What of a world decides how long an episode takes."""
    return kind_of(world).effort(world)
