# SPDX-License-Identifier: Apache-2.0
"""A service with emulated edges in virtual time, which records what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.serve.config import ServiceConfig, build_config
from edgegen.serve.edge.kept import KeepingEdge
from edgegen.serve.http.caller import Caller
from edgegen.serve.http.errors import ServiceError
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.image_request import ImageRequest
from edgegen.serve.kinds.cast import CACHER, ROUTER, allocators, make_parts, parts_of
from tests.serve.emulated_models import MODELS, emulated_models
from tests.serve.slow_edges import VirtualLoop

SPEEDS, MEMORY_GB = (4.0, 2.0, 2.0, 1.0), (8.0, 8.0, 5.0, 5.0)


def service_fields(folder: Path, **changes: Any) -> dict[str, Any]:
    """Four edges that hold some of three models each, as plain data; the profiles are written into a folder."""
    # Gcycles as of another device, so that times have to be found out.
    models = emulated_models(folder, further_picture=1.0)
    shared = {"models": list(MODELS), "engine": "emulated", "process": "fleet"}
    edges = [
        {**shared, "name": f"edge-{letter}", "speed": speed, "memory_gb": gb}
        for letter, speed, gb in zip("abcd", SPEEDS, MEMORY_GB, strict=True)
    ]
    usual = {"kind": "fleet", "policy": "earliest", "max_queue": 100, "frame_s": 10.0, "deadline_s": 30.0}
    return {"models": models, "edges": edges, **usual, **changes}


def requests_of(number: int, rate_s: float, seed: int) -> list[tuple[float, dict[str, Any]]]:
    """Requests that come by themselves: when, and what they say; the smaller the model, the more popular."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1 / rate_s, number))
    models = rng.choice(list(MODELS), number, p=[0.6, 0.3, 0.1])
    return [
        (float(at), {"prompt": "x", "model": str(model), "seed": k, "n": int(rng.choice([1, 2], p=[0.8, 0.2]))})
        for k, (at, model) in enumerate(zip(at_s, models, strict=True))
    ]


def serve_requests(
    config: ServiceConfig, requests: Sequence[tuple[float, dict[str, Any]]], orders: Sequence[dict[str, Any]] = ()
) -> Gateway:
    """Have a service answer requests that come when they come, in no time.

    Args:
        config: The service.
        requests: When each comes, s, and its fields.
        orders: What an operator orders before the first.

    Returns:
        Its gateway, which has stopped.
    """

    async def run() -> Gateway:
        loop = asyncio.get_running_loop()
        cards, steps = config.cards(), allocators(config)
        edges = {
            edge.name: KeepingEdge(
                edge.name, 60.0, 64.0, edge, cards, config.max_queue, decide_steps=steps[edge.name], clock=loop.time
            )
            for edge in config.edges
        }
        policies = make_parts(config, parts_of(config), (ROUTER, CACHER))
        gateway = Gateway(config, policies[ROUTER], edges, clock=loop.time, cacher=policies.get(CACHER))
        await gateway.start()

        async def ask(number: int, at_s: float, fields: dict[str, Any]) -> None:
            await asyncio.sleep(1 + at_s)
            caller = Caller(str(number), request_id=str(number))
            with contextlib.suppress(ServiceError):
                await gateway.generate(ImageRequest(**fields), caller)

        try:
            for order in orders:
                assert await gateway.obey(order) is None
            await asyncio.gather(*(ask(number, *one) for number, one in enumerate(requests)))
        finally:
            await gateway.stop()
        return gateway

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def service(folder: Path, **changes: Any) -> ServiceConfig:
    """The service that records into ``folder / "recordings"``."""
    fields = service_fields(folder, **changes)
    return build_config({**fields, "name": "emulated", "record": {"folder": str(folder / "recordings")}})
