# SPDX-License-Identifier: Apache-2.0
"""What the joint runner, learner and algorithm need of a method and of each of its roles.

A method is a set of learners, one for each role that it plays; all else is common to every method
(:mod:`edgegen.algorithms.rllib`). A new method is a few of these classes; a baseline is a small difference in one. This
file imports no Ray, so that methods can be looked up without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import TrainedPolicy
from edgegen.envs.core.world import World, WorldScenario

if TYPE_CHECKING:
    import gymnasium as gym

    from edgegen.algorithms.rllib.replay import TensorReplay
    from edgegen.algorithms.rllib.rollout import Fragment

Notes = dict[str, Any]
"""What of a decision its transition will need: tensors with the copies as leading axis, by name."""


class Spaces(NamedTuple):
    """Spaces of one decision of a role, as RLlib asks for them."""

    state: gym.Space[Any]
    action: gym.Space[Any]


@dataclass(frozen=True)
class Following:
    """What comes after the last decision of a round.

    Attributes:
        view: What the role sees on its next turn; at the end of an episode what the world shows then, or None where
            that is the view of another role.
        done: Whether the episode is over.
        outcome: What came of the last decision of whatever role; it settles what is rewarded at the end of a round.
        policy: Who decides.
        memory: What it remembers now.
    """

    view: Any
    done: bool
    outcome: Any
    policy: Any
    memory: Memory


class Tools(Protocol):
    """What a learner lends to an update."""

    def step(self, module_id: str, name: str, loss: Tensor) -> None:
        """Back-propagate a loss into the parameters of one optimizer alone, and step it."""

    def noise(self, draw: Any, rows: int) -> Tensor | None:
        """Draw noise for this learner's rows of the batch."""

    def set_step_size(self, module_id: str, name: str, rate: float) -> None:
        """Change the step size of an optimizer."""


class BatchLearner(ABC):
    """Learns one role from batches of a replay: its networks, its losses and its schedule.

    Attributes:
        role: Name of the role, also of its RLModule.
        module_class: RLModule with its networks.
        deciding: Name of the network in the module that decides, which the env runners are sent.
        warmup: Updates begin when every ring of the replay holds more transitions than this.
        batch_size: Transitions per group of weights and update.
    """

    role: ClassVar[str]
    module_class: type[Any]
    deciding: ClassVar[str]
    warmup: int
    batch_size: int

    @property
    @abstractmethod
    def spaces(self) -> Spaces:
        """Spaces of state and action."""

    @property
    @abstractmethod
    def model_config(self) -> dict[str, Any]:
        """Plain values from which the module builds its networks."""

    @abstractmethod
    def network(self) -> nn.Module:
        """Make a network like the one that decides, with fresh weights."""

    @property
    def learned(self) -> str:
        """Name of the network in the module whose weights the trained policy has."""
        return self.deciding

    @abstractmethod
    def replay(self, seed: int) -> TensorReplay:
        """Make an empty replay."""

    @abstractmethod
    def owed(self, slots: int, rounds: int, episodes: int) -> float:
        """Updates that some sampled slots and rounds, summed over copies, are worth, after so many episodes."""

    def stores(self, episodes: int) -> bool:
        """Whether transitions are stored once some episodes are over."""
        del episodes
        return True

    @abstractmethod
    def optimizers(self, module: Any) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """Name, parameters and step size of each optimizer."""

    @abstractmethod
    def update(self, module: Any, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update a module from columns ``[G, rows, ...]``; returns what to log, losses named ``..._loss``."""

    @abstractmethod
    def losses(self, module: Any, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """Sum of a module's losses at the present weights, from columns ``[G, rows, ...]``."""

    def after_update(self, tools: Tools, slots: int) -> None:
        """Do what is due after updates, when some slots have been sampled in all."""
        del tools, slots


class RoleLearner(BatchLearner):
    """Learns one role of what is played turn by turn: what it remembers of decisions, and the transitions it makes."""

    @abstractmethod
    def noted(self, view: Any, decision: Any, outcome: Any) -> Notes:
        """Return what of a decision and its outcome the transition will need.

        Args:
            view: What the role saw.
            decision: The ``record`` that the policy's ``decide`` returned.
            outcome: What the world returned.
        """

    @abstractmethod
    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Make transitions of the decisions of a round, in order of time."""


class EpisodeLog(ABC):
    """What is reported of the episodes that a runner plays.

    Args:
        world: The world they are played in.
        settings: Settings of the method.

    Attributes:
        sums: Sums so far, by name ``[E]``, float64.
    """

    def __init__(self, world: World, settings: Any) -> None:
        self.world = world
        self.settings = settings
        self.sums: dict[str, Tensor] = {}
        self.begin()

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the sums."""

    def begin(self) -> None:
        """Begin new episodes."""
        self.sums = {name: torch.zeros(self.world.copies, dtype=torch.float64) for name in self.names}

    @abstractmethod
    def add(self, role: str, outcome: Any) -> tuple[int, int]:
        """Take a turn into account; returns slots, summed over copies, and decisions that it was."""

    def settle(self, role: str, notes: list[Notes], following: Following) -> None:
        """Take a finished round of a role into account."""
        del role, notes, following

    @abstractmethod
    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        """Return what was measured of each finished episode, and its return."""


class Learning(ABC):
    """A method in training: a learner for each role, and what they share.

    Args:
        scenario: The world.
        settings: The method's settings; they have a field ``copies``.

    Attributes:
        roles: Learners by role, the slowest last. Updates are made in the opposite order.
        log_class: What is reported of episodes.
        whole_episodes: Whether its env runner can play nothing shorter than an episode.
    """

    roles: dict[str, BatchLearner]
    log_class: type[EpisodeLog]
    whole_episodes: ClassVar[bool] = False

    def __init__(self, scenario: Any, settings: Any) -> None:
        self.scenario = scenario
        self.settings = settings

    @property
    def worlds(self) -> list[WorldScenario]:
        """Worlds that are played in turn, episode by episode."""
        return [self.scenario]

    @abstractmethod
    def policy(self, networks: dict[str, nn.Module], seed: int) -> TrainedPolicy:
        """Make the policy that decides with the networks of all roles."""

    def enter(self, policy: Any, scenario: Any) -> None:
        """Let a policy go on in one of the worlds."""
        del policy, scenario

    def explore(self, policy: Any, episodes: int, explore: bool) -> None:
        """Set how a policy explores in a round.

        Args:
            policy: The policy.
            episodes: Episodes that were begun, counted over all runners.
            explore: Whether it is to explore at all.
        """
        del policy, episodes, explore
