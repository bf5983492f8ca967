"""LAD-TS (after arXiv 2412.18212): servers route tasks with a soft actor-critic whose actor is a diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.ladts.settings import PRESETS, LADTSSettings, make_settings
from edgegen.algorithms.methods.registry import Method
from edgegen.envs.core.kinds import Traits

if TYPE_CHECKING:
    from edgegen.algorithms.ladts.learning import LADTSLearning
    from edgegen.algorithms.rllib.config import JointConfig
    from edgegen.envs.offloading.scenario import OffloadingScenario


def _config() -> JointConfig:
    from edgegen.algorithms.ladts.config import LADTSConfig

    return LADTSConfig()


def _learning(scenario: OffloadingScenario, settings: LADTSSettings) -> LADTSLearning:
    from edgegen.algorithms.ladts.learning import LADTSLearning

    return LADTSLearning(scenario, settings)


def _met(settings: Mapping[str, Any]) -> Traits:
    servers = settings.get("train_servers") or ()
    return {"numbers of servers": (min(servers), max(servers))} if servers else {}


METHOD = Method(
    name="ladts",
    kind_name="offloading",
    presets=PRESETS,
    settings=LADTSSettings,
    make_settings=make_settings,
    headline="delay_mean_s",
    headline_label="mean delay, s",
    rivals=("capacity-weighted", "least-delay"),
    config=_config,
    learning=_learning,
    restore=LADTSPolicy.restore,
    met=_met,
    in_flight=("actor_lr", "critic_lr", "temperature_lr", "gamma", "tau", "batch_size", "updates_per_slot"),
)
"""The entry of the registry."""
