# SPDX-License-Identifier: Apache-2.0
"""Several gateways over the same slow edges behind one proxy, in virtual time; any of them, and links, die as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import httpx

from edgegen.algorithms.core.catalog import make_policy
from edgegen.serve.control.jobs import FIRST, EdgeLostError
from edgegen.serve.edge.kept import KeptPictures
from edgegen.serve.front import Front
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.registry import scenario_of
from edgegen.serve.request_log import ProxyIds
from tests.serve.slow_edges import SlowEdge, virtually

URL = "/v1/images/generations"


class KeepingSlowEdge(SlowEdge):
    """A slow edge that does each job once by its key, and counts what it paints. Pictures show their seed."""

    def __init__(self, name, capacity, config, clock):
        super().__init__(name, capacity)
        self.kept = KeptPictures(name, config.keep_s, config.keep_mb * 1e6, clock)
        self.begun, self.painted = Counter[str](), Counter[str]()

    async def generate(self, job):
        return await self.kept.generate(job, self.paint)

    async def paint(self, job):
        self.begun[job.key] += 1
        pictures = await super().generate(job)
        self.painted[job.key] += 1
        return replace(pictures, png=tuple(f"{job.prompt} {seed}".encode() for seed in job.seeds))

    async def find(self, name, sending=FIRST):
        if self.dead.is_set():
            raise EdgeLostError("process died")
        return self.kept.find(name, sending)


async def after(lag_s, call, *arguments):
    await asyncio.sleep(lag_s)
    return await call(*arguments)


class Link:
    """One gateway's way to an edge. What was sent goes on there if the gateway dies, and ends if it gives up."""

    def __init__(self, edge, node):
        self.edge, self.node = edge, node
        self.cut = asyncio.Event()
        self.job_lag_s = self.find_lag_s = 0.0

    async def generate(self, job):
        return await self.across(after(self.job_lag_s, self.edge.generate, job))

    async def report(self):
        return await self.across(self.edge.report())

    async def find(self, name, sending=FIRST):
        return await self.across(after(self.find_lag_s, self.edge.find, name, sending))

    async def watch(self, name, seen, wait_s):
        return await self.across(self.edge.watch(name, seen, wait_s))

    async def lease(self, job):
        return await self.across(self.edge.lease(job))

    async def release(self, name, generation_s=None):
        return await self.across(self.edge.release(name, generation_s))

    async def keep(self, wanted, scores=None):
        return await self.across(self.edge.keep(wanted, scores))

    async def choose_steps_by(self, decide_steps):
        return await self.across(self.edge.choose_steps_by(decide_steps))

    async def across(self, call):
        there, cut = asyncio.ensure_future(call), asyncio.ensure_future(self.cut.wait())
        try:
            await asyncio.wait({there, cut}, return_when=asyncio.FIRST_COMPLETED)
            if self.cut.is_set():
                raise EdgeLostError("it can not be reached")
            return there.result()
        finally:
            cut.cancel()
            if there.done():
                there.cancelled() or there.exception()
            elif not self.cut.is_set() and not self.node.dead.is_set():
                there.cancel()


class Node:
    """A gateway, until it dies."""

    def __init__(self, config, edges, clock):
        self.dead, self.frozen = asyncio.Event(), False
        self.links = {name: Link(edge, self) for name, edge in edges.items()}
        policy = make_policy(config.policy, scenario_of(config), config.seed)
        self.gateway = Gateway(config, policy, self.links, clock=clock)
        self.app = create_app(self.gateway, behind_proxy=True)
        self.taken = 0

    async def __call__(self, scope, receive, send):
        """Serve a request as Ray Serve's proxy has it done: without a word if the process dies."""
        self.taken += 1
        app = self.dead.wait() if self.frozen else self.app(scope, receive, send)
        work, dead = asyncio.ensure_future(app), asyncio.ensure_future(self.dead.wait())
        try:
            await asyncio.wait({work, dead}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dead.cancel()
            work.cancel()
        if work.done() and not work.cancelled():
            work.result()

    async def die(self):
        self.dead.set()
        await self.gateway.stop()


class Fleet:
    """Gateways, edges, and a proxy with what edgegen puts into it."""

    def __init__(self, config, gateways):
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.edges = {
            edge.name: KeepingSlowEdge(edge.name, capacity, config, self.clock)
            for edge, capacity in zip(config.edges, config.capacities_gcycles_s(), strict=True)
        }
        self.nodes = [Node(config, self.edges, self.clock) for _ in range(gateways)]
        self.turn = 0
        transport = httpx.ASGITransport(ProxyIds(Front(self.proxy)), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None)

    async def proxy(self, scope, receive, send):
        living = [node for node in self.nodes if not node.dead.is_set()]
        self.turn += 1
        await living[self.turn % len(living)](scope, receive, send)

    def ask(self, headers=None, **fields):
        """Send a request; a task, to be awaited or not."""
        return asyncio.ensure_future(self.client.post(URL, json={"prompt": "x", **fields}, headers=headers or {}))

    async def until(self, second):
        """Wait until a time since the start."""
        await asyncio.sleep(second - self.clock())

    @property
    def begun(self):
        return sum((edge.begun for edge in self.edges.values()), Counter())

    @property
    def painted(self):
        return sum((edge.painted for edge in self.edges.values()), Counter())


def with_gateways(scenario, config, gateways=2):
    """Run a scenario ``async (fleet)``, in no time."""

    async def whole():
        fleet = Fleet(config, gateways)
        await asyncio.gather(*(node.gateway.start() for node in fleet.nodes))
        try:
            async with fleet.client:
                await scenario(fleet)
        finally:
            await asyncio.gather(*(node.gateway.stop() for node in fleet.nodes))

    virtually(whole())
