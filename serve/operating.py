# SPDX-License-Identifier: Apache-2.0
"""What an operator on the machine of a service's head asks of it: how its edges are, and who is in charge."""

from __future__ import annotations

import time
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from edgegen.envs.core.errors import InputError
from edgegen.serve.app import APP_NAME, GATEWAY
from edgegen.serve.config import ServiceConfig
from edgegen.serve.connection import connect
from edgegen.serve.kinds.cast import lasting

ANSWER_S = 120.0
"""Longest time for a policy to be loaded and tried, s."""
PAUSE_S = 0.1


class Operator:
    """Operates a running service of one gateway.

    Args:
        url: The service.
        config: What it was made of.

    Raises:
        InputError: If it has several gateways: each would have to be told.
    """

    def __init__(self, url: str, config: ServiceConfig) -> None:
        if config.gateways > 1:
            raise InputError(
                f"gateways is {config.gateways}, but policies can be compared on a service of one gateway only."
            )
        self._config = config
        self._client = connect(url)

    def edges(self) -> list[dict[str, Any]]:
        """Return the state of every edge, as ``GET /v1/edges`` has it."""
        with self._client.client(timeout=10) as client:
            answer: list[dict[str, Any]] = client.get("/v1/edges").raise_for_status().json()["data"]
            return answer

    def capacities_gcycles_s(self) -> dict[str, float]:
        """Return the capacities of the edges as they are now, by name, Gcycle/s."""
        return {edge["name"]: float(edge["capacity_gcycles_s"]) for edge in self.edges()}

    def put_in_charge(self, policy: str) -> None:
        """Let another policy decide from now on.

        Raises:
            InputError: If the service refuses it; then the old one goes on.
        """
        gateway = serve.get_deployment_handle(GATEWAY, APP_NAME)
        try:
            order = {"policy": lasting(self._config.model_copy(update={"policy": policy})).policy}
            refusal: str | None = gateway.obey.remote(order).result(timeout_s=ANSWER_S)
        except (RayError, RayServeException, TimeoutError) as error:
            raise InputError(f"The gateway can not be told its policy ({type(error).__name__}).") from None
        finally:
            gateway.shutdown()  # or it would ask Serve for news until long after that has ended
        if refusal is not None:
            raise InputError(refusal)

    def settle(self) -> None:
        """Wait until a new frame has begun and all edges have done what they have to do.

        Raises:
            InputError: If they are not done within the time of a request.
        """
        end = time.monotonic() + self._config.request_timeout_s
        time.sleep(self._config.frame_s + self._config.report_period_s)
        while any(edge["queue_length"] or edge["backlog_gcycles"] > 0 for edge in self.edges()):
            if time.monotonic() > end:
                raise InputError(f"The edges are not idle after {self._config.request_timeout_s:g} s.")
            time.sleep(PAUSE_S)
