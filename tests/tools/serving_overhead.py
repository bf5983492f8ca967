# SPDX-License-Identifier: Apache-2.0
"""What a service costs beside its pictures: edgegen against the least that Ray Serve needs, in one paired run.

    PYTHONPATH=src python tests/tools/serving_overhead.py

Both run on one Ray Serve, behind one proxy: a service with one edge that paints nothing, and an ingress with one
deployment behind it, which answers with pictures of the same size. Requests go to one and the other in turns, one at a
time and then 16 at a time. Printed are the median and the 99th percentile of the round trips of each, and their ratios
with a bootstrap interval over blocks. What edgegen puts into the proxy stands in front of its own service alone.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

HERE = Path(__file__).resolve().parent
os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = "serving_overhead:middlewares"
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
sys.path.insert(0, str(HERE))

MINIMAL = "/minimal"
PICTURE = bytes(range(256)) * 16
"""4 KiB, about what the embedded model makes."""
BODY = {"prompt": "a large red circle in the top left", "seed": 7, "num_inference_steps": 20}
BLOCKS = 20
STARTS = 5
"""How often a busy machine may be asked to start Serve."""


class Painter:
    """Paints nothing, at once."""

    async def paint(self, prompt: str) -> bytes:
        """Return a picture."""
        return PICTURE


def middlewares() -> list[Any]:
    """What edgegen puts into the proxy, in front of its own service alone."""
    from starlette.middleware import Middleware

    from edgegen.serve.front import middlewares as edgegens

    return [Middleware(Only, inner=one) for one in edgegens()]


class Only:
    """A middleware for all paths but those of the minimal service."""

    def __init__(self, app: Any, inner: Any) -> None:
        self._app, self._with = app, inner.cls(app, *inner.args, **inner.kwargs)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        app = self._app if scope.get("path", "").startswith(MINIMAL) else self._with
        await app(scope, receive, send)


class Ingress:
    """Answers as a service does.

    Args:
        painter: Handle of the deployment that paints.
    """

    def __init__(self, painter: Any) -> None:
        self._painter = painter

    async def __call__(self, request: Any) -> dict[str, Any]:
        """Handle one request."""
        body = await request.json()
        picture = await self._painter.paint.remote(body["prompt"])
        return {"created": 0, "data": [{"b64_json": base64.b64encode(picture).decode()}]}


def minimal() -> Any:
    """The least that does the same: an ingress and one deployment."""
    from ray import serve
    from ray.serve.schema import LoggingConfig

    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": 0.1},
        "max_ongoing_requests": 64,
        "logging_config": LoggingConfig(log_level="WARNING", enable_access_log=False),
    }
    painter = serve.deployment(Painter, name="painter", **options)
    return serve.deployment(Ingress, name="ingress", **options).bind(painter.bind())


class IdleHouse:
    """Edges without engines, in the place of those of a service.

    Args:
        edges: As for :class:`edgegen.serve.edge.house.EdgeHouse`.
    """

    def __init__(self, edges: dict[str, tuple[Any, Any]]) -> None:
        from edgegen.serve.edge.kept import KeptPictures

        self._kept = {name: KeptPictures(name, 60.0, 4e6) for name in edges}

    async def generate(self, edge: str, job: Any) -> Any:
        """Return pictures."""
        return await self._kept[edge].generate(job, self._paint)

    async def _paint(self, job: Any) -> Any:
        from edgegen.serve.control.jobs import Pictures

        return Pictures((PICTURE,), 0.0, 0.0)

    async def watch(self, edge: str, name: str, seen: int, wait_s: float) -> Any:
        """See :meth:`edgegen.serve.edge.house.EdgeHouse.watch`."""
        from edgegen.serve.control.jobs import Glimpse

        return Glimpse(done=True)

    async def find(self, edge: str, name: str, sending: Any) -> Any:
        """See :meth:`edgegen.serve.edge.house.EdgeHouse.find`."""
        return self._kept[edge].find(name, sending)

    async def report(self, edge: str) -> Any:
        """Return that there is nothing to do."""
        from edgegen.serve.control.jobs import EdgeReport

        return EdgeReport(edge, os.getpid(), (), 0, 0.0, 1000.0, 0.01, 0, None)


def service() -> Any:
    """A service of edgegen whose one edge paints nothing."""
    from edgegen.serve import app as application
    from edgegen.serve.config import build_config

    vars(application)["EdgeHouse"] = IdleHouse
    fields = {
        "models": {"shapes-64": {"cycles_per_step_gcycles": 0.03}},
        "edges": [{"name": "edge-a", "model": "shapes-64", "capacity_gcycles_s": 1000}],
        "max_queue": 64,
    }
    return application.build(build_config(fields))


def round_trips(url: str, path: str, count: int) -> list[float]:
    """Times of so many requests on one connection, s."""
    body = json.dumps(BODY)
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        times.append(time.perf_counter() - begun)
        assert response.status == 200, answer
    connection.close()
    return times


def measured(url: str, requests: int, at_a_time: int) -> dict[str, np.ndarray]:
    """Round trips of both ``[BLOCKS, ...]``, s; block by block in turns."""
    paths = {"edgegen": "/v1/images/generations", "minimal": f"{MINIMAL}/generations"}
    times: dict[str, list[list[float]]] = {name: [] for name in paths}
    each = max(requests // BLOCKS // at_a_time, 1)
    with ThreadPoolExecutor(at_a_time) as pool:
        for block in range(-1, BLOCKS):  # the first one warms up
            for name in list(paths)[:: 1 if block % 2 else -1]:
                work = [pool.submit(round_trips, url, paths[name], each) for _ in range(at_a_time)]
                took = [one for future in work for one in future.result()]
                if block >= 0:
                    times[name].append(took)
    return {name: np.asarray(blocks) for name, blocks in times.items()}


def report(times: dict[str, np.ndarray]) -> dict[str, Any]:
    """Medians, 99th percentiles and ratios of both."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for share in (50, 99):
        at = {name: float(np.percentile(blocks, share)) for name, blocks in times.items()}
        ratios = []
        for _ in range(1000):
            chosen = random.integers(0, BLOCKS, BLOCKS)
            one, other = (np.percentile(times[name][chosen], share) for name in ("edgegen", "minimal"))
            ratios.append(one / other)
        low, high = np.percentile(ratios, [2.5, 97.5])
        found[f"p{share}"] = {
            **{f"{name}_ms": round(1000 * value, 2) for name, value in at.items()},
            "ratio": round(at["edgegen"] / at["minimal"], 2),
            "interval": [round(float(low), 2), round(float(high), 2)],
        }
    return found


def main() -> None:
    """Run both and print what they take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1600, help="of each service, in each of the two runs")
    requests = parser.parse_args().requests
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from edgegen.platform.ports import free_ports
    from edgegen.serve.running import SERVE_VARIABLES

    for name, value in SERVE_VARIABLES.items():
        os.environ.setdefault(name, value)
    (port,) = free_ports(1)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 1024**2)
    try:
        for _ in range(STARTS):  # a busy machine needs longer than Serve waits; it goes on starting meanwhile
            with suppress(TimeoutError):
                serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
                break
        serve.run(minimal(), name="minimal", route_prefix=MINIMAL)
        serve.run(service(), name="edgegen", route_prefix="/")
        url = f"http://127.0.0.1:{port}"
        found = {f"{n} at a time": report(measured(url, requests, n)) for n in (1, 16)}
        load = os.getloadavg()
    finally:
        serve.shutdown()
        ray.shutdown()
    sys.stdout.write(json.dumps({"requests": requests, "load_average": load, **found}, indent=2) + "\n")


if __name__ == "__main__":
    # Pickled classes must not name this script's module, which is __main__ only here.
    import_module("serving_overhead").main()
