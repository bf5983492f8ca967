# SPDX-License-Identifier: Apache-2.0
"""A service of emulated edges in one process, without Ray: real queues, real pictures, no model."""

from __future__ import annotations

import asyncio

import httpx

from edgegen.serve.config import build_config
from edgegen.serve.edge.kept import KeepingEdge
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import CACHER, ROUTER, allocators, make_parts, parts_of
from tests.serve.slow_edges import virtually

MODEL = "shapes-64"
KEY = b"the key of all gateways"


def emulated_config(models=(MODEL,), speed=1.0, edges=2, **fields):
    """Equal edges that hold all of some embedded models and take the time of their profiles."""
    described = {model: {"cycles_per_step_gcycles": 0.016, "max_steps": 50} for model in models}
    made = [
        {"name": f"edge-{letter}", "models": list(models), "engine": "emulated", "speed": speed}
        for letter in "abcdefgh"[:edges]
    ]
    return build_config({"models": described, "edges": made, **fields})


def edges_of(config, clock):
    """The edges of a config, by name."""
    cards, steps = config.cards(), allocators(config)
    limits = (config.max_queue, config.warmup_steps, config.stalled_after_s)
    return {
        edge.name: KeepingEdge(
            *(edge.name, config.keep_s, config.keep_mb, edge, cards, *limits),
            decide_steps=steps[edge.name],
            clock=clock,
        )
        for edge in config.edges
    }


def gateway_of(config, edges, clock):
    """A gateway with the policies that a config names."""
    policies = make_parts(config, parts_of(config), (ROUTER, CACHER))
    return Gateway(config, policies[ROUTER], edges, clock=clock, cacher=policies.get(CACHER), key=KEY)


def serve_emulated(scenario, config, gateways=1):
    """Run a scenario ``async (edges, *clients)`` against gateways with a client each, in no time."""

    async def whole():
        clock = asyncio.get_running_loop().time
        edges = edges_of(config, clock)
        made = [gateway_of(config, edges, clock) for _ in range(gateways)]
        await asyncio.gather(*(gateway.start() for gateway in made))
        transports = [httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False) for gateway in made]
        clients = [httpx.AsyncClient(transport=one, base_url="http://test", timeout=None) for one in transports]
        try:
            await scenario(edges, *clients)
        finally:
            await asyncio.gather(*(gateway.stop() for gateway in made))
            await asyncio.gather(*(client.aclose() for client in clients))

    virtually(whole())
