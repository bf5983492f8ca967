# SPDX-License-Identifier: Apache-2.0
"""Figures as matplotlib objects, for scripts and notebooks: ``edgegen.figures``.

They are drawn without a display and whatever matplotlib is set up to; ``figure.savefig("figure.pdf")`` writes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.envs.core.scenarios import as_scenario
from edgegen.platform.api import AnyPolicy, World, make_policy
from edgegen.platform.figures.episode_plot import episode_figure
from edgegen.platform.figures.plots import comparison_figure, training_figure
from edgegen.platform.runs.comparison import Comparison
from edgegen.platform.runs.episode import play_episode
from edgegen.platform.runs.training import TrainResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison(result: Comparison, labels: Mapping[str, str] | None = None, title: str | None = None) -> Figure:
    """Draw means with intervals, every episode or training as a dot, and how close each policy is to the reference.

    Args:
        result: What ``edgegen.compare`` returned.
        labels: Other names for policies, by label.
        title: Heading; what was played if not given.
    """
    return comparison_figure(result, labels, title)


def training(result: TrainResult, metric: str | None = None, title: str | None = None) -> Figure:
    """Draw the learning curve of a training.

    Args:
        result: What ``edgegen.train`` returned.
        metric: Which of its measures; the first if not given.
        title: Heading; the name of the run if not given.
    """
    name = next(iter(result.episodes)) if metric is None else metric
    return training_figure(result.episodes[name], result.out.name if title is None else title, name)


def episode(world: World, policies: Mapping[str, AnyPolicy], number: int = 0, seed: int = 0) -> Figure:
    """Draw one episode of a fleet world: requests, loads and backlog of every site over time, policies side by side.

    Args:
        world: The world.
        policies: Who decides, by label.
        number: Number of the episode.
        seed: Of what happens from outside.

    Raises:
        InputError: If the kind of world keeps no time line, or a policy can not be had.
    """
    scenario = as_scenario(world)
    made = {
        label: make_policy(policy, scenario, seed) if isinstance(policy, str | Path) else policy
        for label, policy in policies.items()
    }
    return episode_figure(play_episode(scenario, made, number, seed))
