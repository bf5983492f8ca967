# SPDX-License-Identifier: Apache-2.0
"""Names under which RLlib finds edgegen's environments."""

from __future__ import annotations

import inspect
from typing import Any

from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv, PettingZooEnv
from ray.tune.registry import register_env

from edgegen.envs.core.agent_input import shown
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.agents import OffloadingAgents
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.pettingzoo import RoundsEnv, TurnsEnv

OFFLOADING_ENV = "edgegen-offloading-v0"
TURNS_ENV = "edgegen-turns-v0"
_DEFAULTS = {"observation": "vector"}
"""Where the environment differs from its class: RLlib's own modules take no dictionaries."""


class OffloadingForRLlib(ParallelPettingZooEnv):
    """The offloading environment behind RLlib's wrapper."""

    def render(self) -> str | None:
        """Draw the queues; the wrapper's own method hands on an argument that PettingZoo does not know."""
        picture: str | None = self.par_env.render()
        return picture


def make_offloading_env(env_config: dict[str, Any]) -> OffloadingForRLlib:
    """Make the offloading environment for RLlib.

    Stock RLlib modules know no action masks. They may act freely: the environment ignores the action of an agent that
    has nothing to place.

    Args:
        env_config: Any argument of :func:`edgegen.envs.pettingzoo.parallel_env` and of
            :class:`edgegen.envs.offloading.agents.OffloadingAgents`, with the same defaults but for ``observation``,
            which is ``vector``. With ``dict``, stock modules need RLlib's ``FlattenObservations``.

    Raises:
        InputError: If ``env_config`` holds anything else, or an impossible value.
    """
    _check_known(OFFLOADING_ENV, env_config, RoundsEnv, OffloadingAgents)
    scenario = as_scenario(env_config.get("scenario", "demo"), OffloadingScenario)
    env = OffloadingForRLlib(RoundsEnv(**{**_DEFAULTS, **env_config, "scenario": scenario}))
    env.render_mode = env.par_env.render_mode
    return env


class TurnsForRLlib(PettingZooEnv):
    """A world of any kind, agent by agent, behind RLlib's wrapper."""

    def render(self) -> str | None:
        """Draw the world; the wrapper's own method hands on an argument that PettingZoo does not know."""
        picture: str | None = self.env.render()
        return picture

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; infos are those of the agent whose turn it is."""
        seen, _ = super().reset(seed=seed, options=options)
        return seen, {agent: self.env.infos[agent] for agent in seen}


def make_turns_env(env_config: dict[str, Any]) -> TurnsForRLlib:
    """Make a world of any kind for RLlib, whose agents act one after the other.

    Args:
        env_config: ``scenario``, and any argument of :func:`edgegen.envs.pettingzoo.env` and of the agents of its kind.

    Raises:
        InputError: If ``env_config`` holds anything else, or an impossible value.
    """
    scenario = as_scenario(env_config.get("scenario", "demo"))
    _check_known(TURNS_ENV, env_config, TurnsEnv, kind_of(scenario).agents)
    env = TurnsForRLlib(TurnsEnv(**{**env_config, "scenario": scenario}))
    env.render_mode = env.env.render_mode
    return env


def register_rllib_envs() -> None:
    """Register ``edgegen-offloading-v0`` and ``edgegen-turns-v0`` with RLlib; calling it again changes nothing."""
    register_env(OFFLOADING_ENV, make_offloading_env)
    register_env(TURNS_ENV, make_turns_env)


def _check_known(name: str, env_config: dict[str, Any], env: type[Any], agents: Any) -> None:
    """Refuse entries that neither an environment nor its agents take."""
    of_both = {**inspect.signature(env).parameters, **inspect.signature(agents).parameters}
    known = [option for option in of_both if option not in ("options", "world")]
    for entry in env_config:
        if entry not in known:
            raise InputError(
                f"env_config of '{name}' has no {shown(entry)}; it has {', '.join(known)}."
                f"{did_you_mean(str(entry), known)}"
            )
