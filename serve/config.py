# SPDX-License-Identifier: Apache-2.0
"""What a service is made of: models, edge servers, limits and the policy, as frozen data from a YAML file.

A config is a file shipped in ``serve/configs/`` and named by its stem (``demo``), or any path. Nothing here imports
Ray or diffusers, so a command line can check a config in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from edgegen.envs.core.errors import InputError, did_you_mean, from_validation
from edgegen.envs.core.fields import Flag, Frozen, Positive, Real, Seed, Whole
from edgegen.envs.core.kinds import DEFAULT_KIND, kind_named, kinds
from edgegen.envs.core.named_files import find_file
from edgegen.envs.core.yaml_files import read_mapping
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import Count, ModelCard, ModelConfig, card_of
from edgegen.serve.record.config import RecordConfig
from edgegen.serve.utility import Utility
from edgegen.serve.zoo.loading import UnknownModelError

CONFIG_FOLDER = Path(__file__).parent / "configs"
ROLES = ("router", "cacher", "allocator")
"""Roles that somebody may be named for, besides that of the service's kind."""
NOMINAL_CAPACITY_GCYCLES_S = 1.0
"""Stands for the capacity of an edge without slowdown until it has been measured."""

_ORIGIN = r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?)$"
_HOST = r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])$"


class ServiceConfig(Frozen):
    """The whole service.

    Attributes:
        name: How the service is called in reports.
        kind: Kind of world as which policies see the service; one that can be served.
        models: The models by name; the first is the default of requests.
        model_aliases: Other names under which requests may ask for models, with the names of these.
        edges: The edge servers, in the order in which a policy numbers them.
        policy: A rule by name, the folder of a trained policy, or a registered one as ``models:/NAME@ALIAS``; or one
            of these for each role, as ``router=POLICY cacher=OTHER``. See :mod:`edgegen.serve.kinds.cast`.
        explore: Sample from the policy's distribution instead of taking its most likely action.
        shadow: Another router that is asked besides about every request, and never obeyed.
        canary: Another router that decides for a share of the requests, until it falls behind or takes charge.
        canary_share: That share.
        canary_blocks: Blocks of the guard after which a canary that has not fallen behind takes charge; never if 0.
        guard: What it must not fall behind in: ``utility``, or ``delay`` alone.
        guard_block_s: Length of the guard's blocks of time, s.
        follow: A registered policy as ``models:/NAME@ALIAS``; each version that the alias points at becomes the canary,
            or takes charge at once where ``canary_blocks`` is 0. If left out, the alias in ``policy``, if there is one.
        follow_s: Time between two looks at the alias, s.
        decision_budget_s: Computing time that a decision may take, s.
        decision_strikes: Decisions in a row that may fail or be over budget before the policy rests.
        rest_s: How long it then rests, s; least work decides meanwhile.
        seed: Seed of the policy and, with the key of the request, of pictures whose request names no seed.
        gateways: Gateways, each a process with its own books and its own copy of the policy.
        gateways_per_node: Most gateways on one node of the cluster; as many as there are if left out.
        gateway_resources: Custom Ray resources of every gateway, to place them on certain nodes.
        fallback: What happens when the policy fails: the least expected completion time among the healthy servers,
            or ``none`` (status 503), for experiments in which a silent substitute would spoil the measurement.
        slot_s: Length of a slot of the live clock, s; a trained policy expects that of its scenario.
        frame_s: Time between two decisions of the cachers, s.
        utility: Worth and costs of requests.
        max_queue: Requests that may wait on an edge, besides the one being generated.
        max_wait_s: Longest time that a request may be expected to wait for its turn on an edge, s; no edge whose queue
            is longer gets it. One that finds an idle edge is always taken.
        keep_s: How long an edge keeps finished pictures, to be fetched or asked for again by the request's key, s.
        keep_mb: Most megabytes of pictures that an edge keeps; beyond that the oldest are dropped.
        deadline_s: Time from arrival to answer of requests that name none, s; only ``request_timeout_s`` if left out.
        ahead_s: Edges are given work for so long ahead, s; what is more waits at the gateways, in fair turns.
        max_held: Requests that may wait at each gateway for their turn.
        cors_origins: Origins whose pages browsers let ask the service, such as ``https://app.example.org``; ``*`` for
            all of them, where requests need keys.
        allowed_hosts: Names that the header ``Host`` of a request may have; any if left out.
        tls_certificate: Certificate of the service, PEM, for ``edgegen serve``; plain HTTP if left out.
        tls_key: Its private key, PEM.
        log_format: ``text``, or ``json`` for whatever a gateway logs; requests are logged as JSON anyway.
        traces_url: Where traces are sent, OTLP over HTTP; what the variables of OpenTelemetry say if left out.
        keys: File with the API keys of those who may ask; anybody may if left out.
        tenant_weights: Shares of certain users while there is more work than can be done; that of all others is 1.
        public_url: Address of the service as clients see it, for the addresses of pictures; that which a client used
            if left out.
        url_key_env: Environment variable with the key that these are signed with, where the service is started; a key
            that is drawn at the start if left out, so that they end with the service.
        max_prompt_chars: Longest prompt.
        max_pictures: Most pictures of one request.
        warmup_steps: Denoising steps of each of the three pictures that an edge is timed with at the start.
        request_timeout_s: Longest time from arrival to answer, s.
        report_period_s: Time between two state reports of an edge, s.
        report_timeout_s: How long an edge may take for a report, s. After the first that it misses it gets no new
            work, after the second it counts as unhealthy and its waiting requests move on.
        stall_timeout_s: An edge whose picture makes no progress for this long is restarted and its requests move on,
            s; half of ``request_timeout_s`` if left out, so that there is time to do them elsewhere.
        max_retries: How often a request whose edge was lost moves on to another one.
        receive_timeout_s: Longest time until a request has been received, from its first byte to its last, s.
        max_connections: Connections that each of Serve's proxies holds. For one more, the one that has been idle or
            unfinished for longest is closed.
        console: Whether gateways have a page for people at ``/``, and tell about the fleet and its latest requests.
        shutdown_grace_s: How long ``edgegen serve`` goes on with accepted requests once it is told to stop, s; new
            ones are refused meanwhile.
        record: Where every request is recorded, to learn from; nothing is if left out.
    """

    name: str = "service"
    kind: str = DEFAULT_KIND
    models: Annotated[dict[str, ModelConfig], Field(min_length=1)]
    model_aliases: dict[Annotated[str, Field(min_length=1)], str] = Field(default_factory=dict)
    edges: Annotated[tuple[EdgeConfig, ...], Field(min_length=1, max_length=256)]
    policy: Annotated[str, Field(min_length=1)] = "least-delay"
    explore: Flag = False
    shadow: Annotated[str, Field(min_length=1)] | None = None
    canary: Annotated[str, Field(min_length=1)] | None = None
    canary_share: Annotated[Positive, Field(le=0.5)] = 0.1
    canary_blocks: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    guard: Literal["utility", "delay"] = "utility"
    guard_block_s: Annotated[Real, Field(ge=1, le=86_400)] = 30.0
    follow: Annotated[str, Field(pattern=r"^models:/[^/@]+@[^/@]+$")] | None = None
    follow_s: Annotated[Real, Field(ge=1, le=86_400)] = 30.0
    decision_budget_s: Annotated[Positive, Field(le=60)] = 0.005
    decision_strikes: Annotated[Whole, Field(ge=1, le=1000)] = 5
    rest_s: Annotated[Real, Field(ge=0.1, le=86_400)] = 30.0
    seed: Seed = 0
    gateways: Annotated[Whole, Field(ge=1, le=64)] = 1
    gateways_per_node: Annotated[Whole, Field(ge=1, le=64)] | None = None
    gateway_resources: dict[str, Positive] = Field(default_factory=dict)
    fallback: Literal["least-work", "none"] = "least-work"
    slot_s: Positive = 1.0
    frame_s: Annotated[Real, Field(ge=0.1, le=86_400)] = 30.0
    utility: Utility = Utility()
    max_queue: Annotated[Whole, Field(ge=0, le=10_000)] = 16
    max_wait_s: Positive = 60.0
    keep_s: Annotated[Real, Field(ge=0, le=3600)] = 60.0
    keep_mb: Annotated[Real, Field(ge=0, le=100_000)] = 64.0
    deadline_s: Positive | None = None
    ahead_s: Positive = 5.0
    max_held: Annotated[Whole, Field(ge=0, le=100_000)] = 256
    cors_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = ()
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    tls_certificate: Annotated[str, Field(min_length=1)] | None = None
    tls_key: Annotated[str, Field(min_length=1)] | None = None
    log_format: Literal["text", "json"] = "text"
    traces_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    keys: Annotated[str, Field(min_length=1)] | None = None
    tenant_weights: dict[str, Positive] = Field(default_factory=dict)
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")] | None = None
    url_key_env: Annotated[str, Field(pattern=r"^[^\W\d]\w{0,99}$")] | None = None
    max_prompt_chars: Count = 300
    max_pictures: Annotated[Whole, Field(ge=1, le=100)] = 10
    warmup_steps: Annotated[Whole, Field(ge=1, le=100)] = 8
    request_timeout_s: Positive = 300.0
    report_period_s: Annotated[Real, Field(ge=0.05, le=60)] = 0.5
    report_timeout_s: Annotated[Real, Field(ge=0.1, le=600)] = 2.0
    stall_timeout_s: Positive | None = None
    max_retries: Annotated[Whole, Field(ge=0, le=100)] = 2
    receive_timeout_s: Annotated[Real, Field(ge=0.1, le=600)] = 10.0
    max_connections: Annotated[Whole, Field(ge=16, le=100_000)] = 512
    console: Flag = True
    shutdown_grace_s: Annotated[Real, Field(ge=0, le=3600)] = 20.0
    record: RecordConfig | None = None

    @field_validator("kind")
    @classmethod
    def _can_be_served(cls, kind: str) -> str:
        from edgegen.serve.kinds.registry import served, served_kinds  # imports this module

        if kind not in kinds():
            known = served_kinds()
            raise ValueError(f"it must be {' or '.join(known)}.{did_you_mean(kind, known)}")
        served(kind)
        return kind

    @field_validator("policy")
    @classmethod
    def _without_its_role(cls, policy: str, info: ValidationInfo) -> str:
        if "=" not in policy or "kind" not in info.data:
            return policy
        from edgegen.algorithms.core.catalog import split_roles  # only where it is needed: it imports more

        own = tuple(kind_named(info.data["kind"]).world.roles)
        parts = split_roles(policy, dict.fromkeys((*own, *ROLES)))
        # The one role of a kind need not be named.
        return parts[own[0]] if len(own) == 1 and set(parts) == set(own) else policy

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [edge.name for edge in self.edges]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"edges names '{name}' {names.count(name)} times; names must differ")
        for edge in self.edges:
            for model in edge.all_models:
                if model not in self.models:
                    known = ", ".join(self.models)
                    raise ValueError(f"edge '{edge.name}' holds model '{model}', but models only describes {known}")
        for alias, model in self.model_aliases.items():
            if alias in self.models:
                raise ValueError(f"model_aliases calls '{model}' '{alias}', but that is a model of its own")
            if model not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"model_aliases calls '{model}' '{alias}', but models only describes {known}")
        if "*" in self.cors_origins and self.keys is None:
            raise ValueError("cors_origins is '*', but then requests need keys, or every page could use the service")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together, or neither of them")
        clouds = [edge.name for edge in self.edges if edge.cloud]
        if len(clouds) > 1:
            raise ValueError(f"edges '{clouds[0]}' and '{clouds[1]}' are both the cloud, but there is one at most")
        if len(clouds) == len(self.edges):
            raise ValueError(f"edge '{clouds[0]}' is the cloud, but there must be an edge that is not")
        for model in self.models:
            if all(model not in edge.all_models for edge in self.edges):
                raise ValueError(f"models describes '{model}', but no edge holds it")
        if self.deadline_s is not None and self.deadline_s > self.request_timeout_s:
            raise ValueError(
                f"deadline_s is {self.deadline_s:g}, but must not exceed request_timeout_s ({self.request_timeout_s:g})"
            )
        if self.stall_timeout_s is not None and self.stall_timeout_s >= self.request_timeout_s:
            raise ValueError(
                f"stall_timeout_s is {self.stall_timeout_s:g}, but must be less than request_timeout_s "
                f"({self.request_timeout_s:g}), or every request to an edge that hangs would time out"
            )
        return self

    @property
    def homes(self) -> tuple[str, ...]:
        """Edges that requests arrive at: all but the cloud."""
        return tuple(edge.name for edge in self.edges if edge.cloud is None)

    @property
    def promise_s(self) -> float:
        """Promised delay of a request that says nothing of it, s."""
        return self.request_timeout_s if self.deadline_s is None else self.deadline_s

    @property
    def stalled_after_s(self) -> float:
        """Time without progress after which an edge counts as hung, s."""
        return self.request_timeout_s / 2 if self.stall_timeout_s is None else self.stall_timeout_s

    def cards(self) -> dict[str, ModelCard]:
        """Return the models with open values filled in from their own cards.

        Raises:
            InputError: If the card of a model can not be read.
        """
        cards = {}
        for name, model in self.models.items():
            try:
                cards[name] = card_of(name, model)
            except UnknownModelError as error:
                raise InputError(f"Service config '{self.name}': {error}.") from None
        return cards

    def capacities_gcycles_s(self, measured_gcycles_s: Mapping[str, float] | None = None) -> tuple[float, ...]:
        """Return the capacities of the edges, Gcycle/s.

        Args:
            measured_gcycles_s: Capacities by edge name, Gcycle/s. An edge whose capacity is ``measured`` and is not
                named here gets a nominal one, in proportion to its speed.
        """
        measured = measured_gcycles_s or {}
        return tuple(
            measured.get(edge.name, NOMINAL_CAPACITY_GCYCLES_S * edge.speed / edge.slowdown)
            if edge.capacity_gcycles_s == "measured"
            else edge.capacity_gcycles_s
            for edge in self.edges
        )


def load_config(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> ServiceConfig:
    """Load a shipped config by name, or a config file by path.

    Args:
        name_or_path: ``demo``, or the path of a ``.yaml`` file.
        overrides: Values that replace top-level fields, for example ``{"policy": "local"}``.

    Raises:
        InputError: If there is no such config, or a field or value is impossible.
    """
    path = find_file(str(name_or_path), CONFIG_FOLDER, "service config")
    data = read_mapping(path, "Service config")
    data.setdefault("name", path.stem)
    return build_config({**data, **(overrides or {})})


def build_config(data: Mapping[str, Any]) -> ServiceConfig:
    """Validate plain data as a config.

    Raises:
        InputError: If a field is unknown or missing, or a value is impossible.
    """
    try:
        return ServiceConfig.model_validate(dict(data))
    except ValidationError as error:
        place = error.errors(include_url=False)[0]["loc"]
        parts: dict[str, Iterable[str]] = {
            "edges": EdgeConfig.model_fields,
            "models": ModelConfig.model_fields,
            "utility": Utility.model_fields,
            "record": RecordConfig.model_fields,
        }
        known = parts.get(str(place[0]), ()) if len(place) > 1 else ServiceConfig.model_fields
        raise from_validation(error, f"Service config '{data.get('name', '?')}'", known) from None
