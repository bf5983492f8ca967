"""Names under which RLlib finds edgegen's environments."""

from __future__ import annotations

import inspect
from typing import Any

from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env

from edgegen.envs.core.agent_input import shown
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.agents import OffloadingAgents
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.pettingzoo import RoundsEnv

OFFLOADING_ENV = "edgegen-offloading-v0"
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
    of_both = {**inspect.signature(RoundsEnv).parameters, **inspect.signature(OffloadingAgents).parameters}
    known = [name for name in of_both if name not in ("options", "world")]
    for name in env_config:
        if name not in known:
            raise InputError(
                f"env_config of '{OFFLOADING_ENV}' has no {shown(name)}; it has {', '.join(known)}."
                f"{did_you_mean(str(name), known)}"
            )
    scenario = as_scenario(env_config.get("scenario", "demo"), OffloadingScenario)
    env = OffloadingForRLlib(RoundsEnv(**{**_DEFAULTS, **env_config, "scenario": scenario}))
    env.render_mode = env.par_env.render_mode
    return env


def register_rllib_envs() -> None:
    """Register ``edgegen-offloading-v0`` with RLlib; calling it again changes nothing."""
    register_env(OFFLOADING_ENV, make_offloading_env)
