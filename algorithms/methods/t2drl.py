"""T2DRL (after arXiv 2411.01458): a DDQN caches models once a frame, a DDPG with a diffusion actor divides slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.algorithms.methods.registry import Method
from edgegen.algorithms.t2drl.policy import T2DRLPolicy
from edgegen.algorithms.t2drl.settings import PRESETS, T2DRLSettings

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import JointConfig
    from edgegen.algorithms.t2drl.learning import T2DRLLearning
    from edgegen.envs.provisioning.scenario import ProvisioningScenario


def _config() -> JointConfig:
    from edgegen.algorithms.methods.configs import T2DRLConfig

    return T2DRLConfig()


def _learning(scenario: ProvisioningScenario, settings: T2DRLSettings) -> T2DRLLearning:
    from edgegen.algorithms.t2drl.learning import T2DRLLearning

    return T2DRLLearning(scenario, settings)


METHOD = Method(
    name="t2drl",
    title="T2DRL",
    kind_name="provisioning",
    presets=PRESETS,
    settings=T2DRLSettings,
    headline="cost",
    headline_label="mean cost",
    rivals=("popular-static", "rcars"),
    config=_config,
    learning=_learning,
    restore=T2DRLPolicy.restore,
    in_flight=(
        *("actor_lr", "critic_lr", "cacher_lr", "gamma", "frame_gamma", "tau", "batch_size", "frame_batch_size"),
        *("updates_per_slot", "updates_per_frame", "exploration_noise"),
    ),
)
"""The entry of the registry."""
