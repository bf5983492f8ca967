"""A real diffusers pipeline with tiny layers and random weights, and a gateway whose edges work in virtual time."""

from __future__ import annotations

import asyncio
import heapq
import json
import os
from pathlib import Path

import httpx
import pytest

from edgegen.algorithms.rules.offloading import make_rule
from edgegen.serve.config import ServiceConfig, build_config
from edgegen.serve.control.jobs import EdgeLostError, EdgeReport, Pictures
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIDE = 16
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny Stable Diffusion pipeline that paints 16×16 pixels."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    pipeline = StableDiffusionPipeline(
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
        text_encoder=CLIPTextModel(text),
        unet=UNet2DConditionModel(
            sample_size=SIDE // 2,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            norm_num_groups=8,
            attention_head_dim=8,
        ),
        vae=AutoencoderKL(
            block_out_channels=(16, 32),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            norm_num_groups=8,
            sample_size=SIDE,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    target: Path = folder / "pipeline"
    pipeline.save_pretrained(target)
    return str(target)


def make_config(model: str = "tiny", **fields: object) -> ServiceConfig:
    """Three edges of unequal capacity, with values that tests need not name."""
    return build_config(
        {
            "models": {model: {"cycles_per_step_gcycles": 0.1, "sizes": [f"{SIDE}x{SIDE}"], "default_steps": 10}},
            "edges": [
                {"name": f"edge-{letter}", "model": model, "capacity_gcycles_s": capacity}
                for letter, capacity in zip("abc", (4.0, 2.0, 1.0), strict=True)
            ],
            **fields,
        }
    )


@pytest.fixture(scope="session", name="make_config")
def make_config_fixture():
    return make_config


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is left to do."""

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
        super()._run_once()


class SlowEdge:
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
        capacities = config.scenario().capacity_gcycles_s
        self.edges = {
            edge.name: SlowEdge(edge.name, capacity) for edge, capacity in zip(config.edges, capacities, strict=True)
        }
        self.gateway = Gateway(config, policy or make_rule(config.policy), self.edges, clock=self.loop.time)
        self.scheduler = self.gateway.scheduler
        transport = httpx.ASGITransport(create_app(self.gateway), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def ask(self, **fields):
        """Send a request; a task, to be awaited or not."""
        return asyncio.ensure_future(self.client.post("/v1/images/generations", json={"prompt": "x", **fields}))

    async def until(self, second):
        """Wait until a time since the start."""
        await asyncio.sleep(second - self.loop.time())


@pytest.fixture(scope="session")
def run_virtually():
    """Run a coroutine on a clock that jumps over every wait."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(coroutine)

    return run


@pytest.fixture(scope="session")
def in_virtual_time(run_virtually):
    """Run a scenario ``async (service)`` against a gateway with slow edges, in no time."""

    def run(scenario, config, policy=None):
        async def whole():
            service = Service(config, policy)
            await service.gateway.start()
            try:
                async with service.client:
                    await scenario(service)
            finally:
                await service.gateway.stop()

        run_virtually(whole())

    return run
