# SPDX-License-Identifier: Apache-2.0
"""A gateway: takes requests in, schedules them, and knows the state of everything. The scheduler is inside it.

A service may have several. Each keeps books of its own, and what the others have sent to an edge it learns from the
reports of that edge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import did_you_mean, from_validation
from edgegen.serve.config import ServiceConfig
from edgegen.serve.console.watch import Watch
from edgegen.serve.control.admission import Terms
from edgegen.serve.control.contact import Edge
from edgegen.serve.control.dispatcher import Dispatcher, Outcome
from edgegen.serve.control.frames import Frames
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.leasing import Leasing
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Scheduler
from edgegen.serve.control.slots import Slots
from edgegen.serve.http.api import ImageResponse, respond
from edgegen.serve.http.caller import Caller
from edgegen.serve.http.described import describe_edge, describe_model, renamed
from edgegen.serve.http.errors import NotFoundError, short
from edgegen.serve.http.intake import Intake, parse_request
from edgegen.serve.http.keys import KeyRing, grant_of_request
from edgegen.serve.http.links import Links, url_key
from edgegen.serve.http.pictures import MEDIA_TYPES, recoded
from edgegen.serve.http.schedule import Scheduling
from edgegen.serve.http.streaming import Stream
from edgegen.serve.image_request import PRIORITIES, ImageRequest, request_schema
from edgegen.serve.kinds.cast import ALLOCATOR, CACHER, ROUTER
from edgegen.serve.kinds.changing import Changing, Orders
from edgegen.serve.kinds.facts import open_books
from edgegen.serve.kinds.worth import Worth
from edgegen.serve.metrics import Meter, Meters
from edgegen.serve.record.recorder import Recorder
from edgegen.serve.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class Gateway:
    """Answers requests with the edges it is given.

    Args:
        config: The service.
        policy: Decides where requests go; runs in this process.
        edges: The edges by name.
        meter: Is told what happens; records nothing if None.
        clock: Monotonic time, s.
        cacher: Says what edges keep, if not they themselves; runs in this process.
        key: What addresses of pictures are signed with, the same for all gateways; one of its own if None.
        tracing: Makes spans; what config and environment say if None.

    Attributes:
        receive_timeout_s: Longest time until the body of a request has been received, s.
        config: The service.
        keys: Who may ask; anybody if None.
        telemetry: What it tells of itself.
        recorder: Notes what becomes of requests.
        watch: Shows people what happens; None if nobody is to see it.

    Raises:
        InputError: If the file with the keys can not be used, or traces are wanted and can not be made.
    """

    def __init__(
        self,
        config: ServiceConfig,
        policy: Policy,
        edges: Mapping[str, Edge],
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        cacher: Policy | None = None,
        key: bytes | None = None,
        tracing: TracerProvider | None = None,
    ) -> None:
        servers = open_books(config)
        ledger = servers[0].ledger
        assert ledger is not None
        worth = Worth(config, ledger, config.guard)
        self.changing = Changing(config, servers, clock)
        parts = self.changing.parts
        seat = self.changing.seat(parts[ROUTER], policy)
        slots = Slots(seat, worth.expect, config.guard_block_s, config.canary_blocks)
        self.scheduler = Scheduler(
            slots,
            fallback=config.fallback == "least-work",
            max_wait_s=config.max_wait_s,
            worth=worth,
            seed=config.seed,
        )
        self._servers, self._clock = servers, clock
        self.receive_timeout_s = config.receive_timeout_s
        self.config = config
        self.keys = None if config.keys is None else KeyRing(config.keys, config.gateways, config.model_aliases, clock)
        self._keep_s = config.keep_s
        self._showing = {edge.name for edge in config.edges if edge.shows_previews}
        self._deadline_s = config.deadline_s
        self._cards = config.cards()
        self._aliases, self._public_url = config.model_aliases, config.public_url
        self._intake = Intake(config, self._cards)
        self._links = Links(url_key(config) if key is None else key, config.keep_s)
        self.recorder = Recorder(config.record, clock)
        self.telemetry = Telemetry(config, meter, self._tell, tracing)
        self._meter = self.telemetry.meter
        self.watch: Watch | None = None
        if config.console:
            self.watch = Watch(servers, self._overview, self._held, self.recorder, clock)
            self._meter = Meters(self._meter, self.watch)
        self._dispatcher = Dispatcher(config, self.scheduler, edges, self._meter, clock, self.recorder)
        self.scheduling = Scheduling(config, self._cards, self._intake, Leasing(self.scheduler, edges, self._meter))
        caching = None if cacher is None else self.changing.caching(parts[CACHER], cacher)
        self._frames = Frames(*(ledger, edges, config.frame_s, caching), each=self._tell)
        self.changing.take_over(slots, self._frames)

    def _tell(self) -> None:
        """Tell the meter how things are."""
        slots = self.scheduler.slots
        self._meter.policies(slots.incumbent.label, slots.state(self._clock()))
        self._meter.requests(self._dispatcher.under_way())
        if self.keys is not None:
            self._meter.keys(len(self.keys), self.keys.error is None)

    def warm_up(self) -> None:
        """Let policies decide about a request and a frame that are none: first decisions take longer than others.

        Raises:
            InputError: If it fails.
        """
        self.scheduler.slots.incumbent.try_out(self._servers)
        if self._frames.caching is not None:
            self._frames.caching.try_out()

    async def start(self) -> None:
        """Make contact with the edges, and begin the first frame."""
        self.recorder.start()
        await self._dispatcher.start()
        await self._frames.start()
        await self.changing.start()
        if self.watch is not None:
            await self.watch.start()

    async def stop(self) -> None:
        """Break off contact."""
        if self.watch is not None:
            await self.watch.stop()
        await self.changing.stop()
        await self._frames.stop()
        await self._dispatcher.stop()
        await asyncio.to_thread(self.recorder.stop)
        await self.telemetry.stop()

    async def obey(self, orders: Mapping[str, Any]) -> str | None:
        """Change policies as an operator orders it; see :class:`Orders`.

        Returns:
            Why something was refused, in one sentence; None if nothing was.
        """
        try:
            checked = Orders.model_validate(dict(orders))
        except ValidationError as error:
            self.changing.last_refusal = str(from_validation(error, "Orders", Orders.model_fields))
            return self.changing.last_refusal
        return await self.changing.obey(checked)

    @property
    def ready(self) -> bool:
        """Whether requests can be sent here: the service is not about to end, and an edge is there."""
        return not self._dispatcher.stopping and any(server.healthy for server in self.scheduler.servers.values())

    async def drain(self, grace_s: float) -> None:
        """Refuse new requests, and finish those that were accepted.

        Args:
            grace_s: How long that may take, s; then they are refused, too.
        """
        if self.watch is not None:
            self.watch.viewers.close()
        await self._dispatcher.drain(grace_s)

    def parse(self, body: bytes) -> ImageRequest:
        """Read the body of a request.

        Raises:
            RequestError: If it is none that this service takes.
        """
        return parse_request(body, self._intake.request_model)

    def request_schema(self) -> dict[str, Any]:
        """The JSON schema of the bodies that this service takes."""
        return request_schema(self._intake.request_model, self._cards, self._aliases)

    async def generate(self, request: ImageRequest, caller: Caller) -> ImageResponse:
        """Serve a request.

        Args:
            request: As :meth:`parse` returned it.
            caller: Who sends it, and how it is named.

        Raises:
            ServiceError: If it can not be served.
        """
        task, job, terms = self._admit(request, caller)
        outcome = await self._dispatcher.run(task, job, terms)
        return await self._respond(job, outcome, request.ignored(), caller.base_url)

    async def stream(self, request: ImageRequest, caller: Caller) -> Stream:
        """Serve a request whose answer is a stream; return it once the request is not refused.

        Args:
            request: As :meth:`parse` returned it.
            caller: Who sends it, and how it is named.

        Raises:
            ServiceError: If it can not be served.
        """
        task, job, terms = self._admit(request, caller)
        card, ignored = self._cards[job.model], request.ignored()
        stream = Stream(self._dispatcher, task, job, terms, card, ignored, bool(request.progress))
        await stream.accepted()
        return stream

    def _admit(self, request: ImageRequest, caller: Caller) -> tuple[Task, Job, Terms]:
        task, job = self._intake.admit(request, caller)
        grant = grant_of_request()
        if grant is not None:
            grant.admit(task.model, len(job.seeds), task.workload_gcycles)
        terms = Terms(
            # Whoever has a key can not give himself more turns by giving himself more names.
            tenant=request.tenant or caller.account if grant is None else grant.key.name,
            share=None if grant is None else grant.key.weight,
            priority=PRIORITIES.index(request.priority or "normal"),
            deadline_s=request.deadline_s or self._deadline_s,
            age_s=caller.age_s,
            lasting=caller.lasting,
            known=caller.known,
            request_id=caller.request_id,
            account=caller.account,
        )
        return task, job, terms

    async def fetch(self, name: str, base_url: str = "") -> ImageResponse | None:
        """Return the answer to an earlier request by its scoped key or id; None if it is still under way.

        Args:
            name: The key or id.
            base_url: Address of the service, as the client sees it.

        Raises:
            NotFoundError: If nobody knows it, or no more.
        """
        kept = await self._dispatcher.find(name)
        if kept is None:
            raise NotFoundError(
                "There are no pictures of this request: it was never accepted, it failed, or it was finished more than "
                f"{self._keep_s:g} s ago.",
                "request_id",
                "request_not_found",
            )
        if kept.pictures is None:
            return None
        total_s = kept.pictures.queue_s + kept.pictures.generation_s
        outcome = Outcome(kept.pictures, kept.server, 0.0, total_s, None)
        return await self._respond(kept.job, outcome, [], base_url)

    async def _respond(self, job: Job, outcome: Outcome, ignored: list[str], base_url: str) -> ImageResponse:
        address = self._public_url or base_url
        return await respond(job, outcome, ignored, self._cards[job.model], self._links, address)

    async def picture(self, name: str, file: str, expires: str, signature: str) -> tuple[bytes, str]:
        """Return a picture by the parts of its address, and its media type; see :meth:`Links.check`.

        Raises:
            ForbiddenError: If the address is not signed.
            GoneError: If it is not good any more.
            NotFoundError: If the picture is not kept any more.
        """
        link = self._links.check(name, file, expires, signature)
        kept = await self._dispatcher.find(link.name)
        if kept is None or kept.pictures is None or link.number >= len(kept.pictures.png):
            raise NotFoundError("This picture is not kept any more.", code="picture_not_found")
        png, compression = kept.pictures.png[link.number], kept.job.delivery.output_compression
        return await asyncio.to_thread(recoded, png, link.output_format, compression), MEDIA_TYPES[link.output_format]

    def models(self) -> list[dict[str, Any]]:
        """Describe the models, in the shape of the OpenAI API with an ``edgegen`` part; other names come last.

        A request with a key gets those that the key may use.
        """
        servers, allowed = self.scheduler.servers.values(), self._allowed()
        own = {name: describe_model(card, servers) for name, card in self._cards.items() if name in allowed}
        others = [renamed(own[model], alias) for alias, model in self._aliases.items() if model in own]
        return [*own.values(), *others]

    def model(self, name: str) -> dict[str, Any]:
        """Describe one model, as :meth:`models` does.

        Args:
            name: Its own name or another one.

        Raises:
            NotAllowedError: If the key of the request may not use it.
            NotFoundError: If there is none.
        """
        own, grant = self._aliases.get(name, name), grant_of_request()
        if own in self._cards and grant is not None:
            grant.check(own)
        known = {card["id"]: card for card in self.models()}
        if name not in known:
            message = f"There is no model {short(name)!r}; this service has {', '.join(known)}."
            raise NotFoundError(message + did_you_mean(name, known), "model", "model_not_found")
        return known[name]

    def edges(self) -> list[dict[str, Any]]:
        """Describe the state of every edge; to a request with a key, of those with a model that the key may use."""
        backlog, allowed = self.scheduler.backlog_gcycles(), self._allowed()
        return [
            describe_edge(server, backlog[server.name], server.name in self._showing, allowed)
            for server in self.scheduler.servers.values()
            if not allowed.isdisjoint(server.models)
        ]

    def _allowed(self) -> frozenset[str]:
        """The models that the key of a request may use; all where it has none."""
        grant = grant_of_request()
        return frozenset(name for name in self._cards if grant is None or grant.allows(name))

    def policies(self) -> dict[str, str | None]:
        """Tell who decides for which role, as config or order name it; None where edges see to it themselves."""
        cacher = self._frames.caching
        allocator = self.changing.parts.get(ALLOCATOR)
        return {
            ROUTER: self.scheduler.slots.incumbent.label,
            CACHER: None if cacher is None else cacher.label,
            ALLOCATOR: None if allocator is None else allocator.name,
        }

    def health(self) -> dict[str, Any]:
        """Tell how well the service can answer: ``ok``, ``degraded`` or ``unavailable``, and why."""
        scheduler = self.scheduler
        servers = scheduler.servers.values()
        if self._dispatcher.stopping or not any(server.healthy for server in servers):
            status = "unavailable"
        elif scheduler.policy_healthy and all(server.healthy for server in servers):
            status = "ok"
        else:
            status = "degraded"
        keys = None
        if self.keys is not None:
            self.keys.look()
            keys = self.keys.state()
            status = "degraded" if status == "ok" and self.keys.error is not None else status
        return {
            "status": status,
            "stopping": self._dispatcher.stopping,
            "waiting": self._dispatcher.admission.held,
            "policy": {
                "name": scheduler.policy.name,
                "label": scheduler.slots.incumbent.label,
                "healthy": scheduler.policy_healthy,
                "decisions": scheduler.decisions,
                "failures": scheduler.policy_failures,
                "fallbacks": scheduler.fallbacks,
                "last_failure": scheduler.last_policy_failure,
                "late": scheduler.slots.incumbent.late,
                **scheduler.slots.state(self._clock()),
                **self.changing.state(),
            },
            "cacher": self._frames.state(),
            "keys": keys,
            "record": self.recorder.state(),
            "edges": {server.name: {"healthy": server.healthy, "reason": server.reason} for server in servers},
        }

    def _held(self) -> int:
        """Requests that wait for their turn."""
        return self._dispatcher.admission.held

    def _overview(self) -> dict[str, Any]:
        """Describe everything but the edges: :meth:`health`, and who decides for which role."""
        return {name: part for name, part in self.health().items() if name != "edges"} | {"policies": self.policies()}
