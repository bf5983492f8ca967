# SPDX-License-Identifier: Apache-2.0
"""The edge servers of a service, as its config describes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from edgegen.envs.core.fields import LEAST, MOST, Flag, Frozen, NonNegative, Positive, Real, Whole

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


def _plain(value: object) -> str | bool | int | float:
    # A plain union would put pydantic's branch names into the message.
    if isinstance(value, str | bool) or (isinstance(value, int | float) and abs(value) <= MOST):
        return value
    raise ValueError(f"it must be a text, a truth value or a number, from {-MOST:g} to {MOST:g}")


Values = dict[str, Annotated[str | bool | int | float, PlainValidator(_plain)]]


def _default_fields() -> Values:
    return {"response_format": "b64_json"}


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


OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("device", "threads", "slowdown", "dtype", "offload", "safetensors_only"), ("diffusers",)),
    **dict.fromkeys(("max_batch", "memory_gb", "host_memory_gb", "pinned"), ("diffusers", "emulated")),
    "speed": ("emulated",),
    **dict.fromkeys(("concurrency", "process"), ("remote", "emulated")),
    **dict.fromkeys(("url", "api_key_env", "model_names", "timeout_s", "extensions", "streams", "fields"), ("remote",)),
}
"""Options that only some engines have, with these engines."""


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
        dtype: Number format of the weights of the pipeline.
        offload: What of a pipeline waits in the memory of the host: nothing, whole models that are not in use, or all
            but the layer in use.
        safetensors_only: Whether weights in other forms, which may bring code along, are refused.
        max_batch: Most pictures that are made together, of one request or of several that stand in a row.
        speed: Speed of an emulated edge, as a multiple of that of the profile.
        url: The service that a remote edge asks.
        api_key_env: Name of the environment variable with the key for it.
        model_names: What it calls models, by the name that they have here.
        concurrency: Requests that are done side by side, by a remote or an emulated edge; all models are there then.
        timeout_s: How long it may take for a request, s.
        extensions: Whether it takes steps, guidance, seeds and negative prompts, as this service does.
        streams: Whether it shows previews, in streams as the API has them; each picture is then a request of its own.
        fields: What else is sent with each request.
        process: Name of the process that it shares with others which give the same; one of its own if left out. Only
            edges that make no pictures themselves can share.
        num_cpus: Share of CPUs that Ray reserves; small, so that a demo fits on a laptop. Of edges that share a process
            the most counts, of GPUs and other resources likewise.
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
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    offload: Literal["none", "model", "sequential"] = "none"
    safetensors_only: Flag = True
    max_batch: Annotated[Whole, Field(ge=1, le=100)] = 1
    speed: Positive = 1.0
    url: str | None = None
    api_key_env: Annotated[str, Field(pattern=r"^[^\W\d]\w{0,99}$")] | None = None
    model_names: dict[str, Name] = Field(default_factory=dict)
    concurrency: Annotated[Whole, Field(ge=1, le=1000)] = 1
    timeout_s: Annotated[Positive, Field(le=86_400)] = 120.0
    extensions: Flag = False
    streams: Flag = False
    fields: Values = Field(default_factory=_default_fields)
    process: Annotated[str, Field(pattern=NAME)] | None = None
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
        for option, engines in OWNERS.items():
            usual = type(self).model_fields[option].get_default(call_default_factory=True)
            if getattr(self, option) != usual and self.engine not in engines:
                which = " or ".join(engines)
                raise ValueError(
                    f"edge '{self.name}' has the engine {self.engine}, but {option} is an option of {which}"
                )
        if self.concurrency > 1 and self.memory_gb is not None:
            raise ValueError(f"edge '{self.name}' has both concurrency and memory_gb, but what is in use can not go")
        if self.engine == "remote" and not self.url:
            raise ValueError(f"edge '{self.name}' has the engine remote, which needs a url")
        for name in self.model_names:
            if name not in self.all_models:
                raise ValueError(f"model_names of edge '{self.name}' names '{name}', which is none of its models")
        for name in self.pinned:
            if name not in self.all_models:
                raise ValueError(f"edge '{self.name}' pins '{name}', which is none of its models")
        beside = {"host_memory_gb": self.host_memory_gb, "offload": self.offload != "none"}
        for option, given in beside.items():
            if given and self.engine == "diffusers" and self.device.startswith("cpu"):
                raise ValueError(
                    f"edge '{self.name}' has {option}, but its device is {self.device}, whose memory is the host's"
                )
        if all(beside.values()):
            raise ValueError(f"edge '{self.name}' has both host_memory_gb and offload, but offload is in that memory")
        return self

    @property
    def shows_previews(self) -> bool:
        """Whether it shows what pictures will be while they are made."""
        return self.engine != "remote" or self.streams

    @property
    def deployment(self) -> str:
        """Name of the deployment that it is in."""
        return self.process or self.name

    @property
    def models_gb(self) -> float:
        """Memory for models, GB; without a bound if none was given."""
        return math.inf if self.memory_gb is None else self.memory_gb

    @property
    def all_models(self) -> tuple[str, ...]:
        """The models that it may hold."""
        return (self.model,) if self.model is not None else self.models or ()


def reserved(edges: Sequence[EdgeConfig]) -> dict[str, dict[str, float]]:
    """Return what Ray reserves for each deployment of edges, by resource; edges that share one need it once.

    Args:
        edges: The edges.
    """
    found: dict[str, dict[str, float]] = {}
    for edge in edges:
        amounts = found.setdefault(edge.deployment, {})
        for name, amount in {"CPU": edge.num_cpus, "GPU": edge.num_gpus, **edge.resources}.items():
            amounts[name] = max(amounts.get(name, 0.0), amount)
    return found
