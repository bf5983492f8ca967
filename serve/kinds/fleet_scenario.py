# SPDX-License-Identifier: Apache-2.0
"""A service as a scenario of the fleet: its edges are the sites, and a Gcycle is a second of work at speed 1."""

from __future__ import annotations

from typing import Any

from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.serve.config import ServiceConfig
from edgegen.serve.kinds.facts import facts_of, memory_gb_of
from edgegen.serve.model_config import parse_size, picture_mbit, text_mbit

TOO_DEAR, TOO_FAR = 100.0, 10.0
"""Price of a request in the cloud of a service that has none, and the way there and back in promised delays: no request
is worth it, and none would be in time."""
USUAL_PROMPT = 100
"""Characters of a prompt, for the time that it takes on the way."""
TRAINING: dict[str, Any] = {
    "load": 0.9,
    "bursts": {"calm": 0.5, "burst": 2.0, "mean_calm_s": 40.0, "mean_burst_s": 20.0},
    "popularity": {"exponents": (0.5, 1.0, 1.5), "every_s": 60.0, "swap_s": 20.0},
}
"""Traffic in training: busy, in bursts, and of changing tastes, so that short and long queues and loads all occur."""


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
    cards, utility = list(config.cards().values()), config.utility
    facts = facts_of(config)
    sites = [(edge, speed) for edge, speed in zip(config.edges, capacities, strict=True) if edge.cloud is None]
    largest = max(own.size_gb for own in facts.values())
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
            "memory_gb": tuple(max(memory_gb_of(edge, facts), largest) for edge, _ in sites),
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
                for card, own in zip(cards, facts.values(), strict=True)
            ),
            "cloud": _cloud(config, capacities),
            "hop_s": utility.hop_s,
            "rate_mbit_s": tuple(rates for _ in sites),
            "upload_mbit": text_mbit("x" * USUAL_PROMPT),
            "result_mbit": picture_mbit(parse_size(cards[0].sizes[0])[0] * parse_size(cards[0].sizes[0])[1]),
            "frame_s": config.frame_s,
            "frames": 5,
            "report_s": config.report_period_s,
            "deadline_s": {"low": promise / 2, "high": 1.5 * promise},
            "weight": {"low": 0.5, "high": 1.5},
            "late_penalty": utility.late_penalty,
            "delay_price": utility.delay_price,
            "hop_price": utility.hop_price,
        },
        FleetScenario,
    )


def _cloud(config: ServiceConfig, capacities: tuple[float, ...]) -> dict[str, float]:
    for edge, speed in zip(config.edges, capacities, strict=True):
        if edge.cloud is not None:
            return {"speed": speed, **edge.cloud.model_dump()}
    return {"speed": max(capacities), "distance_s": TOO_FAR * config.promise_s, "price": TOO_DEAR}
