# SPDX-License-Identifier: Apache-2.0
"""The agents of a world: who acts in a round, what each of them sees, and what becomes of what they do.

A world decides for all sites of a role at once. Other libraries know agents instead: a (role, site) pair each, which
sees arrays and sends numbers. A kind of world says here how the one becomes the other; everything else that such a
library expects is the same for every kind: :mod:`edgegen.envs.pettingzoo`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from edgegen.envs.core.agent_input import chosen, numbers, shown
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.world import Role, World

Observation = np.ndarray | dict[str, np.ndarray]
"""What one agent sees."""

SLACK = 1 + 1e-5
"""Bounds are so much wider than what they hold, for rounding in float32."""

Told = tuple[dict[str, float], dict[str, dict[str, Any]]]
"""Rewards and infos by agent; who is missing gets 0, and keeps its info."""


class Agents(ABC):
    """The agents of one copy of a world.

    Args:
        world: A world with one copy.

    Attributes:
        names: Names of all agents.
        observation_spaces: What each can see, by agent.
        action_spaces: What each can do, by agent.
        acting: Agents of the round that is due, in the order of their turns.
        parallel: Whether all agents act in every round, as PettingZoo's parallel form demands.
    """

    world: Any
    parallel: bool = False
    names: list[str]
    observation_spaces: dict[str, spaces.Space[Any]]
    action_spaces: dict[str, spaces.Space[Any]]
    acting: list[str]

    @abstractmethod
    def begin(self) -> None:
        """Begin the first round of an episode whose world has just been reset."""

    @abstractmethod
    def observations(self) -> Mapping[str, Observation]:
        """Return what agents see by agent: those that act, after the end of an episode those that would."""

    def infos(self) -> dict[str, dict[str, Any]]:
        """Return what agents are told besides, before they act."""
        return {}

    def needs(self, agent: str) -> bool:
        """Whether an acting agent has something to decide; what others send is not looked at."""
        del agent
        return True

    @property
    def missing(self) -> str:
        """What is said of an agent that has something to decide and sent nothing."""
        return "acts in this round but has no action"

    @abstractmethod
    def checked(self, agent: str, action: Any) -> Any:
        """Return the action of an agent as :meth:`take` needs it.

        Raises:
            InputError: If it is not one of the agent's.
        """

    @abstractmethod
    def take(self, actions: Mapping[str, Any]) -> Told:
        """Let a round happen, and begin the next one.

        Args:
            actions: Checked actions of the acting agents that have something to decide.
        """

    @property
    def worth_drawing(self) -> bool:
        """Whether what happened last is worth a picture where everything is drawn as it happens."""
        return True

    @abstractmethod
    def drawing(self) -> str:
        """Draw the world as lines of text."""


class PlainAgents(Agents):
    """Agents of a world whose roles tell their shapes, see :attr:`Role.shape`.

    Agents are called ``ROLE_SITE``. An agent sees the numbers of its role's view one after the other, in the order of
    the fields: its own row of what has one for every site, everything of the rest. It chooses a number (``Discrete``,
    several ``MultiDiscrete``), a subset (``MultiBinary``), or shares (``Box`` of [0, 1], rows flattened).
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.parallel = len(world.roles) == 1
        self._of_role = {
            name: [f"{name}_{site}" for site in range(self._shape(role)[0])] for name, role in world.roles.items()
        }
        self.names = [name for names in self._of_role.values() for name in names]
        self._role_of = {name: role for role, names in self._of_role.items() for name in names}
        self.action_spaces = {name: self._action_space(world.roles[self._role_of[name]]) for name in self.names}
        self.begin()
        widths = self._widths()
        self.observation_spaces = {
            name: spaces.Box(-np.inf, np.inf, (widths[self._role_of[name]],), np.float32) for name in self.names
        }

    def begin(self) -> None:
        """See :meth:`Agents.begin`."""
        role = self.world.turn or next(iter(self.world.roles))
        self.acting = self._of_role[role]

    def observations(self) -> dict[str, Observation]:
        """See :meth:`Agents.observations`."""
        return dict(zip(self.acting, self._due(), strict=True))

    def checked(self, agent: str, action: Any) -> Any:
        """See :meth:`Agents.checked`."""
        space = self.action_spaces[agent]
        if isinstance(space, spaces.Discrete):
            return chosen(agent, action, int(space.n), "a number")
        values = numbers(action)
        if values is None or values.shape != space.shape or not space.contains(values.astype(space.dtype)):
            raise InputError(f"the action of {agent} is {shown(action)}, but must be one of {space}.")
        return values

    def take(self, actions: Mapping[str, Any]) -> Told:
        """See :meth:`Agents.take`."""
        role = self.world.roles[self._role_of[self.acting[0]]]
        rows = np.stack([np.asarray(actions[name]) for name in self.acting])
        dtype = {"choice": np.int64, "subset": np.bool_, "shares": np.float32}[role.action]
        sites, *shape = self._shape(role)
        shape = shape[:-1] if role.action == "choice" else shape  # the last number is that of the choices
        outcome = self.world.decide(torch.from_numpy(rows.astype(dtype).reshape(1, sites, *shape)))
        rewards = {
            name: float(value)
            for settled, values in outcome.rewards.items()
            for name, value in zip(self._of_role[settled], values[0], strict=True)
        }
        self.begin()
        return rewards, {}

    def drawing(self) -> str:
        """See :meth:`Agents.drawing`."""
        rows = (
            f"{name} sees {np.round(row, 3).tolist()}\n" for name, row in zip(self.acting, self._due(), strict=True)
        )
        return f"round {self.world.round}\n" + "".join(rows)

    def _due(self) -> np.ndarray:
        return self._rows(self._role_of[self.acting[0]])

    def _shape(self, role: Role) -> tuple[int, ...]:
        if role.shape is None:
            raise ValueError(
                f"role {role.name} of kind {self.world.kind} has no shape; say it, or give the kind agents"
            )
        return role.shape(self.world.scenario)

    def _action_space(self, role: Role) -> spaces.Space[Any]:
        _, *shape = self._shape(role)
        if role.action == "choice":
            *entities, choices = shape
            return (
                spaces.Discrete(choices) if entities in ([], [1]) else spaces.MultiDiscrete(np.full(entities, choices))
            )
        return spaces.MultiBinary(shape) if role.action == "subset" else spaces.Box(0, 1, tuple(shape), np.float32)

    def _widths(self) -> dict[str, int]:
        """How many numbers each role sees, found by playing until each has had a turn, for a hundred episodes at most.

        Raises:
            InputError: If a role had none.
        """
        widths: dict[str, int] = {}
        self.world.reset(seed=0)
        over = 0
        while len(widths) < len(self.world.roles):
            if self.world.done:  # an episode may have nothing for some of them
                self.world.reset()
                over += 1
            if over == 100:
                missing = next(name for name in self.world.roles if name not in widths)
                raise InputError(
                    f"scenario '{self.world.scenario.name}' has hardly ever something to decide for a {missing}, so "
                    "what it would see is not known; give it longer episodes, or more to do."
                )
            self.begin()
            role = self._role_of[self.acting[0]]
            widths[role] = self._rows(role).shape[1]
            self.take({name: np.zeros(space.shape or ()) for name, space in self.action_spaces.items()})
        self.world.reset(seed=0)
        self.begin()
        return widths

    def _rows(self, role: str) -> np.ndarray:
        """What the sites of a role see ``[sites, …]``, float32."""
        sites = len(self._of_role[role])
        columns = []
        for values in _tensors(self.world.observe()):
            own = values.dim() > 1 and values.shape[1] == sites > 1
            row = values[0].reshape(sites, -1) if own else values.reshape(1, -1).expand(sites, -1)
            columns.append(row.float().cpu().numpy())
        return np.concatenate(columns, axis=1, dtype=np.float32)


def _tensors(view: Any) -> list[Tensor]:
    """The tensors of a view of one copy, in the order of their fields."""
    found = []
    for field in fields(view):
        value = getattr(view, field.name)
        if isinstance(value, Tensor):
            found.append(value)
        elif is_dataclass(value):
            found += _tensors(value)
    return found
