# SPDX-License-Identifier: Apache-2.0
"""Every world for any multi-agent library: one PettingZoo environment, whatever kind of world it is.

Agents are pairs of a role and a site, and act on their turn: PettingZoo's agent-by-agent form (AEC), :func:`env`. Where
all agents act in every round, as in offloading, there is the parallel form too, :func:`parallel_env`, and many copies
of it at once, :func:`vector_env`. What agents see and do is told by the kind:
:class:`edgegen.envs.offloading.agents.OffloadingAgents`,
:class:`edgegen.envs.provisioning.agents.ProvisioningAgents`.

Training in edgegen runs on the batched simulator, which is far faster. This facade is for everything that speaks
PettingZoo; what happens in it is what happens there.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from edgegen.envs.core.agent_input import (
    checked_flag,
    checked_max_cycles,
    checked_option,
    shown,
    stream_seed,
    whole_number,
)
from edgegen.envs.core.agent_views import DressedAgents, state_of, state_space_of
from edgegen.envs.core.agents import Agents, Observation
from edgegen.envs.core.batched import BatchedRounds
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.core.world import WorldScenario

RENDER_MODES = ("ansi", "human")

Named = str | Path | WorldScenario
"""A scenario, or the name or path of one."""


class Episodes:
    """Episodes of a world, round by round: what both forms of the environment have in common.

    Starting state: ``reset(seed=s)`` starts the first episode of the stream of s, ``reset()`` the next one of the same
    stream. Without any seed the stream is drawn from the operating system.

    Episode end: episodes are truncated, for all agents at once, when the world has no more turns or after
    ``max_cycles`` rounds. They never terminate: the servers go on working, and the last observations show what would
    follow.

    Args:
        scenario: Name or path of a scenario of any kind, or a scenario.
        max_cycles: Most rounds of an episode, no limit if None.
        render_mode: ``"ansi"`` returns a drawing from ``render()``; ``"human"`` prints it as things happen.
        normalise: Bring what agents see to numbers of about 1: to [0, 1] between finite bounds, else to
            sign(x)·ln(1 + |x|).
        identity: End what an agent sees with a one-hot of who it is, for weights that all agents share.
        options: Further arguments of the kind's agents.

    Raises:
        InputError: If the scenario is unknown, or an argument has no such value.
    """

    metadata: dict[str, Any]
    in_rounds: ClassVar[bool] = False
    """Whether all agents must act in every round."""

    def __init__(
        self,
        scenario: Named = "demo",
        max_cycles: int | None = None,
        render_mode: str | None = None,
        normalise: bool = False,
        identity: bool = False,
        **options: Any,
    ) -> None:
        checked_option("render_mode", render_mode, (*RENDER_MODES, None))
        for name, value in (("normalise", normalise), ("identity", identity)):
            checked_flag(name, value)
        self.scenario = as_scenario(scenario)
        self.max_cycles = checked_max_cycles(max_cycles)
        self.render_mode = render_mode
        kind = kind_of(self.scenario)
        known = [*inspect.signature(kind.agents).parameters][1:]
        for name in options:
            if name not in known:
                raise InputError(
                    f"a world of the kind {kind.name} has no argument {shown(name)}; its own are "
                    f"{', '.join(known) or 'none'}.{did_you_mean(name, known)}"
                )
        self._world = kind.world(self.scenario)
        self._them: Agents = kind.agents(self._world, **options)
        if normalise or identity:
            self._them = DressedAgents(self._them, normalise, identity)
        if self.in_rounds and not self._them.parallel:
            raise InputError(
                f"scenario '{self.scenario.name}' is of the kind {kind.name}, whose agents take turns; use "
                "edgegen.envs.pettingzoo.env."
            )
        self.metadata = {
            "name": f"edgegen_{kind.name}_v0",
            "render_modes": list(RENDER_MODES),
            "is_parallelizable": self._them.parallel,
        }
        self.possible_agents = self._them.names
        self.agents: list[str] = []
        self.observation_spaces = self._them.observation_spaces
        self.action_spaces = self._them.action_spaces
        self.state_space = state_space_of(self.observation_spaces, self.possible_agents)
        self._shown = {agent: _nothing(space) for agent, space in self.observation_spaces.items()}
        self._seeded = False
        self._rounds = 0

    def state(self) -> np.ndarray:
        """Return what all agents see together, one after the other in the order of ``possible_agents``.

        That is the global view of a centralised critic. An agent that is not acting has what it saw last.
        """
        return state_of(self._shown, self.possible_agents)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the observation space of an agent, the same object on every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the action space of an agent, the same object on every call."""
        return self.action_spaces[agent]

    def render(self) -> str | None:
        """Draw the world as text: returned in mode ``ansi``, printed in mode ``human``."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode; make the environment with render_mode='ansi'.")
            return None
        picture = self._them.drawing()
        if self.render_mode == "human":
            sys.stdout.write(picture)
            return None
        return picture

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _begin(self, seed: int | None) -> None:
        self._world.reset(seed=stream_seed(seed, self._seeded))
        self._seeded = True
        self._rounds = 0
        self.agents = list(self.possible_agents)
        self._shown = {agent: _nothing(space) for agent, space in self.observation_spaces.items()}
        self._them.begin()
        self._show()

    def _see(self) -> Mapping[str, Observation]:
        """What agents see that act."""
        seen = self._them.observations()
        self._shown |= seen
        return seen

    def _play_round(self, actions: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, dict[str, Any]], bool]:
        """Let a round happen; returns rewards of all agents, infos of some, and whether the episode is over."""
        earned, infos = self._them.take(actions)
        self._rounds += 1
        over = self._world.done or self._rounds == self.max_cycles
        return {**dict.fromkeys(self.agents, 0.0), **earned}, infos, over

    def _checked(self, agent: str, action: Any) -> Any:
        return self._them.checked(agent, action) if self._them.needs(agent) else None

    def _show(self) -> None:
        if self.render_mode == "human" and self._them.worth_drawing:
            self.render()


class TurnsEnv(Episodes, AECEnv):  # type: ignore[misc]  # pettingzoo ships no types
    """A world in which agents act one after the other; arguments are those of :class:`Episodes`.

    Nobody sees what others do in the same round: it happens when the last agent of the round has acted. Between its
    turns an agent goes on seeing what it saw last, and nothing before its first. An agent that has nothing to decide
    may do anything.
    """

    agent_selection: str

    def observe(self, agent: str) -> Observation:
        """Return what an agent saw on its last turn, or sees now if it is its turn."""
        seen = self._shown[agent]
        return {name: values.copy() for name, values in seen.items()} if isinstance(seen, dict) else seen.copy()

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode: the first of the seed's stream, or the next one if no seed is given.

        Raises:
            InputError: If the seed is no whole number, or negative.
        """
        del options
        self._begin(seed)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents} | self._them.infos()
        self._skip_agent_selection = None  # PettingZoo's note of who was next before the dead stepped
        self._begin_round()

    def step(self, action: Any) -> None:
        """Take the action of the agent whose turn it is; None for an agent whose episode is over.

        Raises:
            ValueError: If no episode is running.
            InputError: If the action is not one of the agent's.
        """
        if not self.agents:
            raise ValueError("no episode is running; call reset()")
        agent = self.agent_selection
        if self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._actions[agent] = self._checked(agent, action)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        place = len(self._actions)
        if place < len(self._them.acting):
            self.agent_selection = self._them.acting[place]
            return
        actions = {name: value for name, value in self._actions.items() if value is not None}
        self.rewards, infos, over = self._play_round(actions)
        self.infos |= infos
        self.truncations = dict.fromkeys(self.agents, over)
        self._begin_round()
        self._accumulate_rewards()
        self._show()

    def _begin_round(self) -> None:
        """Give the turn to the first agent of the round, and those who act something to see."""
        self._actions: dict[str, Any] = {}
        self.agent_selection = self._them.acting[0]
        self._see()


class RoundsEnv(Episodes, ParallelEnv):  # type: ignore[misc]
    """A world in which all agents act in every round; arguments are those of :class:`Episodes`.

    Raises:
        InputError: As :class:`Episodes`, and if agents of the scenario take turns.
    """

    in_rounds = True

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode: the first of the seed's stream, or the next one if no seed is given.

        Raises:
            InputError: If the seed is no whole number, or negative.
        """
        del options
        self._begin(seed)
        return dict(self._see()), {agent: {} for agent in self.agents} | self._them.infos()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Let all agents act.

        Args:
            actions: Action by agent; agents that have nothing to decide may be missing or send anything.

        Returns:
            Observations, rewards, terminations, truncations and infos, each by agent.

        Raises:
            ValueError: If no episode is running.
            InputError: If an action is not one of its agent's, one is missing, or there is no such agent.
        """
        if not self.agents:
            raise ValueError("no episode is running; call reset()")
        rewards, infos, over = self._play_round(self._checked_all(actions))
        names = self.agents
        observations = dict(self._see())
        self.agents = [] if over else list(names)
        self._show()
        infos = {agent: {} for agent in names} | infos
        return observations, rewards, dict.fromkeys(names, False), dict.fromkeys(names, over), infos

    def _checked_all(self, actions: Any) -> dict[str, Any]:
        """The actions of agents that have something to decide; what others sent is not looked at."""
        if not isinstance(actions, Mapping):
            raise InputError(f"actions is {shown(actions)}, but must be a dictionary from agents to their actions.")
        for agent in actions:
            if agent not in self.action_spaces:
                first, last = self.possible_agents[0], self.possible_agents[-1]
                raise InputError(f"actions has an agent {shown(agent)}, but the agents are {first} … {last}.")
        deciding = [agent for agent in self._them.acting if self._them.needs(agent)]
        for agent in deciding:
            if agent not in actions:
                raise InputError(f"{agent} {self._them.missing}.")
        return {agent: self._checked(agent, actions[agent]) for agent in deciding}


def _nothing(space: spaces.Space[Any]) -> Observation:
    if isinstance(space, spaces.Dict):
        return {name: _nothing(part) for name, part in space.items()}  # type: ignore[misc]
    return np.zeros(space.shape or (), space.dtype)


def parallel_env(scenario: Named = "demo", **kwargs: Any) -> RoundsEnv:
    """Make the environment in PettingZoo's parallel form; arguments are those of :class:`Episodes`."""
    return RoundsEnv(scenario, **kwargs)


def vector_env(
    scenario: Named = "demo",
    copies: int = 64,
    max_cycles: int | None = None,
    normalise: bool = False,
    identity: bool = False,
) -> BatchedRounds:
    """Make many copies of a world as one environment, whose arrays have a leading axis of copies.

    Args:
        scenario: Name or path of a scenario whose agents all act in every round, or a scenario.
        copies: Copies that are played side by side.
        max_cycles: Most rounds of an episode, no limit if None.
        normalise: See :class:`Episodes`.
        identity: See :class:`Episodes`.

    Raises:
        InputError: If the scenario is unknown, its agents take turns, or an argument has no such value.
    """
    world, count = as_scenario(scenario), whole_number(copies)
    kind = kind_of(world)
    if kind.batched is None:
        raise InputError(
            f"scenario '{world.name}' is of the kind {kind.name}, whose agents take turns; use "
            "edgegen.envs.pettingzoo.env."
        )
    if count is None or count < 1:
        raise InputError(f"copies is {shown(copies)}, but must be a whole number of at least 1.")
    for name, value in (("normalise", normalise), ("identity", identity)):
        checked_flag(name, value)
    return BatchedRounds(kind.batched(kind.world(world, count), normalise, identity), max_cycles)


def raw_env(scenario: Named = "demo", **kwargs: Any) -> TurnsEnv:
    """Make the environment in PettingZoo's agent-by-agent form (AEC); arguments are those of :class:`Episodes`."""
    return TurnsEnv(scenario, **kwargs)


def env(scenario: Named = "demo", **kwargs: Any) -> AECEnv:
    """Make the agent-by-agent form with PettingZoo's checks of the order of calls; arguments as for ``raw_env``."""
    return OrderEnforcingWrapper(raw_env(scenario, **kwargs))
