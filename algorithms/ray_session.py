"""A Ray session that ends what it began and nothing else."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from edgegen.envs.errors import InputError

CONNECT_TIMEOUT_S = 5.0
"""How long an address may take to answer, s."""


@contextmanager
def ray_session(address: str | None = None, **options: Any) -> Iterator[None]:
    """Use Ray for the length of a block.

    Joins the session that is already open in this process, else connects to ``address``, else starts a private local
    cluster, which is shut down at the end.

    Args:
        address: Address of a cluster, ``"auto"`` for the one on this machine, or None for a private one.
        **options: Passed to ``ray.init``.

    Raises:
        InputError: If the cluster can not be reached.
    """
    if ray.is_initialized():
        yield
        return
    # Usage reports need a network, and ray's own notices would bury the progress display.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    defaults: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        defaults |= {"address": "local", "include_dashboard": False}
        # Ray would start a Python process per CPU before anybody asks for one, and many a training never does.
        os.environ.setdefault("RAY_enable_worker_prestart", "0")
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    else:
        _check_reachable(address)
        defaults["address"] = address
    try:
        ray.init(**{**defaults, **options})
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        if address is None:
            raise
        if _asks_for_token(error):  # Ray's own message is about a connection that failed
            raise InputError(
                f"The Ray cluster at '{address}' asks for a token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token "
                "of its head to this machine."
            ) from None
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The Ray cluster at '{address}' can not be reached: {reason}.") from None
    try:
        yield
    finally:
        ray.shutdown()


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
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address) if address == "auto" else address.removeprefix("ray://")
    host, _, port = (found or "").rpartition(":")
    if not port.isdigit():
        return  # no cluster was found, or this is no address: ray.init says so
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        where = f" ({found})" if found != address else ""
        raise InputError(f"The Ray cluster at '{address}'{where} can not be reached: {reason}.") from None
