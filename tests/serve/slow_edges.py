# SPDX-License-Identifier: Apache-2.0
"""A gateway whose edges take their time to work, on a clock that jumps over every wait."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import Any

import httpx

from edgegen.algorithms.core.catalog import make_policy
from edgegen.serve.control.jobs import EdgeLostError, EdgeReport, Pictures
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.registry import scenario_of
from tests.serve.plain_edge import PlainEdge


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is left to do."""

    _scheduled: list[Any]  # these three are asyncio's own
    _ready: deque[Any]
    _timer_cancelled_count: int

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if self._scheduled and not self._ready:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class SlowEdge(PlainEdge):
    """An edge that works first in, first out at its capacity, and dies or falls silent as told."""

    def __init__(self, name, capacity):
        self.name, self.capacity = name, capacity
        self.jobs, self.left = [], {}
        self.dead, self.stopped = asyncio.Event(), False
        self.turn = asyncio.Lock()

    async def generate(self, job):
        self.jobs.append(job)
        self.left[job.id] = job.workload_gcycles
        try:
            work = asyncio.ensure_future(self.work(job))
            dead = asyncio.ensure_future(self.dead.wait())
            try:
                await asyncio.wait({work, dead}, return_when=asyncio.FIRST_COMPLETED)
                if self.dead.is_set():
                    raise EdgeLostError("process died")
                return await work
            finally:
                work.cancel()
                dead.cancel()
        finally:
            del self.left[job.id]

    async def work(self, job):
        async with self.turn:
            while self.left[job.id] > 1e-9:
                await asyncio.sleep(0.05)
                if not self.stopped:
                    self.left[job.id] = max(self.left[job.id] - 0.05 * self.capacity, 0.0)
        return Pictures(tuple(b"png" for _ in job.seeds), 0.0, job.workload_gcycles / self.capacity)

    async def keep(self, wanted, scores=None):
        """It holds one model, whatever a cacher wants."""

    async def choose_steps_by(self, decide_steps):
        """It makes all steps, whoever chooses."""

    async def report(self):
        while self.stopped:
            await asyncio.sleep(0.05)
        if self.dead.is_set():
            raise EdgeLostError("process died")
        return EdgeReport(self.name, 1, tuple(self.left.items()), 0, 0.0, self.capacity, 0.1, 0, None)


class Service:
    """A gateway with slow edges in virtual time."""

    def __init__(self, config, policy=None):
        self.loop = asyncio.get_running_loop()
        capacities = config.capacities_gcycles_s()
        self.edges = {
            edge.name: SlowEdge(edge.name, capacity) for edge, capacity in zip(config.edges, capacities, strict=True)
        }
        self.gateway = Gateway(
            config,
            policy or make_policy(config.policy, scenario_of(config), config.seed),
            self.edges,
            clock=self.loop.time,
        )
        self.scheduler = self.gateway.scheduler
        transport = httpx.ASGITransport(create_app(self.gateway), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def ask(self, **fields):
        """Send a request; a task, to be awaited or not."""
        return asyncio.ensure_future(self.client.post("/v1/images/generations", json={"prompt": "x", **fields}))

    async def until(self, second):
        """Wait until a time since the start."""
        await asyncio.sleep(second - self.loop.time())


def virtually(coroutine):
    """Run a coroutine on a clock that jumps over every wait."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(coroutine)


def serve_slowly(scenario, config, policy=None):
    """Run a scenario ``async (service)`` against a gateway with slow edges, in no time."""

    async def whole():
        service = Service(config, policy)
        await service.gateway.start()
        try:
            async with service.client:
                await scenario(service)
        finally:
            await service.gateway.stop()

    virtually(whole())
