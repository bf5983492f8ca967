# SPDX-License-Identifier: Apache-2.0
"""What recording costs a request: two gateways in one process, one of which records, asked in turns.

Edges answer at once, so that nothing but the gateway takes time: a real request takes seconds more, and the share is
smaller by as much. Run from the repository: ``python -m tests.tools.recording_overhead``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time

import httpx
import numpy as np
from numpy.typing import NDArray

from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import ROUTER, make_parts, parts_of
from tests.serve.conftest import make_config
from tests.serve.fake_edges import URL, FakeEdge

DRAWS = 1000


async def timed(requests: int, folder: str) -> NDArray[np.float64]:
    """Times of requests without and with a recording ``[N, 2]``, s."""
    gateways, clients = [], []
    for record in (None, {"folder": folder}):
        config = make_config(record=record)
        edges = {edge.name: FakeEdge(edge.name) for edge in config.edges}
        gateways.append(Gateway(config, make_parts(config, parts_of(config))[ROUTER], edges))
        await gateways[-1].start()
        transport = httpx.ASGITransport(create_app(gateways[-1]))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://test"))
    times_s = np.empty((requests, 2))
    rng = np.random.default_rng(0)
    for number in range(-100, requests):  # the first ones warm up
        for which in rng.permutation(2):
            begun = time.perf_counter()
            answer = await clients[which].post(URL, json={"prompt": "a large red circle", "seed": number % 1000})
            times_s[max(number, 0), which] = time.perf_counter() - begun
            assert answer.status_code == 200
    for gateway, client in zip(gateways, clients, strict=True):
        await client.aclose()
        await gateway.stop()
    state = gateways[1].recorder.state()
    assert state is not None
    assert state["rows"] == requests + 100
    return times_s


def main() -> None:
    """Time, and print medians, their ratio, and the median difference of pairs with a 95 % interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        times_s = asyncio.run(timed(requests, folder))
    rng = np.random.default_rng(0)
    more_s = times_s[:, 1] - times_s[:, 0]
    drawn_s = np.median(more_s[rng.integers(requests, size=(DRAWS, requests))], axis=1)
    without_s, with_s = np.median(times_s, axis=0)
    sys.stdout.write(
        f"p50 without {1e3 * without_s:.3f} ms, with {1e3 * with_s:.3f} ms, {with_s / without_s:.4f} times" + "\n"
    )
    low, middle, high = 1e6 * np.percentile(drawn_s, (2.5, 50, 97.5))
    sys.stdout.write(f"median of the paired differences {middle:.0f} [{low:.0f}, {high:.0f}] us\n")


if __name__ == "__main__":
    main()
