# SPDX-License-Identifier: Apache-2.0
"""A gateway with edges that answer at once, fail or hang as told, in one process and without Ray."""

from __future__ import annotations

import asyncio

import httpx

from edgegen.serve.control.jobs import EdgeLostError, EdgeReport, Pictures
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import CACHER, ROUTER, make_parts, parts_of
from tests.serve.plain_edge import PlainEdge

URL = "/v1/images/generations"


class FakeEdge(PlainEdge):
    """Answers at once, fails or hangs as told."""

    def __init__(self, name, capacity=2.0):
        self.name = name
        self.capacity = capacity
        self.jobs = []
        self.failure = None
        self.hold = None
        self.silent = False
        self.stalled_s = 0.0
        self.remaining = ()
        self.kept = []

    async def generate(self, job):
        self.jobs.append(job)
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return Pictures(tuple(f"{self.name} {seed}".encode() for seed in job.seeds), 0.1, 0.2)

    async def keep(self, wanted, scores=None):
        self.kept.append((tuple(wanted), scores))

    async def choose_steps_by(self, decide_steps):
        self.chooser = decide_steps

    async def report(self):
        if self.silent:
            await asyncio.sleep(60)
        if isinstance(self.failure, EdgeLostError):
            raise self.failure
        return EdgeReport(self.name, 42, self.remaining, 0, self.stalled_s, self.capacity, 0.05, len(self.jobs), None)


def serve(scenario, config, policy=None, **options):
    """Run a scenario ``async (client, edges, gateway)`` against a gateway with fake edges."""

    async def run():
        edges = {
            edge.name: FakeEdge(edge.name, capacity)
            for edge, capacity in zip(config.edges, config.capacities_gcycles_s(), strict=True)
        }
        policies = {ROUTER: policy} if policy else make_parts(config, parts_of(config), (ROUTER, CACHER))
        gateway = Gateway(config, policies[ROUTER], edges, cacher=policies.get(CACHER), **options)
        await gateway.start()
        transport = httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await scenario(client, edges, gateway)
        finally:
            await gateway.stop()

    asyncio.run(asyncio.wait_for(run(), 90))  # the first decision of a rule may be compiled first


async def held(client, edges, count=1, **fields):
    """Equal requests that have arrived, and wait as long as these edges finish nothing."""
    for edge in edges:
        edge.hold = asyncio.Event()
    under_way = [asyncio.create_task(client.post(URL, json={"prompt": "x", **fields})) for _ in range(count)]
    await asyncio.sleep(0.1)
    return under_way


def check_error(response, status, type_, *words, param=None):
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == type_
    assert body["error"]["param"] == param
    message = body["error"]["message"]
    assert "\n" not in message
    assert message.endswith((".", "?"))
    for word in words:
        assert word in message
