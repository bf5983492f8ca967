"""A service as a scenario of the fleet: its edges are the sites, and a Gcycle is a second of work at speed 1."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.models import MOST_POINTS, Exponential, Points
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.serve.config import ServiceConfig
from edgegen.serve.model_config import ModelCard, parse_size, picture_mbit, text_mbit
from edgegen.serve.profile.model_profile import PROFILE_FILE, ModelProfile, read_profile
from edgegen.serve.zoo.loading import model_folder

TOO_DEAR = 100.0
"""Price of a request in the cloud of a service that has none: no request is worth it."""
USUAL_CURVE = Exponential(rate=3.5)
"""How the quality of a model rises of which no profile says it."""
USUAL_SIZE_GB, USUAL_LOAD_S = 1.0, 1.0
"""Memory and load time of a model of which neither the config nor a profile says them."""
USUAL_PROMPT = 100
"""Characters of a prompt, for the time that it takes on the way."""
TRAINING: dict[str, Any] = {
    "load": 0.9,
    "bursts": {"calm": 0.5, "burst": 2.0, "mean_calm_s": 40.0, "mean_burst_s": 20.0},
    "popularity": {"exponents": (0.5, 1.0, 1.5), "every_s": 60.0, "swap_s": 20.0},
}
"""Traffic in training: busy, in bursts, and of changing tastes, so that short and long queues and loads all occur."""


@dataclass(frozen=True)
class Measured:
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


def profile_of(model: str) -> ModelProfile | None:
    """Return the profile that lies in the folder of a model, if one does.

    Raises:
        InputError: If it can not be read.
    """
    folder = model_folder(model)
    path = None if folder is None else folder / PROFILE_FILE
    return read_profile(path) if path is not None and path.is_file() else None


def measured(config: ServiceConfig, card: ModelCard) -> Measured:
    """Gather what is known of a model.

    Raises:
        InputError: If its profile can not be read.
    """
    own, profile = config.models[card.name], profile_of(card.name)
    least = own.least_steps or (profile.least_steps if profile else 1)
    quality, curve = (1.0, USUAL_CURVE) if profile is None else _curve(profile, card.default_steps)
    return Measured(
        card.size_gb or (profile.size_gb if profile else USUAL_SIZE_GB),
        card.load_s or (profile.load_s if profile else USUAL_LOAD_S),
        min(least, card.default_steps),
        quality,
        curve,
    )


def _curve(profile: ModelProfile, steps: int) -> tuple[float, Exponential | Points]:
    """Quality with some steps, and the curve up to there: more steps are never worse."""
    full = max([profile.quality_at(steps), *(point.quality for point in profile.quality if point.steps <= steps)])
    if full <= 0:
        return 0.0, USUAL_CURVE
    points = [(1.0, 1.0)]
    before = [point for point in profile.quality if point.steps < steps]
    best = 0.0
    rising = []
    for point in before:
        best = max(best, point.quality)
        rising.append((point.steps / steps, min(best / full, 1.0)))
    if len(rising) >= MOST_POINTS:  # evenly chosen, the first among them
        rising = [rising[i * len(rising) // (MOST_POINTS - 1)] for i in range(MOST_POINTS - 1)]
    points = [*rising, *points]
    assert all(after[0] > earlier[0] for earlier, after in pairwise(points))
    return full, Points(steps=tuple(x for x, _ in points), quality=tuple(y for _, y in points))


def scenario(config: ServiceConfig, capacities_gcycles_s: tuple[float, ...]) -> FleetScenario:
    """Describe the edges of a service as a scenario.

    Args:
        config: The service.
        capacities_gcycles_s: Capacities of its edges, Gcycle/s: speeds of the sites.

    Raises:
        InputError: If no scenario can stand for it, or a profile can not be read.
    """
    return _described(config, capacities_gcycles_s, f"The edge servers of the service '{config.name}'.", config.name)


def training(config: ServiceConfig) -> FleetScenario:
    """Describe a service as a world to train in, under a load that comes in bursts."""
    text = f"The edge servers of the service '{config.name}', busy and in bursts."
    return _described(config, config.capacities_gcycles_s(), text, f"service-{config.name}")


def _described(config: ServiceConfig, capacities: tuple[float, ...], description: str, name: str) -> FleetScenario:
    cards, terms = list(config.cards().values()), config.terms
    known = [measured(config, card) for card in cards]
    sites = [(edge, speed) for edge, speed in zip(config.edges, capacities, strict=True) if edge.cloud is None]
    sizes = {card.name: own.size_gb for card, own in zip(cards, known, strict=True)}
    largest = max(sizes.values())
    rates = tuple(edge.rate_mbit_s for edge, _ in sites)
    promise = config.promise_s
    return build_scenario(
        {
            **TRAINING,
            "kind": "fleet",
            "name": name,
            "description": description,
            "sites": len(sites),
            "speed": tuple(speed for _, speed in sites),
            # A site of the fleet world has room for every single model.
            "memory_gb": tuple(max(memory_gb_of(config, edge.name, sizes), largest) for edge, _ in sites),
            "models": tuple(
                {
                    "size_gb": own.size_gb,
                    "load_s": own.load_s,
                    "step_s": card.cycles_per_step_gcycles,
                    "fixed_s": card.fixed_gcycles,
                    "least_steps": own.least_steps,
                    "full_steps": card.default_steps,
                    "full_quality": own.full_quality,
                    "curve": own.curve,
                }
                for card, own in zip(cards, known, strict=True)
            ),
            "cloud": _cloud(config, capacities),
            "hop_s": terms.hop_s,
            "rate_mbit_s": tuple(rates for _ in sites),
            "upload_mbit": text_mbit("x" * USUAL_PROMPT),
            "result_mbit": picture_mbit(parse_size(cards[0].sizes[0])[0] * parse_size(cards[0].sizes[0])[1]),
            "frame_s": config.frame_s,
            "frames": 5,
            "report_s": config.report_period_s,
            "deadline_s": {"low": promise / 2, "high": 1.5 * promise},
            "weight": {"low": 0.5, "high": 1.5},
            "late_penalty": terms.late_penalty,
            "delay_price": terms.delay_price,
            "hop_price": terms.hop_price,
        },
        FleetScenario,
    )


def memory_gb_of(config: ServiceConfig, name: str, sizes_gb: dict[str, float]) -> float:
    """Memory of an edge for models: room for all of them if the config does not say it, GB."""
    edge = next(edge for edge in config.edges if edge.name == name)
    return edge.memory_gb or sum(sizes_gb[model] for model in edge.all_models)


def _cloud(config: ServiceConfig, capacities: tuple[float, ...]) -> dict[str, float]:
    for edge, speed in zip(config.edges, capacities, strict=True):
        if edge.cloud is not None:
            return {"speed": speed, **edge.cloud.model_dump()}
    return {"speed": max(capacities), "distance_s": 0.0, "price": TOO_DEAR}
