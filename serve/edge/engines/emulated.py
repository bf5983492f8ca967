# SPDX-License-Identifier: Apache-2.0
"""An engine that takes the time of a measured profile and paints nothing."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from PIL import Image, PngImagePlugin

from edgegen.envs.core.errors import InputError
from edgegen.serve.control.jobs import Preview
from edgegen.serve.edge.engines.base import Engine, Painting, Started
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard
from edgegen.serve.profile.model_profile import ModelProfile

SIDE = 8
"""Width and height of the pictures, pixels."""
NAP_S = 0.05
"""Shortest wait between two steps, s; shorter steps are waited for together, so that many edges fit into a process."""


class EmulatedEngine(Engine):
    """Waits as long as the profiles of the models say, on the event loop alone.

    Steps and what is beside them take the time of the profile over ``speed``; loads take as long at any speed.
    Pictures are small, of one colour that the seed chooses, and say in a text chunk that they are emulated.

    Args:
        edge: Speed, largest batch, and how many requests it does side by side.
        cards: The models that it may load, with profiles.
        clock: Monotonic time, s.
        sleep: Waits on that clock.

    Raises:
        InputError: If a model has no profile.
    """

    def __init__(
        self,
        edge: EdgeConfig,
        cards: Mapping[str, ModelCard],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.max_pictures, self.concurrency = edge.max_batch, edge.concurrency
        self._speed = edge.speed
        self._cards = cards
        self._clock, self._sleep = clock, sleep
        self._profiles = {model: _profile(edge, card) for model, card in cards.items()}
        self._host: set[str] = set()

    def start(self, models: Sequence[str], warmup_steps: int) -> Mapping[str, Started]:
        """Say how fast every model is; the loads of the start take no time."""
        return {
            model: Started(picture_s=profile.time_s(warmup_steps) / self._speed)
            for model, profile in self._profiles.items()
        }

    async def load(self, model: str) -> None:
        """See :meth:`Engine.load`."""
        from_host = model in self._host
        self._host.discard(model)
        await self._sleep(self._profiles[model].load_from_host_s if from_host else self._cards[model].load_s)

    async def unload(self, model: str, to_host: bool) -> None:
        """See :meth:`Engine.unload`."""
        if to_host:
            self._host.add(model)
        else:
            self._host.discard(model)

    async def paint(self, painting: Painting) -> tuple[tuple[bytes, ...], ...]:
        """See :meth:`Engine.paint`."""
        pictures, steps = painting.pictures, painting.steps
        profile, one = self._profiles[painting.model], painting.jobs[0]
        scale = self._cards[painting.model].relative_area(f"{one.width}x{one.height}") / self._speed
        begun_s, before = self._clock(), 0
        for first in range(0, len(pictures), self.max_pictures):
            together = len(pictures[first : first + self.max_pictures])
            for step in range(1, steps + 1):
                # What is beside the steps comes last, as decoding does.
                end_s = begun_s + scale * (profile.time_s(step, together) - (step < steps) * profile.fixed_s)
                left_s = end_s - self._clock()
                due = [painting.to_show(first + number, step) for number in range(together)]
                if left_s >= NAP_S or step == steps or any(due):
                    await self._sleep(max(left_s, 0.0))
                    painting.advance(before + step * together)
                for job, picture, index in filter(None, due):
                    png = _picture(painting.model, job.seeds[picture], step, steps)
                    painting.show(job, Preview(picture, index, step, steps, png))
            begun_s += scale * profile.time_s(steps, together)
            before += steps * together
        return painting.by_job([_picture(painting.model, seed, steps, steps) for _, seed in pictures])

    def host_load_s(self, model: str) -> float | None:
        """Time to load a model from the memory of the host, s."""
        return self._profiles[model].load_from_host_s


def _profile(edge: EdgeConfig, card: ModelCard) -> ModelProfile:
    if card.profile is None:
        raise InputError(
            f"Edges: '{edge.name}' is emulated, but its model '{card.name}' has no profile; measure one with "
            f"'edgegen profile' and name its file in models.{card.name}.profile."
        )
    return card.profile


def _picture(model: str, seed: int, step: int, steps: int) -> bytes:
    """Return a small PNG that says what it stands for; it is dark at first."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "edgegen, emulated")
    made = f"{steps} steps" if step == steps else f"preview after {step} of {steps} steps"
    text.add_text("Description", f"emulated: {model}, seed {seed}, {made}")
    encoded = io.BytesIO()
    shade = (seed * 2654435761) % 2**24
    red, green, blue = (part * step // steps for part in (shade >> 16, shade >> 8 & 255, shade & 255))
    Image.new("RGB", (SIDE, SIDE), (red, green, blue)).save(encoded, format="PNG", pnginfo=text)
    return encoded.getvalue()
