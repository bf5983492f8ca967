# SPDX-License-Identifier: Apache-2.0
"""The service on this machine, or on a cluster whose head is here, for the length of a block."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import httpx
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.stop_signals import in_main_thread
from edgegen.envs.core.errors import InputError
from edgegen.envs.urls import is_loopback
from edgegen.serve.app import APP_NAME, GATEWAY, build
from edgegen.serve.config import ServiceConfig
from edgegen.serve.connection import Connection
from edgegen.serve.edge_config import reserved
from edgegen.serve.front import CALLBACK, Limits
from edgegen.serve.http.key_file import read_keys
from edgegen.serve.private import forget_controller
from edgegen.serve.record.journal import check_folder
from edgegen.serve.tls import Certificate

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ANY = ("0.0.0.0", "::")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What a service that listens on the loopback interface is called by its own machine."""
STORE_BYTES = 200 * 1024**2
DRAIN_S = 5.0
"""Time that processes have to end, once all requests have been answered."""
ANSWER_SPARE_S = 30.0
"""Time beyond that of a request after which a gateway that does not answer is given up."""
RESOURCE_DIGITS = 4
"""Of Ray's own reckoning; sums of shares are inexact."""
READY_TIMEOUT_S = 1800.0
"""Models may have to be downloaded first, and machines to be started."""
SERVE_VARIABLES = {
    # Serve kills a proxy that is not ready within 5 s and never recovers from it; a busy machine needs longer.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # An edge that hangs has nothing to finish, and its successor waits for its GPU.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    # What stands in front of the gateway: deadlines for slow clients, and errors in the shape of the API.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
}
"""Settings of Ray Serve, for the processes of a cluster."""


@contextmanager
def running_service(
    config: ServiceConfig,
    port: int = 8000,
    *,
    host: str = LOOPBACK,
    address: str | None = None,
    ready_timeout_s: float = READY_TIMEOUT_S,
) -> Iterator[str]:
    """Run the service for the length of a block, and stop exactly what was started, also on Ctrl-C and SIGTERM.

    SIGTERM raises ``KeyboardInterrupt`` in the block, just as Ctrl-C does.

    Args:
        config: The service.
        port: Port on that interface.
        host: Address of the interface to listen on.
        address: A Ray cluster with its head on this machine; a private one if None.
        ready_timeout_s: Longest time until everything has its place and every edge is healthy, s.

    Yields:
        The base URL, once every edge is healthy.

    Raises:
        InputError: If the port is in use, a file of the config can not be used, the cluster can not be reached, this
            machine lacks what edges reserve, or the service does not start.
    """
    check_port(port, host)
    certificate = None
    if config.tls_certificate is not None and config.tls_key is not None:
        certificate = Certificate.of(config.tls_certificate, config.tls_key)
    if config.keys is not None:
        read_keys(config.keys)
    elif is_loopback(host) and host not in ANY and not config.allowed_hosts:
        # Else pages whose names lead here (DNS rebinding) could use a service that asks for no keys.
        config = config.model_copy(update={"allowed_hosts": LOOPBACK_NAMES})
    if config.record is not None and address is None:
        check_folder(config.record.folder)
    application = build(config, DRAIN_S)
    # Edges reserve little, but more of them than this machine has CPUs must not wait for each other forever.
    cpus = max(os.cpu_count() or 1, int(sum(amounts["CPU"] for amounts in reserved(config.edges).values())) + 1)
    options: dict[str, Any] = {} if address else {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
    private = address is None and not ray.is_initialized()
    limits = Limits(
        receive_timeout_s=config.receive_timeout_s,
        max_connections=config.max_connections,
        answer_timeout_s=config.request_timeout_s + ANSWER_SPARE_S,
    )
    for name, value in {**SERVE_VARIABLES, **limits.variables()}.items():
        os.environ.setdefault(name, value)  # for the processes of a private cluster, which inherit it
    with _sigterm_kept(), _quiet(), ray_session(address, **options):
        _raise_on_sigterm()  # after Ray, which brings a handler of its own
        forget_controller()  # of a session of this process that has ended
        if serve.status().proxies:
            raise InputError(
                "Ray Serve already runs on this cluster; deploy there with 'serve run edgegen.serve.app:app'."
            )
        if private:  # others may get more machines when they need them
            _check_room(config)
        try:
            _start_serve(port, host, certificate)
            deadline = time.monotonic() + ready_timeout_s
            _deploy(application, deadline)
            url = base_url(host, port, secure=certificate is not None)
            _wait_until_healthy(url, deadline)
            yield url
        finally:
            _ignore_sigterm()  # a second signal must not interrupt the clean-up
            _drain(config.shutdown_grace_s)
            if private:  # ends with its Ray session; a shut-down of its own would only print warnings
                if APP_NAME in serve.status().applications:
                    serve.delete(APP_NAME)
            else:
                serve.shutdown()


def _drain(grace_s: float) -> None:
    """Have the gateways finish what they have accepted; a second Ctrl-C cuts that short."""
    try:
        state = serve.status().applications.get(APP_NAME)
        if state is not None and state.status == ApplicationStatus.RUNNING:
            gateway = serve.get_deployment_handle(GATEWAY, APP_NAME)
            drained = gateway.broadcast("drain", grace_s)
            drained.results(timeout_s=grace_s + DRAIN_S, return_exceptions=True)  # one may die meanwhile
    except (RayError, RayServeException, TimeoutError, KeyboardInterrupt):
        logger.warning("the service ends with requests under way")


def base_url(host: str, port: int, secure: bool = False) -> str:
    """Return the address of a service as it is reached from this machine."""
    name = LOOPBACK if host in ANY else f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{name}:{port}"


def _start_serve(port: int, host: str, certificate: Certificate | None) -> None:
    secure = {} if certificate is None else {"ssl_certfile": certificate.file, "ssl_keyfile": certificate.key}
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port, **{name: str(path) for name, path in secure.items()}),
            logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        )
    except (RayError, TimeoutError):
        raise InputError(
            f"The service can not start: its HTTP proxy on port {port} is not ready; see the logs of Ray Serve."
        ) from None


def check_port(port: int, host: str = LOOPBACK) -> None:
    """Check that a port of an interface is free.

    Raises:
        InputError: If it is in use or not a port, or there is no such interface.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"The port is {port}, but ports are 1 to 65535.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"Port {port} of {host} can not be used ({reason}); choose another one.") from None


def _check_room(config: ServiceConfig) -> None:
    """Refuse reservations that can never be met: Serve would wait for them without a word."""
    wanted = Counter[str]()
    for amounts in reserved(config.edges).values():
        wanted.update({name: amount for name, amount in amounts.items() if name != "CPU"})
    wanted.update(config.gateway_resources)
    there = ray.cluster_resources()
    for name, amount in wanted.items():
        if round(amount, RESOURCE_DIGITS) > there.get(name, 0.0):
            raise InputError(
                f"The service reserves {amount:g} of '{name}' (num_gpus, resources), but this machine has "
                f"{there.get(name, 0.0):g}."
            )


def _deploy(application: Application, deadline: float) -> None:
    """Deploy and wait until every process is there; Serve's own wait has no end."""
    serve.run_many(
        [serve.RunTarget(application, name=APP_NAME, route_prefix="/")],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )
    reasons: list[str] = []
    while time.monotonic() < deadline:
        state = serve.status().applications.get(APP_NAME)
        if state is not None:
            if state.status == ApplicationStatus.RUNNING:
                return
            # Serve's own message is a traceback; the last line of a replica's failure says what is wrong.
            messages = {name: _last_line(deployment.message) for name, deployment in state.deployments.items()}
            reasons = [f"'{name}': {message}" for name, message in messages.items() if message]
            if state.status == ApplicationStatus.DEPLOY_FAILED:
                raise InputError(f"The service can not start; {_list(reasons)}.")
        time.sleep(0.1)
    raise InputError(f"The service did not start in the time it was given; {_list(reasons)}.")


def _list(reasons: list[str]) -> str:
    return "; ".join(reasons) or "see the logs of Ray Serve"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


def _wait_until_healthy(url: str, deadline: float) -> None:
    answer = "no answer"
    # The certificate is for the names that others use.
    with Connection(url, proxy=None, verify=False).client(timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                response = client.get("/healthz")
                if response.status_code == 200 and response.json()["status"] == "ok":
                    return
                answer = response.text
            except (httpx.HTTPError, ValueError) as error:
                answer = str(error)
            time.sleep(0.1)
    raise InputError(f"The service was not healthy in the time it was given; the last answer was {answer[:300]}.")


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
    if not in_main_thread():  # signals are none of this thread's business
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

    if in_main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def _ignore_sigterm() -> None:
    if in_main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
