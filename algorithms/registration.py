"""Names under which RLlib finds edgegen's environments."""

from __future__ import annotations

from typing import Any

from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env

from edgegen.envs.errors import InputError, did_you_mean
from edgegen.envs.parallel import OffloadingParallelEnv

OFFLOADING_ENV = "edgegen-offloading-v0"
_ENV_CONFIG = ("scenario", "max_cycles")


def make_offloading_env(env_config: dict[str, Any]) -> ParallelPettingZooEnv:
    """Make the offloading environment for RLlib, with vector observations.

    Stock RLlib modules know no action masks. They may act freely: the environment ignores the action of an agent that
    has nothing to place.

    Args:
        env_config: ``scenario`` (name, path or scenario, default ``demo``) and ``max_cycles`` (default: no limit).

    Raises:
        InputError: If ``env_config`` holds anything else, or an impossible value.
    """
    unknown = sorted(set(env_config) - set(_ENV_CONFIG))
    if unknown:
        raise InputError(
            f"env_config of '{OFFLOADING_ENV}' has no '{unknown[0]}'; it has {', '.join(_ENV_CONFIG)}."
            f"{did_you_mean(unknown[0], _ENV_CONFIG)}"
        )
    return ParallelPettingZooEnv(OffloadingParallelEnv(observation="vector", **env_config))


def register_rllib_envs() -> None:
    """Register ``edgegen-offloading-v0`` with RLlib; calling it again changes nothing."""
    register_env(OFFLOADING_ENV, make_offloading_env)
