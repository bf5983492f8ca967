# SPDX-License-Identifier: Apache-2.0
"""What travels between the gateway and the edges: a job, its pictures, a state report, and what can go wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgegen.envs.core.records import RESIDENT

LOAD = "load "
"""Beginning of the names of loads that belong to no job, in reports; before the model."""
LEASE = "lease "
"""Beginning of the ids of jobs that somebody else does on the device of an edge."""


@dataclass(frozen=True)
class Delivery:
    """How pictures are handed over; what they show is the same.

    Attributes:
        output_format: ``png``, ``jpeg`` or ``webp``.
        output_compression: Of the latter two, from 0 (small) to 100 (good).
        quality: Grade of quality that was asked for; None if none was.
        links: Whether their addresses are told, and not they themselves.
    """

    output_format: str = "png"
    output_compression: int = 100
    quality: str | None = None
    links: bool = False


@dataclass(frozen=True)
class Sending:
    """How a request was sent to a gateway.

    Attributes:
        name: What the proxy in front of the gateways calls it; empty if nobody says.
        number: How often it has been sent, this time included. Whoever sends it again has seen the gateway die that had
            it before.
    """

    name: str = ""
    number: int = 1


FIRST = Sending()
"""A request that was not sent before."""


@dataclass(frozen=True)
class Job:
    """Pictures to generate. Equal jobs give equal pictures, so a job may be done again elsewhere.

    Attributes:
        id: Unique name of this attempt.
        prompt: What to paint.
        negative_prompt: What not to paint, or None.
        steps: Denoising steps per picture.
        guidance_scale: Classifier-free guidance scale.
        width: Picture width, pixels.
        height: Picture height, pixels.
        seeds: One seed per picture.
        workload_gcycles: Work of all pictures together, Gcycle.
        model: The model that paints them; the edge's only one if empty.
        least_steps: Fewest steps that the edge's allocator may choose; exactly ``steps`` if None.
        left_s: Time until the promised end, as it is sent, s.
        weight: Worth of the request.
        home: The edge that it arrived at.
        mean_backlog_s: Mean backlog of all edges, as the router knew it, s.
        key: Name of the request, whatever attempt this is; pictures can be fetched by it for a while.
        alias: Another name of the request, by which pictures can be fetched, too.
        delivery: How its pictures are handed over.
        previews: Pictures of what it will be that are shown on the way, for each picture.
        sending: How its request was sent to the gateway that it comes from.
    """

    id: str
    prompt: str
    negative_prompt: str | None
    steps: int
    guidance_scale: float
    width: int
    height: int
    seeds: tuple[int, ...]
    workload_gcycles: float
    model: str = ""
    least_steps: int | None = None
    left_s: float = math.inf
    weight: float = 1.0
    home: str = ""
    mean_backlog_s: float = 0.0
    key: str | None = None
    alias: str | None = None
    delivery: Delivery = Delivery()
    previews: int = 0
    sending: Sending = FIRST


def same_pictures(one: Job, other: Job) -> bool:
    """Whether two jobs ask for the same pictures, however and whenever they are sent."""
    return _asked(one) == _asked(other)


def _asked(job: Job) -> tuple[object, ...]:
    return (
        job.model,
        job.prompt,
        job.negative_prompt,
        job.steps,
        job.guidance_scale,
        job.width,
        job.height,
        job.seeds,
    )


@dataclass(frozen=True)
class Pictures:
    """The outcome of a job.

    Attributes:
        png: One encoded picture per seed.
        queue_s: Time it waited on the edge, s.
        generation_s: Time it was being generated, encoding included, s.
        steps: Denoising steps of each picture; those of the job if None.
        load_s: Time that it waited for its model to be loaded, part of neither, s.
        load_source: Where its model was when its turn came: ``resident`` in the edge's memory, in that of its ``host``,
            or elsewhere, ``disk``.
    """

    png: tuple[bytes, ...]
    queue_s: float
    generation_s: float
    steps: int | None = None
    load_s: float = 0.0
    load_source: str = RESIDENT


@dataclass(frozen=True)
class Preview:
    """What a picture will be, seen on the way.

    Attributes:
        picture: Number of the picture in its job.
        index: Number of the preview of this picture.
        step: Denoising steps that were done.
        steps: Denoising steps of the whole picture.
        png: The preview, which may be smaller than the picture.
    """

    picture: int
    index: int
    step: int
    steps: int
    png: bytes


def preview_steps(steps: int, previews: int) -> tuple[int, ...]:
    """Return the steps after which a picture is shown: evenly spread, and not at the end, where it is finished.

    Args:
        steps: Denoising steps of the picture.
        previews: How often it is to be shown; less often if it has few steps.
    """
    places = (round(steps * (index + 1) / (previews + 1)) for index in range(previews))
    return tuple(sorted({place for place in places if 0 < place < steps}))


@dataclass(frozen=True)
class Glimpse:
    """What an edge shows of a job.

    Attributes:
        previews: Those that had not been seen, in order.
        done: Whether there will be no more of them.
        step: Steps that are done of all its pictures together; None before it is begun.
        steps: Steps of all its pictures together.
    """

    previews: tuple[Preview, ...] = ()
    done: bool = False
    step: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Lease:
    """What an edge expects of work that somebody else does there.

    Attributes:
        steps: Denoising steps of each picture.
        wait_s: Time until it is begun, s.
        load_s: Time to load its model, s.
        generation_s: Time of its pictures, s.
        expires_s: Time after which it is forgotten if nobody gives it back, s.
    """

    steps: int
    wait_s: float
    load_s: float
    generation_s: float
    expires_s: float


@dataclass(frozen=True)
class Kept:
    """A request that an edge knows by its name.

    Attributes:
        server: The edge.
        job: The request.
        pictures: Its pictures; None while they are being made or wait for it.
    """

    server: str
    job: Job
    pictures: Pictures | None


@dataclass(frozen=True)
class EdgeReport:
    """State of an edge server.

    Attributes:
        name: The edge.
        pid: Process that serves it; another one after a restart.
        remaining_gcycles: Jobs admitted and not finished, in order of service, with the work left of each, and loads
            with what the edge could do in their time, Gcycle.
        steps_left: Denoising steps left of the job being generated.
        stalled_s: Time since that job last made progress, s; 0 if there is none.
        capacity_gcycles_s: Computing capacity, configured or measured, Gcycle/s.
        step_s: Running mean time per denoising step, s, slowdown and share of encoding included.
        pictures: Pictures generated since the start.
        last_error: The latest failure, or None.
        resident: Models in its memory; None where it holds one, always.
        load_s: Expected time to load each model that it may hold, s.
        expected: Models that will be in its memory when its queue is done; None if nobody can say.
        loading_s: Time that loads have part in what remains, s.
    """

    name: str
    pid: int
    remaining_gcycles: tuple[tuple[str, float], ...]
    steps_left: int
    stalled_s: float
    capacity_gcycles_s: float
    step_s: float
    pictures: int
    last_error: str | None
    resident: tuple[str, ...] | None = None
    load_s: tuple[tuple[str, float], ...] = ()
    expected: tuple[str, ...] | None = None
    loading_s: float = 0.0


class EdgeError(Exception):
    """An edge did not do a job."""


class EdgeLostError(EdgeError):
    """The edge died or can not be reached; the job may be done elsewhere."""


class EdgeFullError(EdgeError):
    """The edge's queue is full."""


class GenerationError(EdgeError):
    """The pipeline raised; the edge itself lives on."""


class OvertakenError(EdgeError):
    """The request has been sent to another gateway since, because the one that this job comes from died."""


class KeyReusedError(Exception):
    """The key of a job names another one."""
