"""The application: builds the deployments from a config, and runs them for the length of a block."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import ray
import torch
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from edgegen.algorithms.ray_session import ray_session
from edgegen.algorithms.registered import fetch, is_registered, pinned, tracking_uri
from edgegen.algorithms.registry import make_policy
from edgegen.algorithms.rules import RULES
from edgegen.envs.errors import InputError
from edgegen.serve.config import ServiceConfig, build_config, load_config
from edgegen.serve.edge import EdgeServer
from edgegen.serve.gateway import Gateway
from edgegen.serve.metrics import RayMeter
from edgegen.serve.remote import RemoteEdge
from edgegen.serve.web import create_app
from edgegen.serve.zoo.loading import INDEX_FILE, embedded_models

APP_NAME = "edgegen"
LOOPBACK = "127.0.0.1"
SPARE_REQUESTS = 64
"""Requests beyond all queues that the gateway takes at a time, so that refusals and state queries do not queue."""
STORE_BYTES = 200 * 1024**2
PROXY_PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""Serve kills a proxy that is not ready within 5 s and never recovers from it; a busy machine needs longer."""


def build(config: ServiceConfig) -> Application:
    """Build the application: one deployment per edge, named like it, and the gateway in front.

    Raises:
        InputError: If the policy does not exist or does not fit the edges, or a model is a folder without a pipeline.
    """
    if config.policy not in RULES:  # replicas may run in another folder
        config = config.model_copy(update={"policy": _lasting(config.policy)})
    make_policy(config.policy, config.scenario(), config.seed)  # fail here and not in a replica
    cards = config.cards()
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    edges = []
    for edge in config.edges:
        _check_model(edge.model)
        deployment = serve.deployment(
            EdgeServer,
            name=edge.name,
            num_replicas=1,
            # The edge keeps its own queue; Serve lets all of it in, and state reports besides.
            max_ongoing_requests=config.max_queue + 9,
            max_queued_requests=config.max_queue + 9,
            ray_actor_options={
                "num_cpus": edge.num_cpus,
                "num_gpus": edge.num_gpus,
                "resources": dict(edge.resources),
            },
            health_check_period_s=5,
            graceful_shutdown_timeout_s=5,
            logging_config=quiet,
        )
        card = cards[edge.model]
        edges.append(deployment.bind(edge, card, config.max_queue, config.warmup_steps, config.stall_timeout_s))

    def web() -> FastAPI:
        """Make the web application inside the gateway's replica."""
        torch.set_num_threads(1)  # decisions are small; threads would only compete with the edges
        here = serve.get_replica_context().app_name
        remote = {edge.name: RemoteEdge(serve.get_deployment_handle(edge.name, here)) for edge in config.edges}
        policy = make_policy(config.policy, config.scenario(), config.seed)
        return create_app(Gateway(config, policy, remote, RayMeter()))

    gateway = serve.deployment(
        serve.ingress(web)(),
        name="gateway",
        num_replicas=1,  # the one place where all queues are known
        max_ongoing_requests=len(config.edges) * (config.max_queue + 1) + SPARE_REQUESTS,
        ray_actor_options={"num_cpus": 0.1, "resources": dict(config.gateway_resources)},
        health_check_period_s=5,
        graceful_shutdown_timeout_s=5,
        logging_config=quiet,
    )
    return gateway.bind(*edges)


def _lasting(policy: str) -> str:
    """Return the name of a trained policy that means the same in every replica, now and after a restart."""
    if not is_registered(policy):
        return str(Path(policy).expanduser().resolve())
    # Replicas on other machines fetch from a server themselves; a database is a file of this machine.
    return pinned(policy) if tracking_uri().startswith(("http://", "https://")) else str(fetch(policy))


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


@contextmanager
def running_service(
    config: ServiceConfig, port: int = 8000, *, address: str | None = None, ready_timeout_s: float = 300.0
) -> Iterator[str]:
    """Run the service for the length of a block, and stop exactly what was started, also on Ctrl-C and SIGTERM.

    SIGTERM raises ``KeyboardInterrupt`` in the block, just as Ctrl-C does.

    Args:
        config: The service.
        port: Port on the loopback interface.
        address: A Ray cluster with its head on this machine; a private one if None.
        ready_timeout_s: Longest time until every edge is healthy, s.

    Yields:
        The base URL, once every edge is healthy.

    Raises:
        InputError: If the port is in use, the cluster can not be reached, or the service does not start.
    """
    check_port(port)
    application = build(config)
    # Edges reserve little, but more of them than this machine has CPUs must not wait for each other forever.
    cpus = max(os.cpu_count() or 1, int(sum(edge.num_cpus for edge in config.edges)) + 1)
    options: dict[str, Any] = {} if address else {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
    private = address is None and not ray.is_initialized()
    for name, value in PROXY_PATIENCE.items():
        os.environ.setdefault(name, value)  # for the processes of a private cluster, which inherit it
    with _sigterm_kept(), _quiet(), ray_session(address, **options):
        _raise_on_sigterm()  # after Ray, which brings a handler of its own
        if serve.status().proxies:
            raise InputError(
                "Ray Serve already runs on this cluster; deploy there with 'serve run edgegen.serve.app:app'."
            )
        try:
            _start_serve(port)
            _deploy(application)
            url = f"http://{LOOPBACK}:{port}"
            _wait_until_healthy(url, ready_timeout_s)
            yield url
        finally:
            _ignore_sigterm()  # a second signal must not interrupt the clean-up
            if private:  # ends with its Ray session; a shut-down of its own would only print warnings
                if APP_NAME in serve.status().applications:
                    serve.delete(APP_NAME)
            else:
                serve.shutdown()


def _start_serve(port: int) -> None:
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=LOOPBACK, port=port),
            logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        )
    except (RayError, TimeoutError):
        raise InputError(
            f"The service can not start: its HTTP proxy on port {port} is not ready; see the logs of Ray Serve."
        ) from None


def check_port(port: int) -> None:
    """Check that a port of the loopback interface is free.

    Raises:
        InputError: If it is in use or not a port.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"The port is {port}, but ports are 1 to 65535.")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"Port {port} of {LOOPBACK} can not be used ({reason}); choose another one.") from None


def _check_model(model: str) -> None:
    """Refuse folders that hold no pipeline here, and not minutes later in a replica."""
    folder = Path(model).expanduser()
    is_path = folder.is_dir() or model.startswith(("/", "./", "../", "~"))
    if model not in embedded_models() and is_path and not (folder / INDEX_FILE).is_file():
        raise InputError(f"The model '{model}' is not the folder of a diffusers pipeline: it has no {INDEX_FILE}.")


def _deploy(application: Application) -> None:
    try:
        serve.run(application, name=APP_NAME, route_prefix="/")
    except RuntimeError:
        # Serve's own message is a traceback; the last line of a replica's failure says what is wrong.
        statuses = serve.status().applications[APP_NAME].deployments
        failed = [f"'{name}': {_last_line(status.message)}" for name, status in statuses.items() if status.message]
        raise InputError(f"The service can not start; {'; '.join(failed) or 'see the logs of Ray Serve'}.") from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


def _wait_until_healthy(url: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    answer = "no answer"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{url}/healthz", timeout=5)
            if response.status_code == 200 and response.json()["status"] == "ok":
                return
            answer = response.text
        except (httpx.HTTPError, ValueError) as error:
            answer = str(error)
        time.sleep(0.1)
    raise InputError(f"The service was not healthy within {timeout_s:g} s; the last answer was {answer[:300]}.")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Serve's progress notices out of the terminal."""
    logger = logging.getLogger("ray.serve")
    keep_warnings = _WarningsOnly()
    logger.addFilter(keep_warnings)
    try:
        yield
    finally:
        logger.removeFilter(keep_warnings)


class _WarningsOnly(logging.Filter):
    """A filter and not a level, because Serve sets the level of its logger itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put the handler of SIGTERM back at the end."""
    if not _in_main_thread():  # signals are none of this thread's business
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_on_sigterm() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if _in_main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def _ignore_sigterm() -> None:
    if _in_main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
