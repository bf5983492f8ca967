# SPDX-License-Identifier: Apache-2.0
"""Many copies of a world for learners of other libraries: one step is a round of all agents in all copies.

The form is that of PettingZoo's parallel environments, with arrays in the place of numbers: whatever an agent sees,
does or gets has a leading axis of copies. Copies go in lockstep, so their episodes end together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from edgegen.envs.core.agent_input import checked_max_cycles, stream_seed
from edgegen.envs.core.world import World

BatchedTold = tuple[NDArray[np.float32], dict[str, NDArray[Any]]]
"""Rewards ``[E, agents]``, and infos by name, likewise."""


class BatchedAgents(ABC):
    """The agents of E copies of a world.

    Attributes:
        world: The world.
        names: Names of all agents.
        observation_spaces: What each can see in a copy, by agent; all of the same length.
        action_spaces: What each can do in a copy, by agent.
    """

    world: Any
    names: list[str]
    observation_spaces: dict[str, spaces.Box]
    action_spaces: dict[str, spaces.Space[Any]]

    @abstractmethod
    def begin(self) -> None:
        """Begin the first round of episodes whose world has just been reset."""

    @abstractmethod
    def observations(self) -> NDArray[np.float32]:
        """Return what agents see ``[E, agents, D]``."""

    @abstractmethod
    def checked(self, actions: Mapping[str, Any] | NDArray[Any]) -> NDArray[Any]:
        """Return actions ``[E, agents]`` as :meth:`take` needs them, from an array or by agent.

        Raises:
            InputError: If they are not those of all agents.
        """

    @abstractmethod
    def take(self, actions: NDArray[Any]) -> BatchedTold:
        """Let a round happen, and begin the next one."""


class BatchedRounds:
    """E copies of a world in which all agents act in every round.

    Seeds and ends of episodes are those of the parallel form: copy e plays what the parallel environment plays in its
    e-th episode after ``reset(seed)``; ``reset()`` goes on to the next E.

    Args:
        them: The agents.
        max_cycles: Most rounds of an episode, no limit if None.

    Attributes:
        num_envs: Copies E.
        possible_agents: Names of all agents.
        agents: Those of the running episodes; nobody where none runs.
    """

    def __init__(self, them: BatchedAgents, max_cycles: int | None = None) -> None:
        self._them, self.max_cycles = them, checked_max_cycles(max_cycles)
        self._world: World = them.world
        self.num_envs = self._world.copies
        self.possible_agents, self.agents = them.names, list[str]()
        self.observation_spaces, self.action_spaces = them.observation_spaces, them.action_spaces
        self._seeded, self._rounds = False, 0

    def observation_space(self, agent: str) -> spaces.Box:
        """Return what an agent sees in one copy."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return what an agent can do in one copy."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        """Begin episodes in all copies; returns observations ``[E, D]`` by agent, and no infos.

        Raises:
            InputError: If the seed is no whole number, or negative.
        """
        self._world.reset(seed=stream_seed(seed, self._seeded))
        self._seeded, self._rounds = True, 0
        self.agents = list(self.possible_agents)
        self._them.begin()
        return self._by_agent(self._see()), {}

    def step(
        self, actions: Mapping[str, Any] | NDArray[Any]
    ) -> tuple[
        dict[str, NDArray[np.float32]],
        dict[str, NDArray[np.float32]],
        dict[str, NDArray[np.bool_]],
        dict[str, NDArray[np.bool_]],
        dict[str, dict[str, NDArray[Any]]],
    ]:
        """Let all agents act in all copies.

        Args:
            actions: ``[E]`` by agent, or ``[E, agents]``; what agents that wait send is not looked at.

        Returns:
            Observations ``[E, D]``, rewards, terminations, truncations ``[E]`` and infos, each by agent.

        Raises:
            ValueError: If no episodes are running.
            InputError: If actions are not those of all agents.
        """
        if not self.agents:
            raise ValueError("no episodes are running; call reset()")
        rewards, infos = self._them.take(self._them.checked(actions))
        self._rounds += 1
        over = self._world.done or self._rounds == self.max_cycles
        ended, never = np.full(self.num_envs, over), np.zeros(self.num_envs, dtype=np.bool_)
        names, seen = self.agents, self._by_agent(self._see())
        self.agents = [] if over else names
        told = {agent: {name: values[:, at] for name, values in infos.items()} for at, agent in enumerate(names)}
        return seen, self._by_agent(rewards), dict.fromkeys(names, never), dict.fromkeys(names, ended), told

    def state(self) -> NDArray[np.float32]:
        """Return what all agents see together in each copy ``[E, agents · D]``: the view of a centralised critic."""
        return self._seen.reshape(self.num_envs, -1)

    @property
    def state_space(self) -> spaces.Box:
        """Space of a row of :meth:`state`."""
        low, high = (
            np.concatenate([getattr(self.observation_spaces[agent], end) for agent in self.possible_agents])
            for end in ("low", "high")
        )
        return spaces.Box(low, high, dtype=np.float32)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _see(self) -> NDArray[np.float32]:
        self._seen = self._them.observations()
        return self._seen

    def _by_agent(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {agent: values[:, at] for at, agent in enumerate(self.possible_agents)}
