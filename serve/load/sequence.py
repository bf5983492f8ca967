# SPDX-License-Identifier: Apache-2.0
"""Sequences of requests for a live service: an episode of the simulated world, with a prompt for every request."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listed
from dataclasses import dataclass

import numpy as np

from edgegen.envs.fleet.draws import ASKED, Requests, draw_requests
from edgegen.envs.fleet.scenario import FleetScenario

Names = Listed[str]

Painter = Callable[[str, np.random.Generator], str]
"""From a model and a generator to a prompt that the model can paint."""


@dataclass(frozen=True)
class Asked:
    """A request of a sequence.

    Attributes:
        at_s: When it is sent, s after the first moment of the sequence.
        home: The edge that it arrives at.
        model: The model that paints.
        prompt: What to paint.
        seed: Seed of the picture.
        deadline_s: Promised delay, s.
        weight: Worth.
        pictures: Pictures.
        steps: Denoising steps; those of the model if None.
    """

    at_s: float
    home: str
    model: str
    prompt: str
    seed: int
    deadline_s: float
    weight: float
    pictures: int = 1
    steps: int | None = None


@dataclass(frozen=True)
class Sequence:
    """Requests for a service, in the order in which they are sent: an episode of the service as a fleet.

    Attributes:
        scenario: The service as a fleet.
        edges: Names of its sites, in order.
        models: Names of its models, in order.
        seed: Seed of the episode, as the world takes it.
        episode: Its number.
        drawn: The requests as the simulator draws them, E = 1.
        asked: The requests as they are sent.
    """

    scenario: FleetScenario
    edges: tuple[str, ...]
    models: tuple[str, ...]
    seed: int
    episode: int
    drawn: Requests
    asked: tuple[Asked, ...]


def sequence_of(
    scenario: FleetScenario, edges: Names, models: Names, painter: Painter, seed: int, episode: int = 0
) -> Sequence:
    """Draw a sequence: the requests of one episode, which a simulation with this seed plays under the same number.

    Args:
        scenario: The service as a fleet.
        edges: Names of its sites, in order.
        models: Names of its models, in order.
        painter: Gives the prompts.
        seed: Seed of the episode.
        episode: Its number.

    Raises:
        ValueError: If there are not as many names as sites and models.
    """
    if len(edges) != scenario.sites or len(models) != len(scenario.kinds_of_models):
        raise ValueError(
            f"{len(edges)} edges and {len(models)} models were named, but the scenario has {scenario.sites} sites and "
            f"{len(scenario.kinds_of_models)} models"
        )
    drawn = draw_requests(scenario, seed, range(episode, episode + 1))
    rng = np.random.default_rng((seed, episode))
    own_steps = scenario.asked_steps is None and not (scenario.recorded and scenario.recorded.plays("steps"))
    asked = [
        Asked(
            at_s=float(drawn.arrival_s[0, k]),
            home=edges[drawn.home[0, k]],
            model=models[drawn.model[0, k]],
            prompt=painter(models[drawn.model[0, k]], rng),
            seed=k,
            deadline_s=float(drawn.deadline_s[0, k]),
            weight=float(drawn.weight[0, k]),
            pictures=int(drawn.pictures[0, k]),
            steps=None if own_steps else int(drawn.more[0, k, ASKED]),
        )
        for k in range(int(drawn.number[0]))
    ]
    return Sequence(scenario, tuple(edges), tuple(models), seed, episode, drawn, tuple(asked))
