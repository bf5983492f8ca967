# SPDX-License-Identifier: Apache-2.0
"""A service on a port of this machine, in a thread and without Ray: real edges whose engine paints simple pictures."""

from __future__ import annotations

import asyncio
import functools
import io
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from PIL import Image, ImageDraw, ImageFilter

from edgegen.serve.config import ServiceConfig, build_config
from edgegen.serve.control.jobs import Preview
from edgegen.serve.edge.engines.base import Engine, Started
from edgegen.serve.edge.kept import KeepingEdge
from edgegen.serve.front import Front, Limits
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import CACHER, ROUTER, make_parts, parts_of

SIDE = 128
STEP_S = 0.05
LOAD_S = 0.5
MODELS = ("painter", "painter-fast", "ink", "poster")


def light_config(edges: int = 4, **fields: object) -> ServiceConfig:
    """Edges of unequal speed with room for two of four models."""
    sizes = [f"{SIDE}x{SIDE}", "96x128"]
    model = {"cycles_per_step_gcycles": STEP_S, "sizes": sizes, "default_steps": 12, "size_gb": 1.0, "load_s": LOAD_S}
    return build_config(
        {
            "name": "light",
            "kind": "fleet",
            "models": dict.fromkeys(MODELS, model),
            "edges": [
                {
                    "name": f"edge-{chr(ord('a') + number) if number < 26 else number}",
                    "models": [*MODELS[number % 4 :], *MODELS[: number % 4]],
                    "memory_gb": 2.0,
                    "slowdown": 1.0 + number % 3,
                }
                for number in range(edges)
            ],
            "policy": "price-greedy",
            "deadline_s": 60,
            "frame_s": 5,
            "report_period_s": 0.2,
            **fields,
        }
    )


def landscape(seed: int, width: int, height: int, share: float = 1.0) -> Image.Image:
    """A sun over hills; the smaller the share of the steps, the more it is blurred."""
    drawn = random.Random(seed)
    hue = drawn.randrange(360)
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for row in range(height):
        draw.line([(0, row), (width, row)], fill=f"hsl({hue}, 60%, {88 - 45 * row // height}%)")
    x, y, radius = drawn.randrange(width), drawn.randrange(height // 2), height // 8
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=f"hsl({(hue + 40) % 360}, 95%, 75%)")
    for layer in range(3):
        top = [(0, height)]
        level = height * (55 + 14 * layer) // 100
        top += [(width * step // 8, level - drawn.randrange(height // 6)) for step in range(9)]
        draw.polygon([*top, (width, height)], fill=f"hsl({(hue + 150) % 360}, 35%, {46 - 13 * layer}%)")
    return picture.filter(ImageFilter.GaussianBlur((1 - share) * width / 8)) if share < 1 else picture


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    return encoded.getvalue()


class PaintingEngine(Engine):
    """Takes its time on the event loop, and paints landscapes."""

    work_s = 1.0

    def __init__(self, slowdown: float) -> None:
        self.step_s = STEP_S * slowdown
        self.cancelled = 0

    def start(self, models, warmup_steps):
        return dict.fromkeys(models, Started())

    async def load(self, model):
        await asyncio.sleep(LOAD_S)

    async def unload(self, model, to_host):
        pass

    async def paint(self, painting):
        painted = []
        try:
            for number, (job, seed) in enumerate(painting.pictures):
                for step in range(1, painting.steps + 1):
                    await asyncio.sleep(self.step_s)
                    painting.advance(number * painting.steps + step)
                    if (due := painting.to_show(number, step)) is not None:
                        share = step / painting.steps
                        png = png_of(landscape(seed, job.width, job.height, share))
                        painting.show(due[0], Preview(due[1], due[2], step, painting.steps, png))
                painted.append(png_of(landscape(seed, job.width, job.height)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return painting.by_job(painted)


class Light:
    """A running service.

    Attributes:
        url: Where it is.
        loop: Its event loop.
        engines: Of the edges by name.
        gateway: Its gateway.
    """

    def __init__(self, config: ServiceConfig) -> None:
        cards = config.cards()
        self.engines = {edge.name: PaintingEngine(edge.slowdown) for edge in config.edges}
        limits = (config.max_queue, config.warmup_steps, config.stalled_after_s)
        edges = {
            edge.name: KeepingEdge(
                *(edge.name, config.keep_s, config.keep_mb, edge, cards, *limits),
                frame_s=config.frame_s,
                engine=self.engines[edge.name],
            )
            for edge in config.edges
        }
        policies = make_parts(config, parts_of(config), (ROUTER, CACHER))
        self.gateway = Gateway(config, policies[ROUTER], edges, cacher=policies.get(CACHER))
        self.app = create_app(self.gateway)
        self.url, self.loop = "", asyncio.new_event_loop()

    def paint(self, **fields: object) -> threading.Thread:
        """Send a request of somebody else; in a thread, which ends with the answer."""
        body = {"prompt": "somebody else's hills", **fields}
        post = functools.partial(httpx.post, f"{self.url}/v1/images/generations", json=body, timeout=60)
        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        return thread

    def drop_viewers(self) -> None:
        """End all streams, as a gateway does that is slow or about to end."""
        assert self.gateway.watch is not None
        self.loop.call_soon_threadsafe(self.gateway.watch.viewers.end)


@contextmanager
def running(config: ServiceConfig) -> Iterator[Light]:
    """Run a service for the length of a block."""
    light = Light(config)
    front = Front(light.app, Limits(state_timeout_s=30))  # a machine of two cores may be busy with a browser
    server = uvicorn.Server(uvicorn.Config(front, log_level="warning", lifespan="on", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = server.serve([listener])
        thread = threading.Thread(target=lambda: light.loop.run_until_complete(serving), daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.02)
            light.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield light
        finally:
            server.should_exit = True
            thread.join(20)
