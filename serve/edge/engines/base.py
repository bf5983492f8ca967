# SPDX-License-Identifier: Apache-2.0
"""What an edge asks of an engine, and what it gives it to paint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgegen.serve.control.jobs import Job, Preview, preview_steps


@dataclass(frozen=True)
class Started:
    """What an engine found out about a model at the start.

    Attributes:
        load_s: Time that it took to load, s; None if none was spent.
        picture_s: Time of the fastest picture of the warm-up, s; None if there was none.
    """

    load_s: float | None = None
    picture_s: float | None = None


@dataclass(frozen=True)
class Painting:
    """Jobs that are painted together: of one model, one size, one guidance and one number of steps.

    Attributes:
        jobs: The jobs.
        model: The model.
        steps: Denoising steps of each picture.
        advance: Is told how many steps of all pictures together are done, from whatever thread.
        show: Is given previews of the pictures of a job that wants some, from whatever thread.
    """

    jobs: tuple[Job, ...]
    model: str
    steps: int
    advance: Callable[[int], None]
    show: Callable[[Job, Preview], None] = lambda job, preview: None

    @property
    def pictures(self) -> tuple[tuple[Job, int], ...]:
        """Every picture with its job and its seed, in order."""
        return tuple((job, seed) for job in self.jobs for seed in job.seeds)

    def to_show(self, number: int, step: int) -> tuple[Job, int, int] | None:
        """Return whose preview is due after a step, which of its pictures it is of and its number; None if none is.

        Args:
            number: Number of the picture among all.
            step: Steps that are done of it.
        """
        job, seed = self.pictures[number]
        places = preview_steps(self.steps, job.previews) if job.previews else ()
        return (job, job.seeds.index(seed), places.index(step)) if step in places else None

    def by_job(self, png: Sequence[bytes]) -> tuple[tuple[bytes, ...], ...]:
        """Return the pictures of each job."""
        rest = iter(png)
        return tuple(tuple(next(rest) for _ in job.seeds) for job in self.jobs)


class Engine(ABC):
    """Loads models and paints.

    All calls but the first come from one event loop, which an engine must not block. An edge asks for one thing at a
    time, or where ``concurrency`` is more, paints so many at a time.

    Attributes:
        concurrency: How many paintings may be under way at a time.
        max_pictures: Most pictures that are made together.
        is_timed: Whether its pace is measured with pictures that nobody asked for: at the start, and when the edge has
            been idle for long.
        work_s: Time of 1 Gcycle until something has been measured, s.
    """

    concurrency: int = 1
    max_pictures: int = 1
    is_timed: bool = False
    work_s: float = 1.0

    @abstractmethod
    def start(self, models: Sequence[str], warmup_steps: int) -> Mapping[str, Started]:
        """Load the models that the edge starts with, and time each.

        Called once, before an event loop runs, and may take long.
        """

    @abstractmethod
    async def load(self, model: str) -> None:
        """Bring a model into memory, from that of the host if it is there."""

    @abstractmethod
    async def unload(self, model: str, to_host: bool) -> None:
        """Take a model out of memory, and that of the host, too, unless it is to stay there."""

    @abstractmethod
    async def paint(self, painting: Painting) -> tuple[tuple[bytes, ...], ...]:
        """Return the pictures of each job as PNG.

        When it is cancelled, the device is free again once it has raised ``CancelledError``.
        """

    def size_gb(self, model: str) -> float | None:
        """Memory that a loaded model takes, GB; None if that can not be told."""
        return None

    def host_load_s(self, model: str) -> float | None:
        """Time to load a model from the memory of the host, as far as that is known without having done it, s."""
        return None

    async def close(self) -> None:  # noqa: B027 - engines without anything to close need not say so
        """Give back what the engine holds."""
