# SPDX-License-Identifier: Apache-2.0
"""Timing of an edge while it is idle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from edgegen.serve.control.jobs import Job
from edgegen.serve.edge.engines.base import Engine, Painting
from edgegen.serve.edge.pace import Pace
from edgegen.serve.model_config import ModelCard, parse_size

logger = logging.getLogger(__name__)

FIRST_IDLE_S = 3.0
"""Time without work after which an edge is timed for the first time since its start, s."""
IDLE_S = 30.0
"""Time without work after which it is timed again, s; from then on after twice as long each time."""


class IdleTiming:
    """Times an edge again when it has been idle for long: at the start others on the machine were loading models.

    Args:
        name: Name of the edge, for its log.
        engine: What paints.
        cards: The models that it may hold.
        pace: Is told.
        steps: Denoising steps of each picture.
        clock: Monotonic time, s.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        cards: Mapping[str, ModelCard],
        pace: Pace,
        steps: int,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._engine, self._cards, self._pace, self._steps = name, engine, cards, pace, steps
        self._clock = clock
        self._least_s = self._idle_s = FIRST_IDLE_S
        self._since_s = clock()
        self._timing: asyncio.Task[None] | None = None

    def worked(self) -> None:
        """Note that the edge has done something."""
        self._idle_s, self._since_s = self._least_s, self._clock()

    def look(self, models: Collection[str], idle: bool) -> None:
        """Begin to time some models if it is time for that.

        Args:
            models: Those in memory.
            idle: Whether there is nothing to do.
        """
        if idle and self._engine.is_timed and self._timing is None and self._clock() - self._since_s > self._idle_s:
            self._idle_s = max(2 * self._idle_s, IDLE_S)
            self._timing = asyncio.create_task(self._time(sorted(models)))
            self._timing.add_done_callback(self._end)

    async def give_up(self) -> None:
        """Stop, and return when the device is free."""
        if self._timing is not None:
            self._timing.cancel()
            await asyncio.wait([self._timing])

    async def _time(self, models: Collection[str]) -> None:
        for model in models:
            card, steps = self._cards[model], self._steps
            width, height = parse_size(card.sizes[0])
            job = Job("warm-up", "a red circle", None, steps, card.default_guidance, width, height, (0,), 1.0)
            begun = self._clock()
            await self._engine.paint(Painting((job,), model, steps, lambda done: None))
            self._pace.timed(model, card.workload_gcycles(1, steps, card.sizes[0]), steps, self._clock() - begun)

    def _end(self, timing: asyncio.Task[None]) -> None:
        self._timing, self._since_s = None, self._clock()
        if timing.cancelled():
            return
        self._least_s = IDLE_S
        if timing.exception() is not None:
            logger.error("edge '%s' could not be timed", self._name, exc_info=timing.exception())
