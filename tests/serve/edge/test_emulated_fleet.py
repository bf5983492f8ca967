# SPDX-License-Identifier: Apache-2.0
"""A whole fleet in one process: a gateway with the policies of a fleet and real edges with emulated devices."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from edgegen.serve.config import build_config
from edgegen.serve.edge.kept import KeepingEdge
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import CACHER, ROUTER, allocators, make_parts, parts_of
from tests.serve.emulated_models import MODELS, emulated_models
from tests.serve.fake_edges import URL


@pytest.fixture
def fields(tmp_path):
    models = emulated_models(tmp_path, further_picture=0.5)
    shared = {"models": list(MODELS), "engine": "emulated", "process": "fleet"}
    memory = {"edge-a": 8.0, "edge-b": 5.0, "edge-c": 5.0}
    edges: list[dict[str, Any]] = [
        {**shared, "name": name, "speed": speed, "memory_gb": gb, "host_memory_gb": 3.0}
        for speed, (name, gb) in zip((2.0, 1.0, 0.5), memory.items(), strict=True)
    ]
    edges.append({**shared, "name": "far", "concurrency": 100, "cloud": {"distance_s": 2, "price": 0.5}})
    return {"models": models, "edges": edges, "max_queue": 100, "frame_s": 10.0}


def served(fields, **changes):
    """Answers to 80 requests within 40 s, and the edges, with their clock on that of the loop."""

    async def run() -> tuple[list[httpx.Response], dict[str, KeepingEdge], float]:
        loop = asyncio.get_running_loop()
        config = build_config({**fields, **changes})
        cards, steps = config.cards(), allocators(config)
        edges = {
            edge.name: KeepingEdge(
                edge.name, 60.0, 64.0, edge, cards, 100, decide_steps=steps[edge.name], clock=loop.time
            )
            for edge in config.edges
        }
        policies = make_parts(config, parts_of(config), (ROUTER, CACHER))
        gateway = Gateway(config, policies[ROUTER], edges, clock=loop.time, cacher=policies.get(CACHER))
        await gateway.start()
        transport = httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

                async def ask(number: int) -> httpx.Response:
                    await asyncio.sleep(1 + number / 2)
                    model = list(MODELS)[number * number % 7 % 3]
                    body = {"prompt": "x", "model": model, "seed": number}
                    return await client.post(URL, json=body)

                answers = await asyncio.gather(*map(ask, range(80)))
        finally:
            await gateway.stop()
        return answers, edges, loop.time()

    from tests.serve.slow_edges import VirtualLoop

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "least-delay"},
        {"kind": "fleet", "policy": "price-greedy"},
        {"kind": "fleet", "policy": "router=earliest cacher=price-greedy"},
    ],
    ids=lambda changes: changes["policy"],
)
def test_every_request_is_answered_by_edges_that_hold_what_they_can(fields, changes):
    answers, edges, _ = served(fields, **changes)
    assert [answer.status_code for answer in answers] == [200] * 80
    said = [answer.json()["edgegen"] for answer in answers]
    assert [one["fallback"] for one in said] == [None] * 80
    assert len({one["server"] for one in said}) >= 3
    for edge in edges.values():
        memory = edge._queue.front
        assert memory.taken_gb <= memory.memory_gb
        assert not edge._queue.waiting
        assert edge._last_error is None


def test_the_same_requests_get_the_same_answers(fields):
    def told(answers):
        return [[answer.json()["data"], answer.json()["edgegen"]["server"]] for answer in answers]

    first, second = (served(fields, kind="fleet", policy="price-greedy") for _ in range(2))
    assert told(first[0]) == told(second[0])
    assert first[2] == second[2]
