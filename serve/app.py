# SPDX-License-Identifier: Apache-2.0
"""The application: one deployment for every edge and the gateway in front, made from a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import as_path
from edgegen.serve.config import ServiceConfig, build_config, load_config
from edgegen.serve.edge.checks import check_edges
from edgegen.serve.edge.handle import EdgeHandle
from edgegen.serve.edge.house import EdgeHouse
from edgegen.serve.edge_config import reserved
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.links import url_key
from edgegen.serve.http.web import create_app
from edgegen.serve.kinds.cast import CACHER, ROUTER, allocators, following, lasting, make_parts, parts_of
from edgegen.serve.request_log import log_to_stdout
from edgegen.serve.telemetry.instruments import RayInstruments
from edgegen.serve.telemetry.measured import Measured
from edgegen.serve.zoo.loading import INDEX_FILE, model_folder

APP_NAME = "edgegen"
GATEWAY = "gateway"
SPARE_REQUESTS = 1024
"""Requests beyond all queues that a gateway takes at a time: those that it refuses at once, state queries, and, where
nothing stands in front of it, bodies on their way."""
SPARE_CALLS = 8
"""Calls beyond its queue that an edge takes from every gateway at a time: reports, and what it is to find."""
HEALTH_TIMEOUT_S = 5.0
"""Time that a gateway may take to say that it is well, s; after three in vain Serve replaces it."""


def build(config: ServiceConfig, drain_s: float | None = None) -> Application:
    """Build the application: one deployment per edge, named like it unless edges share one, and one of all gateways.

    Args:
        config: The service.
        drain_s: Longest time that a process which has to stop goes on with accepted requests, s; as long as a request
            may take if None.

    Raises:
        InputError: If its kind can not be served, the policy does not exist or does not fit the edges, an edge has no
            room for a model, or a model is a folder without a pipeline.
    """
    config = lasting(following(config))  # replicas may run in another folder
    if config.keys is not None:
        config = config.model_copy(update={"keys": str(as_path(config.keys, "Key file").absolute())})
    deciding = allocators(config, make_parts(config, parts_of(config)))  # fail here and not in a replica
    drain_s = config.request_timeout_s if drain_s is None else drain_s
    cards = config.cards()
    check_edges(config.edges, cards)
    key = url_key(config)  # the same for all gateways
    encoding = "JSON" if config.log_format == "json" else "TEXT"
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False, encoding=encoding)
    calls = 3 * (config.max_queue + 1) + SPARE_CALLS * config.gateways
    houses = []
    limits = (config.max_queue, config.warmup_steps, config.stalled_after_s)
    for edge in config.edges:
        for model in edge.all_models if edge.engine == "diffusers" else ():
            _check_model(model)
    for name, amounts in reserved(config.edges).items():
        members = [edge for edge in config.edges if edge.deployment == name]
        deployment = serve.deployment(
            EdgeHouse,
            name=name,
            num_replicas=1,
            # Edges keep their own queues; Serve lets all of them in, requests that join others, those who watch, and
            # reports besides.
            max_ongoing_requests=calls * len(members),
            max_queued_requests=calls * len(members),
            ray_actor_options={
                "num_cpus": amounts.pop("CPU"),
                "num_gpus": amounts.pop("GPU"),
                "resources": amounts,
            },
            health_check_period_s=5,
            graceful_shutdown_timeout_s=drain_s,
            logging_config=quiet,
        )
        arguments = {
            edge.name: (
                (edge.name, config.keep_s, config.keep_mb, edge, cards, *limits),
                {"decide_steps": deciding[edge.name], "frame_s": config.frame_s},
            )
            for edge in members
        }
        houses.append(deployment.bind(arguments))

    def web() -> FastAPI:
        """Make the web application inside the gateway's replica."""
        torch.set_num_threads(1)  # decisions are small; threads would only compete with the edges
        log_to_stdout()
        here = serve.get_replica_context().app_name
        handles = {house: serve.get_deployment_handle(house, here) for house in {e.deployment for e in config.edges}}
        remote = {edge.name: EdgeHandle(handles[edge.deployment], edge.name) for edge in config.edges}
        policies = make_parts(config, parts_of(config), (ROUTER, CACHER))
        gateway = Gateway(
            config, policies[ROUTER], remote, Measured(RayInstruments()), cacher=policies.get(CACHER), key=key
        )
        gateway.warm_up()
        app = create_app(gateway, behind_proxy=True)
        app.state.gateway = gateway
        return app

    @serve.ingress(web)
    class GatewayReplica:
        """The gateway's process: the web application, and what its own operator may ask of it."""

        app: FastAPI

        def __init__(self, *houses: EdgeHouse) -> None:
            """Take the edges, so that they are deployed, too; the web application finds them by name."""

        async def reconfigure(self, user_config: dict[str, Any]) -> None:
            """Obey what an operator orders through Serve's ``user_config``, which reaches every gateway.

            What is refused is said in ``/healthz``: raised, it would end the gateway.
            """
            await self.app.state.gateway.obey(user_config)

        async def obey(self, orders: dict[str, Any]) -> str | None:
            """See :meth:`Gateway.obey`; one gateway of several."""
            refusal: str | None = await self.app.state.gateway.obey(orders)
            return refusal

        async def drain(self, grace_s: float) -> None:
            """See :meth:`Gateway.drain`."""
            await self.app.state.gateway.drain(grace_s)

    gateway = serve.deployment(
        GatewayReplica,
        name=GATEWAY,
        num_replicas=config.gateways,
        **({} if config.gateways_per_node is None else {"max_replicas_per_node": config.gateways_per_node}),
        max_ongoing_requests=len(config.edges) * (config.max_queue + 1) + SPARE_REQUESTS,
        max_queued_requests=SPARE_REQUESTS,  # while it is being replaced
        ray_actor_options={"num_cpus": 0.1, "resources": dict(config.gateway_resources)},
        health_check_period_s=1,  # requests may wait for its successor
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=drain_s,
        logging_config=quiet,
    )
    return gateway.bind(*houses)


def app(args: Mapping[str, Any]) -> Application:
    """Build the application for ``serve run|build|deploy edgegen.serve.app:app``.

    Args:
        args: Either ``config`` (a name or path) and top-level fields to replace, or the fields of a whole config.
            Nothing means the demo.

    Raises:
        InputError: If the config is impossible.
    """
    fields = dict(args)
    if "edges" in fields and "config" not in fields:
        return build(build_config(fields))
    return build(load_config(str(fields.pop("config", "demo")), fields))


def _check_model(model: str) -> None:
    """Refuse folders that hold no pipeline here, and not minutes later in a replica."""
    folder = model_folder(model)
    if folder is not None and not (folder / INDEX_FILE).is_file():
        raise InputError(f"The model '{model}' is not the folder of a diffusers pipeline: it has no {INDEX_FILE}.")
