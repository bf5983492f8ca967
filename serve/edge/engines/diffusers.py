# SPDX-License-Identifier: Apache-2.0
"""Diffusion pipelines on a device of this machine."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from edgegen.envs.core.device import finish, is_gpu
from edgegen.serve.control.jobs import Job, Preview
from edgegen.serve.edge.engines.base import Engine, Painting, Started
from edgegen.serve.edge.engines.foresight import Foresight
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard, parse_size
from edgegen.serve.zoo.loading import load_pipeline

WARMUP_PICTURES = 3
"""Pictures that are timed before an edge takes requests."""

T = TypeVar("T")


class _StoppedError(Exception):
    """Leaves a pipeline when nobody waits for the picture any more."""


@dataclass(frozen=True)
class _Loaded:
    """A pipeline, and the arguments that it takes."""

    pipeline: Any
    parameters: frozenset[str]


class DiffusersEngine(Engine):
    """Pipelines in one worker thread, so that the event loop stays free to answer health checks and state reports.

    Args:
        edge: Device, threads and options.
        cards: The models that it may load.
    """

    is_timed = True

    def __init__(self, edge: EdgeConfig, cards: Mapping[str, ModelCard]) -> None:
        self.max_pictures = edge.max_batch
        self._edge = edge
        self._cards = cards
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=edge.name)
        self._resident: dict[str, _Loaded] = {}
        self._host: dict[str, _Loaded] = {}

    def start(self, models: Sequence[str], warmup_steps: int) -> Mapping[str, Started]:
        """See :meth:`Engine.start`."""
        return self._worker.submit(self._start, models, warmup_steps).result()

    async def load(self, model: str) -> None:
        """See :meth:`Engine.load`."""
        await self._in_worker(lambda: self._load(model))

    async def unload(self, model: str, to_host: bool) -> None:
        """See :meth:`Engine.unload`."""
        await self._in_worker(lambda: self._unload(model, to_host))

    async def paint(self, painting: Painting) -> tuple[tuple[bytes, ...], ...]:
        """See :meth:`Engine.paint`."""
        stop = threading.Event()
        return await self._in_worker(lambda: self._paint_all(painting, stop), stop)

    def size_gb(self, model: str) -> float | None:
        """Memory of the weights and buffers of a loaded model, GB."""
        loaded = self._resident.get(model)
        if loaded is None:
            return None
        parts = [part for part in loaded.pipeline.components.values() if hasattr(part, "parameters")]
        tensors = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
        return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e9

    async def close(self) -> None:
        """Drop all pipelines and end the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._resident.clear()
        self._host.clear()

    async def _in_worker(self, work: Callable[[], T], stop: threading.Event | None = None) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The thread can not be interrupted from here: it leaves at the next step, and what comes next must not
            # begin before.
            if stop is not None:
                stop.set()
            await asyncio.wait([future])
            future.exception()  # seen
            raise

    def _start(self, models: Sequence[str], warmup_steps: int) -> dict[str, Started]:
        import diffusers  # noqa: F401 - it takes seconds, which are none of the first model's
        import torch

        torch.set_num_threads(self._edge.threads)
        started = {}
        for model in models:
            begun = time.perf_counter()
            self._load(model)
            load_s = time.perf_counter() - begun
            started[model] = Started(load_s, self._warm_up(model, warmup_steps))
        return started

    def _warm_up(self, model: str, warmup_steps: int) -> float:
        """Return the time of a picture, s."""
        card = self._cards[model]
        width, height = parse_size(card.sizes[0])
        times = []
        for steps in (1, *[warmup_steps] * WARMUP_PICTURES):
            job = Job("warm-up", "a red circle", None, steps, card.default_guidance, width, height, (0,), 1.0)
            begun = time.perf_counter()
            self._paint_all(Painting((job,), model, steps, lambda done: None), threading.Event())
            times.append(time.perf_counter() - begun)
        # The first picture pays for lazy initialisation. Of the others the fastest counts: while a service starts,
        # edges on the same machine are loading their models and disturb the rest.
        return min(times[1:])

    def _load(self, model: str) -> None:
        import torch

        loaded = self._host.pop(model, None)
        if loaded is None:
            pipeline = load_pipeline(
                model,
                self._edge.device,
                getattr(torch, self._edge.dtype),
                offload=self._edge.offload,
                without=self._cards[model].without,
                safetensors_only=self._edge.safetensors_only,
            )
            parameters = frozenset(inspect.signature(pipeline.__call__).parameters)
            if not {"prompt", "num_inference_steps", "generator"} <= parameters:
                raise ValueError(f"model '{model}' is not a text-to-image diffusion pipeline")
            loaded = _Loaded(pipeline, parameters)
        else:
            loaded.pipeline.to(self._edge.device)
        finish(self._edge.device)
        self._resident[model] = loaded

    def _unload(self, model: str, to_host: bool) -> None:
        loaded = self._resident.pop(model, None)
        if loaded is not None and to_host:
            loaded.pipeline.to("cpu")
            self._host[model] = loaded
        elif not to_host:
            self._host.pop(model, None)
        del loaded
        gc.collect()  # pipelines hold themselves in circles
        if is_gpu(self._edge.device):
            import torch

            torch.cuda.empty_cache()

    def _paint_all(self, painting: Painting, stop: threading.Event) -> tuple[tuple[bytes, ...], ...]:
        pictures = painting.pictures
        png: list[bytes] = []
        for first in range(0, len(pictures), self.max_pictures):
            together = pictures[first : first + self.max_pictures]
            png += self._paint(painting, together, first, stop)
        return painting.by_job(png)

    def _paint(
        self, painting: Painting, pictures: Sequence[tuple[Job, int]], before: int, stop: threading.Event
    ) -> list[bytes]:
        """Make some pictures with one call of the pipeline and return them as PNG (in the worker thread).

        Args:
            painting: What they are of.
            pictures: The pictures.
            before: How many others of the painting were made before.
            stop: Is set when nobody waits for them any more.
        """
        import torch

        loaded, steps = self._resident[painting.model], painting.steps
        mark = time.perf_counter()

        def pace() -> None:
            nonlocal mark
            finish(self._edge.device)  # or a step on a GPU would count as done, and as short, when it is only asked for
            stop.wait((self._edge.slowdown - 1) * (time.perf_counter() - mark))
            if stop.is_set():
                raise _StoppedError
            mark = time.perf_counter()

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            pace()
            done = min(step + 1, steps)
            painting.advance(before * steps + done * len(pictures))
            due = [painting.to_show(before + row, done) for row in range(len(pictures))]
            if any(due):
                rows = [row for row, one in enumerate(due) if one is not None]
                for png, shown in zip(foresight.pictures(tensors, rows), filter(None, due), strict=False):
                    job, picture, index = shown
                    painting.show(job, Preview(picture, index, done, steps, png))
            return tensors

        jobs = [job for job, _ in pictures]
        foresight = Foresight(loaded.pipeline, jobs[0].width, jobs[0].height)
        wanted_previews = any(job.previews for job in jobs)
        alone = len(pictures) == 1
        negatives = [job.negative_prompt for job in jobs]
        # Drawn on the host, so that a seed gives the same picture on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in pictures]
        wanted = {
            "prompt": jobs[0].prompt if alone else [job.prompt for job in jobs],
            "negative_prompt": negatives[0] if alone or negatives[0] is None else negatives,
            "num_inference_steps": steps,
            "guidance_scale": jobs[0].guidance_scale,
            "width": jobs[0].width,
            "height": jobs[0].height,
            "generator": generators[0] if alone else generators,
            "callback_on_step_end": after_step,
            "output_type": "pil",
        }
        with torch.inference_mode(), foresight if wanted_previews else nullcontext():
            output = loaded.pipeline(**{key: value for key, value in wanted.items() if key in loaded.parameters})
        png = []
        for image in output.images:
            encoded = io.BytesIO()
            image.save(encoded, format="PNG")
            png.append(encoded.getvalue())
        pace()
        painting.advance((before + len(pictures)) * steps)
        return png
