# SPDX-License-Identifier: Apache-2.0
"""What agents see, as learners with shared weights like it: numbers of about 1, and who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from edgegen.envs.core.agents import Agents, Observation, Told

VECTOR = "observation"
"""Entry of a dictionary of observations that holds the vector."""


class Normaliser:
    """Brings vectors to numbers of about 1: linear between finite bounds, else sign(x)·ln(1 + |x|).

    Args:
        space: What vectors are.
    """

    def __init__(self, space: spaces.Box) -> None:
        self.finite = np.isfinite(space.low) & np.isfinite(space.high)
        self.low = np.where(self.finite, space.low, 0).astype(np.float32)
        span = np.where(self.finite, space.high.astype(np.float64) - self.low, 1)
        self.span = np.where(span > 0, span, 1).astype(np.float32)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return vectors ``[..., D]`` so."""
        linear = np.clip((values - self.low) / self.span, 0, 1)
        if self.finite.all():
            return np.asarray(linear, dtype=np.float32)
        squeezed = np.sign(values) * np.log1p(np.abs(values))
        return np.asarray(np.where(self.finite, linear, squeezed), dtype=np.float32)

    @property
    def space(self) -> spaces.Box:
        """What comes out."""
        low = np.where(self.finite, 0, -np.inf).astype(np.float32)
        high = np.where(self.finite, 1, np.inf).astype(np.float32)
        return spaces.Box(low, high, dtype=np.float32)


def with_identity(space: spaces.Box, agents: int) -> spaces.Box:
    """Return the space of vectors that end with who is asking, as a one-hot of the agents."""
    low, high = (np.concatenate([end, np.full(agents, value)]) for end, value in ((space.low, 0), (space.high, 1)))
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


class DressedAgents(Agents):
    """Agents that see the same in another form; all else is theirs.

    Args:
        them: The agents; each sees a vector, or a dictionary with one.
        normalise: Whether vectors are brought to numbers of about 1, see :class:`Normaliser`.
        identity: Whether they end with a one-hot of the agent.
    """

    def __init__(self, them: Agents, normalise: bool, identity: bool) -> None:
        self.them, self.world, self.parallel = them, them.world, them.parallel
        self.names, self.action_spaces = them.names, them.action_spaces
        vectors = {agent: _vector_of(space) for agent, space in them.observation_spaces.items()}
        self._normalisers = {agent: Normaliser(space) for agent, space in vectors.items()} if normalise else {}
        self._identity = (
            dict(zip(them.names, np.eye(len(them.names), dtype=np.float32), strict=True)) if identity else {}
        )
        self.observation_spaces = {}
        for agent, whole in them.observation_spaces.items():
            space = self._normalisers[agent].space if normalise else vectors[agent]
            space = with_identity(space, len(them.names)) if identity else space
            self.observation_spaces[agent] = (
                spaces.Dict({**whole.spaces, VECTOR: space}) if isinstance(whole, spaces.Dict) else space
            )

    @property
    def acting(self) -> list[str]:  # type: ignore[override]  # theirs changes
        """See :attr:`Agents.acting`."""
        return self.them.acting

    def begin(self) -> None:
        """See :meth:`Agents.begin`."""
        self.them.begin()

    def observations(self) -> Mapping[str, Observation]:
        """See :meth:`Agents.observations`."""
        return {
            agent: {**seen, VECTOR: self._dressed(agent, seen[VECTOR])}
            if isinstance(seen, dict)
            else self._dressed(agent, seen)
            for agent, seen in self.them.observations().items()
        }

    def _dressed(self, agent: str, vector: NDArray[Any]) -> NDArray[Any]:
        if self._normalisers:
            vector = self._normalisers[agent](vector)
        return np.concatenate([vector, self._identity[agent]]) if self._identity else vector

    def infos(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Agents.infos`."""
        return self.them.infos()

    def needs(self, agent: str) -> bool:
        """See :meth:`Agents.needs`."""
        return self.them.needs(agent)

    @property
    def missing(self) -> str:
        """See :attr:`Agents.missing`."""
        return self.them.missing

    def checked(self, agent: str, action: Any) -> Any:
        """See :meth:`Agents.checked`."""
        return self.them.checked(agent, action)

    def take(self, actions: Mapping[str, Any]) -> Told:
        """See :meth:`Agents.take`."""
        return self.them.take(actions)

    @property
    def worth_drawing(self) -> bool:
        """See :attr:`Agents.worth_drawing`."""
        return self.them.worth_drawing

    def drawing(self) -> str:
        """See :meth:`Agents.drawing`."""
        return self.them.drawing()


def state_of(seen: Mapping[str, Observation], agents: list[str]) -> NDArray[np.float32]:
    """What all agents see, one after the other, as one vector: the global view of a centralised critic."""
    vectors = (seen[agent][VECTOR] if isinstance(seen[agent], dict) else seen[agent] for agent in agents)
    return np.concatenate([np.asarray(vector, dtype=np.float32).ravel() for vector in vectors])


def state_space_of(observation_spaces: Mapping[str, spaces.Space[Any]], agents: list[str]) -> spaces.Box:
    """The space of :func:`state_of`."""
    vectors = [_vector_of(observation_spaces[agent]) for agent in agents]
    low, high = (np.concatenate([getattr(space, end).ravel() for space in vectors]) for end in ("low", "high"))
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def _vector_of(space: Any) -> spaces.Box:
    vector = space[VECTOR] if isinstance(space, spaces.Dict) else space
    assert isinstance(vector, spaces.Box)
    return vector
