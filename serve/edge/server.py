# SPDX-License-Identifier: Apache-2.0
"""An edge server: models in a bounded memory behind a first-in-first-out queue.

The class knows nothing of Ray; the application turns it into one named Serve deployment per edge.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from edgegen.envs.core.records import DISK, HOST, RESIDENT
from edgegen.serve.control.jobs import EdgeFullError, EdgeReport, GenerationError, Glimpse, Job, Pictures
from edgegen.serve.edge.engines.base import Engine, Painting
from edgegen.serve.edge.engines.make import make_engine
from edgegen.serve.edge.idle import IdleTiming
from edgegen.serve.edge.pace import Pace
from edgegen.serve.edge.previews import Previews
from edgegen.serve.edge.queue import Item, Queue
from edgegen.serve.edge.residency import FORGETTING, NOTHING, Residency, Wish
from edgegen.serve.edge.steps import DecideSteps, StepsChooser, try_out
from edgegen.serve.edge.turn import Entry, Turn, load_entry
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard

logger = logging.getLogger(__name__)


class EdgeServer:
    """Generates pictures in order of arrival, and loads the models that they need.

    Args:
        edge: Which server this is.
        cards: The models of the service by name, among them those that it may hold.
        max_queue: Requests that may wait besides those that are being generated.
        warmup_steps: Denoising steps of each picture of the timed warm-up.
        stall_timeout_s: Without progress for this long the server declares itself unhealthy, s.
        decide_steps: Chooses the steps of jobs that leave a choice, when they join the queue. Without it they are all
            that the deadline allows, found out when they join and again when they start.
        frame_s: Time between two decisions of a gateway's cacher, s.
        engine: What loads and paints; that which the config names if None.
        clock: Monotonic time, s.
    """

    def __init__(
        self,
        edge: EdgeConfig,
        cards: Mapping[str, ModelCard],
        max_queue: int,
        warmup_steps: int = 8,
        stall_timeout_s: float = 300.0,
        *,
        decide_steps: DecideSteps | None = None,
        frame_s: float = 0.0,
        engine: Engine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._edge = edge
        self._cards = {model: cards[model] for model in edge.all_models}
        self._max_queue = max_queue
        self._warmup_steps = warmup_steps
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        self._engine = engine or make_engine(edge, self._cards, clock)
        self._running: list[Turn] = []
        self._previews = Previews()
        self._workers: set[asyncio.Task[None]] = set()
        self._wish = NOTHING
        self._frame_s, self._told_s = frame_s, -math.inf
        self._demand = dict.fromkeys(self._cards, 0.0)
        self._pictures = 0
        self._last_error: str | None = None
        memory = Residency(
            {model: card.size_gb for model, card in self._cards.items()},
            edge.models_gb,
            edge.pinned,
            edge.host_memory_gb,
        )
        host_s = {model: load_s for model in self._cards if (load_s := self._engine.host_load_s(model)) is not None}
        self._pace = Pace(self._cards, self._engine.work_s, host_s)
        if decide_steps is not None:
            try_out(decide_steps, next(iter(self._cards)))
        self._steps = StepsChooser(self._cards, self._pace, decide_steps)
        first = memory.at_start()
        for model in first:
            memory.bring(model)
        self._queue: Queue[Entry] = Queue(memory)
        self._start(first)
        self._idle = IdleTiming(edge.name, self._engine, self._cards, self._pace, warmup_steps, clock)

    async def generate(self, job: Job) -> Pictures:
        """Wait for the turn and generate the pictures of a job.

        Raises:
            EdgeFullError: If too many jobs wait already.
            GenerationError: If the edge may not hold the model, or it can not be loaded or fails.
        """
        model = job.model or next(iter(self._cards))
        if model not in self._cards:
            raise GenerationError(f"edge '{self._edge.name}' does not hold the model '{model}'")
        jobs = sum(item.job is not None for item in self._queue.waiting) + sum(len(t.entries) for t in self._running)
        if jobs >= self._max_queue + self._engine.concurrency:
            raise EdgeFullError(f"edge '{self._edge.name}' has {jobs - 1} requests waiting already")
        outcome: asyncio.Future[Pictures] = asyncio.get_running_loop().create_future()
        entry = Entry(job, model, self._clock(), outcome, job.steps, job.workload_gcycles)
        self._demand[model] += 1
        front_s = self._backlog_s()
        item = self._queue.join(model, entry, entry.arrived_s, self._wish)
        self._steps.choose(entry, entry.arrived_s, backlog_s=front_s, load_s=self._load_s(item))
        self._wake()
        with self._previews.of(job):
            try:
                return await outcome
            except asyncio.CancelledError:
                self._abandon(item)
                raise

    async def watch(self, name: str, seen: int, wait_s: float) -> Glimpse:
        """Return what is new of a job: more previews than were seen, or how far it is when the wait is over.

        Args:
            name: Its key.
            seen: Previews that were seen before.
            wait_s: How long to wait for another one, s.
        """
        glimpse = await self._previews.watch(name, seen, wait_s)
        turn = next((turn for turn in self._running if turn.has(name) and turn.task is not None), None)
        return glimpse if turn is None else replace(glimpse, step=turn.steps_done, steps=turn.steps)

    async def keep(self, wanted: Sequence[str], scores: Mapping[str, float] | None = None) -> None:
        """Take the cacher's decision for a frame.

        What is wanted and not there is loaded at the end of the queue, in the order of the edge's models. What is not
        wanted goes when room is needed. One gateway decides in each frame: what another one wants within half a frame
        after that is passed over, or loads for the one would undo those for the other.

        Args:
            wanted: Models to keep; of more than there is room for the least worthy are left out.
            scores: Worth of each model by name; of what is not wanted the least worthy goes first, and without scores
                what was asked for longest ago.
        """
        if (now := self._clock()) - self._told_s < self._frame_s / 2:
            return
        self._told_s = now
        wish = Wish(frozenset(wanted) & self._cards.keys(), dict(scores or {}))
        self._wish = self._queue.end.affordable(wish, self._demand)
        for model in self._queue.end.missing(self._wish):
            self._queue.join(model, None, self._clock(), self._wish)
        self._demand = {model: FORGETTING * demand for model, demand in self._demand.items()}
        self._wake()

    async def choose_steps_by(self, decide_steps: DecideSteps | None) -> None:
        """Let somebody else choose the steps of the jobs that come from now on; the plain rule if None."""
        if decide_steps is not None:  # apart from this loop, which has jobs to look after
            await asyncio.to_thread(try_out, decide_steps, next(iter(self._cards)))
        self._steps.choose_by(decide_steps)

    async def report(self) -> EdgeReport:
        """Return the state of the server."""
        self._idle.look(self._queue.front.resident, idle=not self._workers and not self._queue.waiting)
        # What is done side by side counts as so much less: capacity is that of one job, and work over it is a time.
        now, capacity, beside = self._clock(), self._capacity_gcycles_s, self._engine.concurrency
        left = [part for turn in self._running for part in turn.remaining_gcycles(now, capacity)]
        for item in self._queue.waiting:
            load = self._load_s(item) * capacity
            entry = item.job
            left.append((entry.job.id, entry.work_gcycles + load) if entry else load_entry(item.model, load))
        several = len(self._cards) > 1
        front, end = self._queue.front, self._queue.end
        loading_s = sum(turn.load_left_s(now) for turn in self._running) + sum(map(self._load_s, self._queue.waiting))
        return EdgeReport(
            name=self._edge.name,
            pid=os.getpid(),
            remaining_gcycles=tuple((name, work / beside) for name, work in left),
            steps_left=sum(turn.steps - turn.steps_done for turn in self._running if turn.entries),
            stalled_s=self._stalled_s(),
            capacity_gcycles_s=capacity,
            step_s=self._pace.step_s,
            pictures=self._pictures,
            last_error=self._last_error,
            resident=tuple(model for model in self._cards if model in front.resident) if several else None,
            load_s=tuple((m, self._pace.load_s(m, m in end.host)) for m in self._cards) if several else (),
            expected=tuple(model for model in self._cards if model in end.resident) if several else None,
            loading_s=loading_s,
        )

    async def check_health(self) -> None:
        """Raise if generation is stuck; Serve then replaces the server.

        Raises:
            RuntimeError: If the current picture has made no progress for the stall timeout.
        """
        if self._stalled_s() > self._stall_timeout_s:
            raise RuntimeError(f"edge '{self._edge.name}' made no progress for {self._stall_timeout_s:g} s")

    async def close(self) -> None:
        """Give back what the engine holds."""
        await self._engine.close()

    @property
    def _capacity_gcycles_s(self) -> float:
        configured = self._edge.capacity_gcycles_s
        if configured == "measured":
            return self._pace.capacity_gcycles_s
        return configured

    def _start(self, models: Sequence[str]) -> None:
        """Have the engine load what the edge starts with, and take its pace from the warm-up."""
        times = {}
        for model, started in self._engine.start(models, self._warmup_steps).items():
            card = self._cards[model]
            if started.load_s is not None:
                self._pace.loaded_at_start(model, started.load_s)
            if started.picture_s is not None:
                work = card.workload_gcycles(1, self._warmup_steps, card.sizes[0])
                times[model] = (started.picture_s / work, started.picture_s / self._warmup_steps)
            size_gb = self._engine.size_gb(model)
            if size_gb is not None and card.size_gb and size_gb > 1.1 * card.size_gb:
                logger.warning("model '%s' takes %.3g GB, but size_gb is %.3g", model, size_gb, card.size_gb)
        self._pace.start(times)

    def _wake(self) -> None:
        """Have as many workers as the engine can do things at a time, while there is something to do."""
        for _ in range(min(self._engine.concurrency - len(self._workers), len(self._queue.waiting))):
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)

    async def _work(self) -> None:
        try:
            await self._idle.give_up()
            while self._queue.waiting:
                await self._take_turn(self._queue.begin())
        finally:  # at once: whoever comes next must not count on this worker
            self._workers.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _take_turn(self, item: Item[Entry]) -> None:
        now = self._clock()
        turn = Turn(item, [item.job] if item.job else [], now, moved_s=now)
        self._running.append(turn)
        try:
            await self._serve(turn)
        except Exception as error:  # engines are foreign code: whatever they do, the queue must go on
            self._fail(turn, error)
        finally:
            self._running.remove(turn)
            self._idle.worked()

    async def _serve(self, turn: Turn) -> None:
        loaded_s = await self._load(turn)
        if not turn.wanted:
            return
        begun = self._clock()
        self._gather(turn)
        first = turn.entries[0]
        jobs = tuple(entry.job for entry in turn.entries)
        painting = Painting(jobs, first.model, first.steps, self._advance(turn), self._previews.show)
        turn.steps, turn.moved_s = first.steps * len(painting.pictures), begun
        turn.task = asyncio.ensure_future(self._engine.paint(painting))
        try:
            await asyncio.wait([turn.task])
        except asyncio.CancelledError:
            turn.task.cancel()
            raise
        if turn.task.cancelled():  # nobody waits any more
            return
        png = turn.task.result()
        generation_s = self._clock() - begun
        self._pictures += len(painting.pictures)
        area = self._cards[first.model].relative_area(f"{first.job.width}x{first.job.height}")
        work = sum(entry.work_gcycles for entry in turn.entries)
        self._pace.worked(first.model, work, turn.steps * area, generation_s)
        source = RESIDENT if turn.item.load is None else HOST if turn.item.load.from_host else DISK
        for entry, pictures in zip(turn.entries, png, strict=True):
            waited_s = begun - entry.arrived_s
            load_s = min(loaded_s, waited_s)
            if entry.wanted:
                times = (waited_s - load_s, generation_s, entry.steps, load_s)
                entry.outcome.set_result(Pictures(pictures, *times, source))

    async def _load(self, turn: Turn) -> float:
        """Do the load of a turn; returns the time that it took, s."""
        load = turn.item.load
        if load is None:
            return 0.0
        turn.load_s = self._pace.load_s(load.model, load.from_host)
        try:
            for eviction in load.evictions:
                await self._engine.unload(eviction.model, eviction.shelved)
                for model in eviction.forgotten:
                    await self._engine.unload(model, False)
            begun = self._clock()
            await self._engine.load(load.model)
        except Exception:
            self._queue.fail(turn.item)
            raise
        now = self._clock()
        self._pace.loaded(load.model, load.from_host, now - begun)
        turn.load_s, turn.moved_s = None, now
        return now - turn.begun_s

    def _gather(self, turn: Turn) -> None:
        """Choose the steps of a turn's job, and add those that come next and can be painted together with it."""
        first = turn.entries[0]
        self._steps.choose_again(first, self._clock(), self._waiting_s())
        pictures = len(first.job.seeds)
        while self._queue.waiting:
            entry = self._queue.waiting[0].job
            if entry is None or entry.kind != first.kind:
                return
            pictures += len(entry.job.seeds)
            if pictures > self._engine.max_pictures:
                return
            self._steps.choose_again(entry, self._clock(), self._waiting_s())
            if entry.steps != first.steps:
                return
            self._queue.begin()
            turn.entries.append(entry)

    def _backlog_s(self) -> float:
        """Time of all work on the edge, loads included, s."""
        now, capacity = self._clock(), self._capacity_gcycles_s
        running = sum(work for turn in self._running for _, work in turn.remaining_gcycles(now, capacity))
        return running / capacity / self._engine.concurrency + self._waiting_s()

    def _waiting_s(self) -> float:
        """Time of all work that has not begun, loads included, s."""
        work_s = (self._pace.work_s(item.model, item.job.work_gcycles) for item in self._queue.waiting if item.job)
        return (sum(work_s) + sum(map(self._load_s, self._queue.waiting))) / self._engine.concurrency

    def _load_s(self, item: Item[Entry]) -> float:
        return 0.0 if item.load is None else self._pace.load_s(item.model, item.load.from_host)

    def _advance(self, turn: Turn) -> Callable[[int], None]:
        def advance(steps_done: int) -> None:
            turn.steps_done, turn.moved_s = min(steps_done, turn.steps), self._clock()

        return advance

    def _abandon(self, item: Item[Entry]) -> None:
        """Drop a job for which nobody waits any more; what is being painted for nobody stops at the next step."""
        if item in self._queue.waiting:
            self._queue.leave(item)
            return
        for turn in self._running:
            if item.job in turn.entries and not turn.wanted and turn.task is not None:
                turn.task.cancel()

    def _fail(self, turn: Turn, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        self._last_error = reason
        logger.error("edge '%s' failed on a request", self._edge.name, exc_info=error)
        for entry in turn.entries:
            if entry.wanted:
                entry.outcome.set_exception(GenerationError(reason))

    def _stalled_s(self) -> float:
        now = self._clock()
        return max((turn.stalled_s(now) for turn in self._running), default=0.0)
