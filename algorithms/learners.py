"""What there is to train: the algorithms by name, with their settings, worlds and what they are measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from edgegen.algorithms.ladts import settings as ladts
from edgegen.algorithms.t2drl import settings as t2drl
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.offloading.scenario import OffloadingScenario, build_scenario, load_scenario
from edgegen.envs.provisioning.scenario import ProvisioningScenario, build_provisioning, load_provisioning

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import ArrayConfig


@dataclass(frozen=True)
class Learner:
    """An algorithm that can be trained.

    Attributes:
        name: How it is called.
        presets: Its presets.
        settings: Model of its settings.
        make_settings: From preset and overrides to settings.
        scenario: Model of its scenarios.
        load_scenario: From a scenario's name and overrides to a scenario.
        build_scenario: From plain values to a scenario.
        default_scenario: What it trains on unless told otherwise.
        headline: What of an episode's report tells how good it was; less is better.
        headline_label: That, for people, with its unit.
        rivals: Rules to compare it with first.
        config: Makes its RLlib config; imports RLlib.
    """

    name: str
    presets: Mapping[str, Any]
    settings: type[BaseModel]
    make_settings: Callable[..., BaseModel]
    scenario: type[BaseModel]
    load_scenario: Callable[..., Any]
    build_scenario: Callable[[dict[str, Any]], Any]
    default_scenario: str
    headline: str
    headline_label: str
    rivals: tuple[str, ...]
    config: Callable[[], ArrayConfig]


def _ladts_config() -> ArrayConfig:
    from edgegen.algorithms.ladts.config import LADTSConfig

    return LADTSConfig()


def _t2drl_config() -> ArrayConfig:
    from edgegen.algorithms.t2drl.config import T2DRLConfig

    return T2DRLConfig()


LEARNERS = {
    "ladts": Learner(
        "ladts",
        ladts.PRESETS,
        ladts.LADTSSettings,
        ladts.make_settings,
        OffloadingScenario,
        load_scenario,
        build_scenario,
        "demo",
        "delay_mean_s",
        "mean delay, s",
        ("capacity-weighted", "least-delay"),
        _ladts_config,
    ),
    "t2drl": Learner(
        "t2drl",
        t2drl.PRESETS,
        t2drl.T2DRLSettings,
        t2drl.make_settings,
        ProvisioningScenario,
        load_provisioning,
        build_provisioning,
        "t2drl-contended",
        "cost",
        "mean cost",
        ("popular-static", "rcars"),
        _t2drl_config,
    ),
}
"""Algorithms by name."""


def find_learner(name: str) -> Learner:
    """Return an algorithm by name.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in LEARNERS:
        raise InputError(
            f"Unknown algorithm '{name}'; algorithms are {', '.join(LEARNERS)}.{did_you_mean(name, LEARNERS)}"
        )
    return LEARNERS[name]
