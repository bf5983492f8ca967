# SPDX-License-Identifier: Apache-2.0
"""All that a gateway tells of itself: its page of metrics, and traces if somebody wants them."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import Response

from edgegen.serve.config import ServiceConfig
from edgegen.serve.metrics import Meter, Meters
from edgegen.serve.telemetry.json_lines import log_as_json
from edgegen.serve.telemetry.observer import Observer
from edgegen.serve.telemetry.page import MEDIA_TYPE, PATH, MetricsPage
from edgegen.serve.telemetry.spans import Spans
from edgegen.serve.telemetry.tracing import TRACER, make_provider

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

FLUSH_S = 5.0
"""Longest time that spans may take to be sent when the gateway ends, s."""


class Telemetry:
    """What a gateway tells of itself.

    Args:
        config: The service.
        meter: Is told what happens, too.
        refresh: Tells the meter how things are now.
        provider: Makes spans; what config and environment say if None.

    Attributes:
        meter: Is to be told what happens.

    Raises:
        InputError: If traces are wanted and can not be made.
    """

    def __init__(
        self,
        config: ServiceConfig,
        meter: Meter | None,
        refresh: Callable[[], None],
        provider: TracerProvider | None = None,
    ) -> None:
        if config.log_format == "json":
            log_as_json()
        self._page, self._refresh = MetricsPage(), refresh
        self._provider = provider or make_provider(config.traces_url, f"{platform.node()}-{os.getpid()}")
        self._tracer = None if self._provider is None else self._provider.get_tracer(TRACER)
        spans = () if self._tracer is None else (Spans(self._tracer),)
        self.meter: Meter = Meters(*(() if meter is None else (meter,)), self._page, *spans)

    def add_to(self, app: FastAPI) -> None:
        """Add the page to an application, and the layer that counts its requests."""

        @app.get(PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
        async def metrics() -> Response:
            """Show the metrics of this gateway, for Prometheus."""
            self._refresh()
            return Response(self._page.text(), media_type=MEDIA_TYPE)

        app.add_middleware(Observer, meter=self.meter, tracer=self._tracer)

    async def stop(self) -> None:
        """Send what has not been sent yet."""
        if self._provider is None:
            return
        provider = self._provider
        try:
            async with asyncio.timeout(FLUSH_S):
                await asyncio.to_thread(provider.shutdown)
        except TimeoutError:
            logger.warning("the last spans could not be sent within %g s", FLUSH_S)
