"""The edge servers of a service, as its config describes them."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from edgegen.envs.core.fields import LEAST, MOST, Frozen, NonNegative, Positive, Real, Whole

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""What an edge or a site may be called."""


Name = Annotated[str, Field(min_length=1)]


def _capacity(value: object) -> float | Literal["measured"]:
    # A plain union would put pydantic's branch names into the message.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "measured":
        return "measured"
    if not number or not LEAST <= value <= MOST:  # type: ignore[operator]
        raise ValueError(f"it must be 'measured' or a positive number of Gcycle/s, from {LEAST:g} to {MOST:g}")
    return float(value)  # type: ignore[arg-type]


class CloudConfig(Frozen):
    """What is different about an edge that is the cloud: everything is there, and it costs.

    Attributes:
        distance_s: The way there and back, s.
        price: Price of a request there, in utility.
        price_per_work_s: Price of a second of work there, counted at speed 1, in utility.
    """

    distance_s: NonNegative = 0.0
    price: NonNegative = 0.1
    price_per_work_s: NonNegative = 0.0


class EdgeConfig(Frozen):
    """One edge server.

    Attributes:
        name: Name in requests, answers and logs.
        model: The model it holds, where it holds one.
        models: The models it may hold, where they are several; as many at a time as ``memory_gb`` has room for.
        memory_gb: Memory for models, GB; room for all of its models if left out.
        host_memory_gb: Memory of the host for models that had to leave that of the edge, GB; of edges of one site each
            has its share. Only where the edge's memory is another one: with a GPU, or emulated.
        pinned: Models that it never drops.
        site: The place it is at. Edges of one site share its links; its own if left out.
        engine: What makes the pictures: a ``diffusers`` pipeline on this device, a ``remote`` service with the images
            API of OpenAI, or an ``emulated`` one that takes the time of a measured profile and paints nothing.
        cloud: Its prices, if it is the cloud: for policies it has all models and no queue, and is no request's home.
        capacity_gcycles_s: Computing capacity, Gcycle/s, or ``measured``: timed at the start and tracked from then on.
        rate_mbit_s: Transmission rate towards it that the policy reckons with, Mbit/s; no traffic is shaped.
        slowdown: Emulates slower hardware: after every denoising step the edge waits until this many times the
            step's own duration have passed.
        device: Torch device of the pipeline.
        threads: CPU threads of the pipeline.
        num_cpus: Share of CPUs that Ray reserves; small, so that a demo fits on a laptop.
        num_gpus: Share of GPUs that Ray reserves.
        resources: Custom Ray resources, to place the edge on a certain node.
    """

    name: Annotated[str, Field(pattern=NAME)]
    model: Name | None = None
    models: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)] | None = None
    memory_gb: Positive | None = None
    host_memory_gb: NonNegative = 0.0
    pinned: tuple[str, ...] = ()
    site: Annotated[str, Field(pattern=NAME)] | None = None
    engine: Literal["diffusers", "remote", "emulated"] = "diffusers"
    cloud: CloudConfig | None = None
    capacity_gcycles_s: Annotated[float | Literal["measured"], PlainValidator(_capacity)] = "measured"
    rate_mbit_s: Positive = 450.0
    slowdown: Annotated[Real, Field(ge=1, le=1000)] = 1.0
    device: str = "cpu"
    threads: Annotated[Whole, Field(ge=1, le=512)] = 1
    num_cpus: NonNegative = 0.2
    num_gpus: NonNegative = 0.0
    resources: dict[str, Positive] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.models is None):
            both = "both model and models" if self.model else "neither model nor models"
            raise ValueError(f"edge '{self.name}' has {both}, but needs one of the two")
        for name in self.all_models:
            if self.all_models.count(name) > 1:
                raise ValueError(f"models of edge '{self.name}' names '{name}' more than once; names must differ")
        for name in self.pinned:
            if name not in self.all_models:
                raise ValueError(f"edge '{self.name}' pins '{name}', which is none of its models")
        if self.host_memory_gb and self.engine == "diffusers" and self.device.startswith("cpu"):
            raise ValueError(
                f"edge '{self.name}' has host_memory_gb, but its device is {self.device}, whose memory is the host's"
            )
        return self

    @property
    def models_gb(self) -> float:
        """Memory for models, GB; without a bound if none was given."""
        return math.inf if self.memory_gb is None else self.memory_gb

    @property
    def all_models(self) -> tuple[str, ...]:
        """The models that it may hold."""
        return (self.model,) if self.model is not None else self.models or ()
