# SPDX-License-Identifier: Apache-2.0
"""What is known of the models and edges of a service, from its config and from measured profiles; and empty books."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgegen.envs.fleet.models import MOST_POINTS, Exponential, Points
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard
from edgegen.serve.profile.model_profile import ModelProfile

USUAL_CURVE = Exponential(rate=3.5)
"""How the quality of a model rises of which no profile says it."""
USUAL_SIZE_GB, USUAL_LOAD_S = 1.0, 1.0
"""Memory and load time of a model of which neither the config nor a profile says them."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model: what the config says, else what its profile says, else what is usual.

    Attributes:
        size_gb: Memory, GB.
        load_s: Time to load it, s.
        least_steps: Fewest steps that an allocator may choose.
        full_quality: Quality with the steps that it gets by default.
        curve: How it rises.
    """

    size_gb: float
    load_s: float
    least_steps: int
    full_quality: float
    curve: Exponential | Points

    def quality(self, share: float) -> float:
        """Quality with a share of the steps that a request asks for."""
        if isinstance(self.curve, Points):
            return self.full_quality * float(np.interp(share, (0.0, *self.curve.steps), (0.0, *self.curve.quality)))
        return self.full_quality * math.expm1(-self.curve.rate * share) / math.expm1(-self.curve.rate)


def _facts(card: ModelCard) -> Facts:
    quality, curve = (1.0, USUAL_CURVE) if card.profile is None else _curve(card.profile, card.default_steps)
    least = min(card.least_steps, card.default_steps)
    return Facts(card.size_gb or USUAL_SIZE_GB, card.load_s or USUAL_LOAD_S, least, quality, curve)


def _curve(profile: ModelProfile, steps: int) -> tuple[float, Exponential | Points]:
    """Quality with some steps, and the curve up to there: more steps are never worse."""
    full = max([profile.quality_at(steps), *(point.quality for point in profile.quality if point.steps <= steps)])
    if full <= 0:
        return 0.0, USUAL_CURVE
    best, rising = 0.0, []
    for point in profile.quality:
        if point.steps < steps:
            best = max(best, point.quality)
            rising.append((point.steps / steps, best / full))
    if len(rising) >= MOST_POINTS:  # evenly chosen, the first among them
        rising = [rising[i * len(rising) // (MOST_POINTS - 1)] for i in range(MOST_POINTS - 1)]
    shares, qualities = zip(*rising, (1.0, 1.0), strict=True)
    return full, Points(steps=shares, quality=qualities)


def facts_of(config: ServiceConfig) -> dict[str, Facts]:
    """Gather what is known of all models, in their order in the config.

    Raises:
        InputError: If a model's card or profile can not be read.
    """
    return {name: _facts(card) for name, card in config.cards().items()}


def memory_gb_of(edge: EdgeConfig, facts: Mapping[str, Facts]) -> float:
    """Memory of an edge for models, GB: room for all that it may hold if the config does not say it."""
    return edge.memory_gb or sum(facts[model].size_gb for model in edge.all_models)


def open_books(config: ServiceConfig) -> list[Server]:
    """Open the books of all edges, and a ledger of them; capacities are nominal until edges report.

    Raises:
        InputError: As for :func:`facts_of`.
    """
    facts = facts_of(config)
    servers = [
        Server(
            *(edge.name, edge.all_models, edge.rate_mbit_s, capacity, config.max_queue),
            memory_gb=memory_gb_of(edge, facts),
            cloud=edge.cloud is not None,
        )
        for edge, capacity in zip(config.edges, config.capacities_gcycles_s(), strict=True)
    ]
    size_gb, load_s = ([getattr(own, name) for own in facts.values()] for name in ("size_gb", "load_s"))
    Ledger(servers, tuple(facts), size_gb, load_s)
    return servers
