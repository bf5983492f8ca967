# SPDX-License-Identifier: Apache-2.0
"""Profiling and serving on a GPU: the same pictures, whole progress, shares of one card."""

from __future__ import annotations

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from edgegen.platform.ports import free_ports
from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import Job, Pictures
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.profile.measurements import ProfileRequest
from edgegen.serve.profile.profiler import run_profile
from edgegen.serve.running import running_service

pytestmark = pytest.mark.gpu
GPU = "cuda:0"
MODEL = "shapes-64"
MODELS = {MODEL: {"cycles_per_step_gcycles": 0.03}}
CARDS = build_config({"models": MODELS, "edges": [{"name": "a", "model": MODEL}]}).cards()


def job(steps: int = 12) -> Job:
    return Job("1", "a red circle", None, steps, 2.0, 64, 64, (7,), 1.0)


def levels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.int64)


def test_a_seed_gives_the_same_picture_on_gpu_and_cpu():
    edges = [EdgeServer(EdgeConfig(name="a", model=MODEL, device=device), CARDS, 4, 2) for device in (GPU, "cpu")]
    there, here = (levels(asyncio.run(edge.generate(job())).png[0]) for edge in edges)
    engine: Any = edges[0]._engine
    assert engine._resident[MODEL].pipeline.device.type == "cuda"
    assert np.abs(there - here).mean() < 2  # of 255; rounding, after twelve steps


def test_a_slowed_gpu_takes_so_much_longer():
    """Were the card not waited for, it would work on while the edge sleeps, and the factor would be missed."""
    took = []
    for slowdown in (1, 5):
        edge = EdgeServer(EdgeConfig(name="a", model=MODEL, device=GPU, slowdown=slowdown), CARDS, 4, 2)
        took.append(min(asyncio.run(edge.generate(job(40))).generation_s for _ in range(3)))
    assert took[1] > 4 * took[0]


def test_a_model_that_had_to_leave_the_card_comes_back_from_the_host():
    models = {name: {**MODELS[MODEL], "size_gb": 1.0} for name in (MODEL, "shapes-64-fast")}
    memory = {"memory_gb": 1.5, "host_memory_gb": 2.0}
    config = build_config({"models": models, "edges": [{"name": "a", "models": list(models), "device": GPU, **memory}]})
    edge = EdgeServer(config.edges[0], config.cards(), 4, 2)

    async def run() -> list[Pictures]:
        return [await edge.generate(replace(job(), model=name)) for name in (MODEL, "shapes-64-fast", MODEL)]

    first, other, again = asyncio.run(run())
    assert (first.load_s, first.png) == (0, again.png)
    assert min(other.load_s, again.load_s) > 0
    assert again.load_s < other.load_s  # from the disk


def test_a_pipeline_that_waits_in_the_host_paints_the_same():
    edges = [
        EdgeServer(EdgeConfig(name="a", model=MODEL, device=GPU, offload=offload), CARDS, 4, 2)
        for offload in ("none", "model")
    ]
    whole, parts = (levels(asyncio.run(edge.generate(job())).png[0]) for edge in edges)
    assert np.abs(whole - parts).mean() < 2


def test_a_profile_counts_wall_time_and_the_memory_of_the_card():
    measured = run_profile(ProfileRequest(MODEL, (1, 4, 16), pictures=12, repeats=2, seed=3, device=GPU))
    assert measured.clock == "wall"
    assert measured.holding.gpu_peak_gb is not None
    assert measured.holding.weights_gb < measured.holding.gpu_peak_gb < 10
    assert measured.holding.loads is not None
    assert measured.holding.painting_gb is not None
    assert measured.holding.painting_gb > 0
    assert 0 < min(measured.holding.loads.moved_s) < min(measured.holding.loads.warm_s)
    wrong = [point.quality["inaccuracy"].mean for point in measured.points]
    assert wrong[0] > 80
    assert wrong[2] < 20


@pytest.mark.e2e
def test_edges_share_a_card():
    (port,) = free_ports(1)
    edges = [
        {"name": f"edge-{letter}", "model": MODEL, "slowdown": slowdown, "device": GPU, "num_gpus": 0.3}
        for letter, slowdown in zip("abc", (1, 2, 4), strict=True)
    ]
    config = build_config({"models": MODELS, "edges": edges, "policy": "least-delay"})
    with running_service(config, port) as url, ThreadPoolExecutor(18) as clients:

        def ask(number: int) -> httpx.Response:
            body = {"prompt": "a red circle", "num_inference_steps": 40, "seed": number}
            return httpx.post(f"{url}/v1/images/generations", json=body, timeout=120)

        answers = list(clients.map(ask, range(18)))
        assert [answer.status_code for answer in answers] == [200] * 18
        servers = [answer.json()["edgegen"]["server"] for answer in answers]
        assert len(set(servers)) > 1
        assert levels(base64.b64decode(answers[0].json()["data"][0]["b64_json"])).shape == (64, 64, 3)
