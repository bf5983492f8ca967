# SPDX-License-Identifier: Apache-2.0
"""A large fleet for a long time, in virtual time: all is answered, nothing is left behind, and memory stays flat."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import FIRST, EdgeReport, Pictures
from edgegen.serve.edge.kept import KeptPictures
from edgegen.serve.http.caller import Caller
from edgegen.serve.record import recorder
from tests.serve.many_gateways import Node
from tests.serve.slow_edges import virtually

EDGES = 200
KEPT_BYTES = 2_000  # two pictures at each edge, so that all that is kept is there before half of the run
METRICS_BYTES = 8_000  # of an edge at a gateway


class TimedEdge:
    """An edge that works first in, first out, and keeps what it made."""

    def __init__(self, name, capacity, clock):
        self.name, self.capacity = name, capacity
        self.kept = KeptPictures(name, 60.0, KEPT_BYTES, clock)
        self.turn, self.left, self.done = asyncio.Lock(), {}, 0

    async def generate(self, job):
        return await self.kept.generate(job, self.paint)

    async def paint(self, job):
        self.left[job.id] = job.workload_gcycles
        try:
            async with self.turn:
                await asyncio.sleep(job.workload_gcycles / self.capacity)
        finally:
            del self.left[job.id]
        self.done += 1
        return Pictures((b"x" * 1000,), 0.0, job.workload_gcycles / self.capacity)

    async def report(self):
        return EdgeReport(self.name, 1, tuple(self.left.items()), 0, 0.0, self.capacity, 0.1, self.done, None)

    async def find(self, name, sending=FIRST):
        return self.kept.find(name, sending)


@pytest.mark.parametrize("requests", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_long_run_leaves_nothing_behind(requests):
    # In a process of its own: threads that earlier tests started, as Ray's and MLflow's, allocate when they like.
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        processes.submit(serve_long, requests).result()


def serve_long(requests):
    """Serve requests through two gateways and check that all are answered and nothing of them is left."""
    recorder.RECENT = 20  # what is shown of the latest requests is full early, too
    random.seed(3)
    capacities = [random.uniform(1, 5) for _ in range(EDGES)]
    config = build_config(
        {
            "models": {"tiny": {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "default_steps": 20}},
            "edges": [
                {"name": f"edge-{number}", "model": "tiny", "capacity_gcycles_s": capacity}
                for number, capacity in enumerate(capacities)
            ],
            "report_period_s": 2,
            "gateways": 2,
        }
    )

    async def run():
        clock = asyncio.get_running_loop().time
        edges = {edge.name: TimedEdge(edge.name, edge.capacity_gcycles_s, clock) for edge in config.edges}
        nodes = [Node(config, edges, clock) for _ in range(2)]
        await asyncio.gather(*(node.gateway.start() for node in nodes))
        answered: Counter[str] = Counter()
        sizes: list[int] = []
        decisions: list[float] = []

        async def one(number):
            gateway = nodes[number % 2].gateway
            request = gateway.parse(f'{{"prompt": "x", "user": "user {number % 7}", "deadline_s": 30}}'.encode())
            answer = await gateway.generate(request, Caller(f"key {number}"))
            decisions.append(answer.edgegen.decision_s)
            answered[answer.edgegen.server] += 1

        half = None
        tracemalloc.start()
        period_s = 2.0 / (0.8 * sum(capacities))  # 2 Gcycle each, at a load of 0.8
        under_way = set()
        for number in range(requests):
            under_way.add(task := asyncio.ensure_future(one(number)))
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(period_s)
            if number % (requests // 10) == requests // 10 - 1:
                gc.collect()
                decisions.clear()
                sizes.append(tracemalloc.get_traced_memory()[0])
                half = tracemalloc.take_snapshot() if len(sizes) == 5 else half
        assert half is not None
        grown = tracemalloc.take_snapshot().compare_to(half, "lineno")[:10]
        tracemalloc.stop()
        await asyncio.gather(*under_way)
        assert answered.total() == sum(edge.done for edge in edges.values()) == requests
        assert len(answered) > EDGES // 2
        for node in nodes:
            assert node.gateway.health()["waiting"] == 0
            assert all(not server.remaining_gcycles for server in node.gateway.scheduler.servers.values())
        assert max(edge.kept.size_bytes for edge in edges.values()) <= KEPT_BYTES
        pictures = sum(edge.kept.size_bytes for edge in edges.values())
        # What edges keep grows to its bound; beside that, the second half of the run needs no more than the first.
        # In a short run many an edge is used in its second half for the first time, and its metrics begin.
        metrics = 0 if requests > 20 * EDGES else 2 * EDGES * METRICS_BYTES
        assert sizes[-1] - sizes[4] < pictures + metrics + 1_000_000, "\n".join(map(str, grown))
        await asyncio.gather(*(node.gateway.stop() for node in nodes))
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    virtually(run())
