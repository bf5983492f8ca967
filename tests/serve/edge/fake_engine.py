# SPDX-License-Identifier: Apache-2.0
"""An engine that takes its time on a virtual clock and tells what it did, and edges with it."""

from __future__ import annotations

import asyncio

from edgegen.serve.control.jobs import Job
from edgegen.serve.edge.engines.base import Engine, Started
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelConfig, card_of

LOAD_S = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0}
SIZE_GB = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0}
STEP_S = 0.5
"""Time of a step of a picture; 1 Gcycle of work each."""


class FakeEngine(Engine):
    """Loads, unloads and paints in the time that the tables say."""

    work_s = STEP_S

    def __init__(self, max_pictures=1, concurrency=1, is_timed=False):
        self.max_pictures, self.concurrency, self.is_timed = max_pictures, concurrency, is_timed
        self.resident, self.done, self.broken, self.busy, self.step_s = set(), [], set(), 0, STEP_S

    def start(self, models, warmup_steps):
        self.resident |= set(models)
        return dict.fromkeys(models, Started(picture_s=warmup_steps * STEP_S)) if self.is_timed else {}

    async def load(self, model):
        assert model not in self.resident
        assert not self.busy
        self.busy += 1
        await asyncio.sleep(LOAD_S[model])
        self.busy -= 1
        if model in self.broken:
            raise OSError(f"no weights of {model}")
        self.resident.add(model)
        self.done.append((self.now, "load", model))

    async def unload(self, model, to_host):
        self.resident.remove(model)
        self.done.append((self.now, "unload", model))

    async def paint(self, painting):
        assert painting.model in self.resident
        assert self.busy < self.concurrency
        self.busy += 1
        try:
            pictures = len(painting.pictures)
            for step in range(1, painting.steps + 1):
                await asyncio.sleep(self.step_s * pictures)
                painting.advance(step * pictures)
        finally:
            self.busy -= 1
        if painting.jobs[0].prompt == "fail":
            raise ValueError("no such colour")
        self.done.append((self.now, "paint", *(job.id for job in painting.jobs)))
        return painting.by_job([f"{job.id} {seed}".encode() for job, seed in painting.pictures])

    @property
    def now(self):
        return round(asyncio.get_running_loop().time(), 6)


def cards(fixed_gcycles=0.0):
    """Four models with 1 Gcycle a step."""
    described = {
        model: {"cycles_per_step_gcycles": 1.0, "sizes": ["64x64"], "fixed_gcycles": fixed_gcycles} for model in SIZE_GB
    }
    return {
        model: card_of(model, ModelConfig(**fields, size_gb=SIZE_GB[model], load_s=LOAD_S[model]))
        for model, fields in described.items()
    }


def edge_with(engine=None, max_queue=16, memory_gb=6.0, fixed_gcycles=0.0, decide_steps=None, frame_s=0.0, **fields):
    """An edge of the four models, and its engine; starts with a, b and c."""
    engine = engine or FakeEngine()
    config = EdgeConfig(name="edge", models=tuple(SIZE_GB), memory_gb=memory_gb, **fields)
    clock = asyncio.get_running_loop().time
    made = cards(fixed_gcycles)
    options = {"decide_steps": decide_steps, "frame_s": frame_s, "engine": engine, "clock": clock}
    return EdgeServer(config, made, max_queue, 8, 20.0, **options), engine


def job(name, model="a", steps=4, seeds=(1,), **fields):
    """A job that takes ``steps × seeds × STEP_S``."""
    values = {"negative_prompt": None, "guidance_scale": 3.0, "width": 64, "height": 64, "prompt": "x", **fields}
    return Job(id=name, steps=steps, seeds=seeds, workload_gcycles=float(steps * len(seeds)), model=model, **values)


def send(edge, *jobs):
    """Send jobs in this order; tasks."""
    return [asyncio.ensure_future(edge.generate(one)) for one in jobs]
