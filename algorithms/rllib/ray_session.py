# SPDX-License-Identifier: Apache-2.0
"""A Ray session that ends what it began and nothing else."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil
import ray
from ray.exceptions import AuthenticationError

from edgegen.algorithms.rllib.private_core import address_here, groups_of_their_own
from edgegen.algorithms.stop_signals import children_spared, noting_stops, own_handlers_kept
from edgegen.envs.core.errors import InputError, first_line

CONNECT_TIMEOUT_S = 5.0
"""How long an address may take to answer, s."""
ATTEMPTS = 3
"""Ray gives a machine 30 s to start, which a busy one may exceed; an operator, or Kubernetes, would try again."""
PORT_WAIT_S = 120
"""How long Ray waits for the port of a cluster's head, s; its own 30 are few for a busy machine."""
STRAYS_TIMEOUT_S = 10.0
"""How long killed processes may take to be gone, s."""

T = TypeVar("T")


@contextmanager
def ray_session(address: str | None = None, **options: Any) -> Iterator[None]:
    """Use Ray for the length of a block.

    Joins the session that is already open in this process, else connects to ``address``, else starts a private local
    cluster, which is shut down at the end.

    Args:
        address: Address of a cluster, ``"auto"`` for the one on this machine, or None for a private one.
        **options: Passed to ``ray.init``.

    Handlers of signals stay whose they are, and a closing terminal does not end the private cluster before its user.

    Raises:
        InputError: If the cluster can not be reached, or the private one does not start.
    """
    if ray.is_initialized():
        yield
        return
    # Usage reports need a network, and ray's own notices would bury the progress display.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # Ray would start a Python process per CPU before anybody asks for one, and many a training never does.
        os.environ.setdefault("RAY_enable_worker_prestart", "0")
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        private = {**quiet, "address": "local", "include_dashboard": False, **options}
        start_patiently(lambda: ray.init(**private))
    else:
        _connect(address, {**quiet, "address": address, **options})
    try:
        yield
    finally:
        with noting_stops() as request:
            ray.shutdown()
        if request.asked:
            raise KeyboardInterrupt


def start_patiently(start: Callable[[], T]) -> T:
    """Start processes of Ray on this machine; where that fails, end what there is of them and try again.

    Args:
        start: What starts them.

    Raises:
        InputError: If it fails every time.
    """
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(PORT_WAIT_S))
    reason = ""
    for _ in range(ATTEMPTS):
        others = {process.pid for process in _children()}
        try:
            with own_handlers_kept(), children_spared(), groups_of_their_own():
                return start()
        except (TypeError, ImportError):  # nothing that another attempt could mend
            _end_strays(others)
            raise
        except Exception as error:  # Ray itself raises no narrower class for a start that takes too long
            _end_strays(others)
            reason = first_line(error)
        except BaseException:
            _end_strays(others)
            raise
    raise InputError(
        f"Ray did not start on this machine in {ATTEMPTS} attempts: {reason}; free some of its processors, memory or "
        "disk and try again."
    )


def _end_strays(others: Collection[int]) -> None:
    """End the processes of Ray that a failed start left behind.

    Args:
        others: Ids of the processes that were there before.
    """
    with contextlib.suppress(Exception):  # what did not start whole can not be shut down whole
        ray.shutdown()
    strays = [process for process in _children() if process.pid not in others and _is_of_ray(process)]
    for process in strays:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(strays, timeout=STRAYS_TIMEOUT_S)


def _children() -> list[psutil.Process]:
    return list(psutil.Process().children(recursive=True))


def _is_of_ray(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return any("/ray/" in part or part.startswith("ray::") for part in command)


def _connect(address: str, options: dict[str, Any]) -> None:
    """Connect to a cluster.

    Raises:
        InputError: If it can not be reached, or does not let this machine in.
    """
    _check_reachable(address)
    try:
        with own_handlers_kept():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        if _asks_for_token(error):  # Ray's own message is about a connection that failed
            raise InputError(
                f"The Ray cluster at '{address}' asks for a token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token "
                "of its head to this machine."
            ) from None
        raise InputError(f"The Ray cluster at '{address}' can not be reached: {first_line(error)}.") from None


def _asks_for_token(error: BaseException | None) -> bool:
    """Whether an error came from a token that is missing or wrong: Ray hides that in the text of another error."""
    while error is not None:
        if isinstance(error, AuthenticationError) or AuthenticationError.__name__ in str(error):
            return True
        error = error.__cause__
    return False


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would go on trying for minutes and then end the process.

    Raises:
        InputError: If the connection is refused, or nothing answers.
    """
    found = address_here() if address == "auto" else address.removeprefix("ray://")
    host, _, port = (found or "").rpartition(":")
    if not port.isdigit():
        return  # no cluster was found, or this is no address: ray.init says so
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        where = f" ({found})" if found != address else ""
        raise InputError(f"The Ray cluster at '{address}'{where} can not be reached: {reason}.") from None
