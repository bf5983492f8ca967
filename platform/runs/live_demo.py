# SPDX-License-Identifier: Apache-2.0
"""The live part of the demonstration: a tuned rule and a learned policy serve the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from edgegen.platform.runs.comparison import Comparison
from edgegen.platform.runs.live_comparison import LiveService
from edgegen.platform.runs.rule_search import TuneRequest
from edgegen.platform.runs.training import TrainRequest
from edgegen.platform.runs.tuning import TuneResult, tune
from edgegen.platform.screen import activity

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

RIVALS = ("price-greedy", "earliest")
RULE, TUNED, LEARNED = "price-greedy", "tuned rule", "learned"
EPISODES_PER_TRIAL = 16


@dataclass(frozen=True)
class LiveRequest:
    """What the live part does.

    Attributes:
        out: Folder of the demonstration.
        config: The service.
        trials: Sets of constants that the rule is tuned with.
        episodes: Training episodes.
        seed: Root of all random numbers.
    """

    out: Path
    config: ServiceConfig
    trials: int
    episodes: int
    seed: int


def tuned(request: LiveRequest, live: LiveService, notes: Console) -> TuneResult:
    """Search the constants of the rule for the edges of a service."""
    wanted = TuneRequest(RULE, live.world, request.trials, EPISODES_PER_TRIAL, request.seed)
    with activity(notes) as say:
        folder = request.out / "service-tuned"
        return tune(wanted, folder, False, True, lambda done, all_: say(f"{len(done)} of {all_} sets of constants"))


def training(request: LiveRequest, live: LiveService, start: TuneResult) -> TrainRequest:
    """Describe the training of the three roles for these edges: it begins at the tuned rule."""
    assert start.best is not None
    return TrainRequest(
        scenario=live.world,
        out=request.out / "service-train",
        algorithm="fleet",
        preset="joint",
        overrides={"prices": start.best.model_dump()},
        episodes=request.episodes,
        seed=request.seed,
    )


def better(comparison: Comparison) -> str:
    """Label of the policy that stays: the learned one, unless it is behind the rule beyond the interval."""
    return TUNED if comparison.row(LEARNED).difference.low > 0 else LEARNED
