# SPDX-License-Identifier: Apache-2.0
"""The fleet: router, allocator and cacher learn together what a tuned rule leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.settings import PRESETS, FleetSettings
from edgegen.algorithms.fleet.start import start_episodes
from edgegen.algorithms.methods.registry import Method

if TYPE_CHECKING:
    from edgegen.algorithms.fleet.learning import FleetLearning
    from edgegen.algorithms.rllib.config import JointConfig
    from edgegen.envs.fleet.scenario import FleetScenario


def _config() -> JointConfig:
    from edgegen.algorithms.fleet.config import FleetConfig

    return FleetConfig()


def _learning(scenario: FleetScenario, settings: FleetSettings) -> FleetLearning:
    from edgegen.algorithms.fleet.learning import FleetLearning

    return FleetLearning(scenario, settings)


def _start_episodes(settings: FleetSettings) -> int:
    return 0 if settings.prices else start_episodes(settings.tune_trials, settings.tune_episodes)


METHOD = Method(
    name="fleet",
    kind_name="fleet",
    presets=PRESETS,
    settings=FleetSettings,
    headline="lost_utility",
    headline_label="lost utility",
    rivals=("price-greedy", "earliest"),
    config=_config,
    learning=_learning,
    restore=FleetPolicy.restore,
    in_flight=("learning_rate", "evolve_rate", "temperature", "tau", "batch_size"),
    default_preset="joint",
    start_episodes=_start_episodes,
)
"""The entry of the registry."""
