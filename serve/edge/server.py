"""An edge server: one real diffusion pipeline behind a first-in-first-out queue.

The class knows nothing of Ray; the application turns it into one named Serve deployment per edge.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edgegen.envs.core.device import finish
from edgegen.serve.control.jobs import EdgeFullError, EdgeReport, GenerationError, Job, Pictures
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard, parse_size
from edgegen.serve.zoo.loading import load_pipeline

logger = logging.getLogger(__name__)

MEMORY_OF_STEP_TIME = 0.7
"""Weight of the past in the running mean step time: about the last three pictures count."""
WARMUP_PICTURES = 3
"""Pictures that are timed before an edge takes requests."""


class _StoppedError(Exception):
    """Leaves the pipeline when nobody waits for the picture any more."""


@dataclass
class _Entry:
    """A job on the edge: how many steps of how many are done, and whether it is still wanted."""

    job: Job
    steps_done: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def steps(self) -> int:
        return self.job.steps * len(self.job.seeds)

    @property
    def remaining_gcycles(self) -> float:
        return self.job.workload_gcycles * (1 - self.steps_done / self.steps)

    def advance(self, steps_done: int) -> None:
        self.steps_done = min(steps_done, self.steps)
        self.moved_at = time.monotonic()


class EdgeServer:
    """Generates pictures one at a time, in order of arrival.

    Pipelines run in a single worker thread, so the event loop stays free to answer health checks and state reports.

    Args:
        edge: Which server this is.
        card: The model it holds.
        max_queue: Requests that may wait besides the one being generated.
        warmup_steps: Denoising steps of each picture of the timed warm-up.
        stall_timeout_s: Without progress for this long the server declares itself unhealthy, s.
    """

    def __init__(
        self, edge: EdgeConfig, card: ModelCard, max_queue: int, warmup_steps: int = 8, stall_timeout_s: float = 300.0
    ) -> None:
        self._edge = edge
        self._card = card
        self._max_queue = max_queue
        self._stall_timeout_s = stall_timeout_s
        self._entries: dict[str, _Entry] = {}
        self._running: _Entry | None = None
        self._turn = asyncio.Lock()  # wakes waiters in order of arrival: this is the queue
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=edge.name)
        self._pictures = 0
        self._last_error: str | None = None
        self._step_s = self._worker.submit(self._prepare, warmup_steps).result()

    async def generate(self, job: Job) -> Pictures:
        """Wait for the turn and generate the pictures of a job.

        Raises:
            EdgeFullError: If too many jobs wait already.
            GenerationError: If the pipeline fails.
        """
        if len(self._entries) > self._max_queue:
            raise EdgeFullError(f"edge '{self._edge.name}' has {len(self._entries) - 1} requests waiting already")
        entry = self._entries[job.id] = _Entry(job)
        arrived = time.perf_counter()
        try:
            async with self._turn:
                started = time.perf_counter()
                entry.moved_at = time.monotonic()
                self._running = entry
                try:
                    png = await self._in_worker(entry)
                finally:
                    self._running = None
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self._last_error = reason
            logger.exception("edge '%s' failed on a request", self._edge.name)
            raise GenerationError(reason) from None
        finally:
            del self._entries[job.id]
        generation_s = time.perf_counter() - started
        self._pictures += len(png)
        area = self._card.relative_area(f"{job.width}x{job.height}")
        step_s = generation_s / (entry.steps * area)
        self._step_s = MEMORY_OF_STEP_TIME * self._step_s + (1 - MEMORY_OF_STEP_TIME) * step_s
        return Pictures(png, started - arrived, generation_s)

    async def report(self) -> EdgeReport:
        """Return the state of the server."""
        capacity = self._edge.capacity_gcycles_s
        if capacity == "measured":
            capacity = self._card.cycles_per_step_gcycles / self._step_s
        running = self._running
        return EdgeReport(
            name=self._edge.name,
            pid=os.getpid(),
            remaining_gcycles=tuple((name, entry.remaining_gcycles) for name, entry in self._entries.items()),
            steps_left=running.steps - running.steps_done if running else 0,
            stalled_s=self._stalled_s(),
            capacity_gcycles_s=capacity,
            step_s=self._step_s,
            pictures=self._pictures,
            last_error=self._last_error,
        )

    async def check_health(self) -> None:
        """Raise if generation is stuck; Serve then replaces the server.

        Raises:
            RuntimeError: If the current picture has made no progress for the stall timeout.
        """
        if self._stalled_s() > self._stall_timeout_s:
            raise RuntimeError(f"edge '{self._edge.name}' made no progress for {self._stall_timeout_s:g} s")

    def _stalled_s(self) -> float:
        return 0.0 if self._running is None else time.monotonic() - self._running.moved_at

    async def _in_worker(self, entry: _Entry) -> tuple[bytes, ...]:
        work = asyncio.get_running_loop().run_in_executor(self._worker, self._paint_all, entry)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread can not be interrupted from here: it leaves at the next step, and the next job must not
            # begin before.
            entry.stop.set()
            await asyncio.wait([work])
            work.exception()  # seen
            raise

    def _prepare(self, warmup_steps: int) -> float:
        """Load the pipeline, warm it up, and return the time of a denoising step, s."""
        import torch

        torch.set_num_threads(self._edge.threads)
        self._pipeline = load_pipeline(self._edge.all_models[0], self._edge.device)
        self._parameters = set(inspect.signature(self._pipeline.__call__).parameters)
        if not {"prompt", "num_inference_steps", "generator"} <= self._parameters:
            raise ValueError(f"model '{self._card.name}' is not a text-to-image diffusion pipeline")
        width, height = parse_size(self._card.sizes[0])
        guidance = self._card.default_guidance
        times = []
        for steps in (1, *[warmup_steps] * WARMUP_PICTURES):
            job = Job("warm-up", "a red circle", None, steps, guidance, width, height, (0,), 1.0)
            begun = time.perf_counter()
            self._paint_all(_Entry(job))
            times.append((time.perf_counter() - begun) / steps)
        # The first picture pays for lazy initialisation. Of the others the fastest counts: while a service starts,
        # edges on the same machine are loading their models and disturb the rest.
        return min(times[1:])

    def _paint_all(self, entry: _Entry) -> tuple[bytes, ...]:
        return tuple(self._paint(entry, index) for index in range(len(entry.job.seeds)))

    def _paint(self, entry: _Entry, index: int) -> bytes:
        """Generate one picture of a job and return it as PNG (in the worker thread)."""
        import torch

        job = entry.job
        before = index * job.steps
        mark = time.perf_counter()

        def pace() -> None:
            nonlocal mark
            finish(self._edge.device)  # or a step on a GPU would count as done, and as short, when it is only asked for
            entry.stop.wait((self._edge.slowdown - 1) * (time.perf_counter() - mark))
            if entry.stop.is_set():
                raise _StoppedError
            mark = time.perf_counter()

        def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            pace()
            entry.advance(before + min(step + 1, job.steps))
            return tensors

        wanted = {
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "num_inference_steps": job.steps,
            "guidance_scale": job.guidance_scale,
            "width": job.width,
            "height": job.height,
            # Drawn on the host, so that a seed gives the same picture on every device.
            "generator": torch.Generator("cpu").manual_seed(job.seeds[index]),
            "callback_on_step_end": after_step,
            "output_type": "pil",
        }
        with torch.inference_mode():
            output = self._pipeline(**{key: value for key, value in wanted.items() if key in self._parameters})
        encoded = io.BytesIO()
        output.images[0].save(encoded, format="PNG")
        pace()
        entry.advance(before + job.steps)
        return encoded.getvalue()
