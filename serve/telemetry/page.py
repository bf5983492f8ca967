# SPDX-License-Identifier: Apache-2.0
"""The page ``/metrics`` of a gateway: what Ray's nodes export of it, and the same under names that others read."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from edgegen.serve.metrics import UnderWay
from edgegen.serve.telemetry.instruments import PrometheusInstruments
from edgegen.serve.telemetry.measured import Measured

PATH = "/metrics"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHERS = ("vllm:omni_num_requests", "vllm:num_requests")
"""What vLLM-Omni calls them, and vLLM, whose names the Gateway API inference extension reads."""


class MetricsPage(Measured):
    """Keeps the metrics of one gateway, and writes them down when asked."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        make = PrometheusInstruments(self._registry)
        super().__init__(make)
        self._same = [
            (
                make.gauge(f"{name}_waiting", "Requests that wait, here or on an edge.", "model_name"),
                make.gauge(f"{name}_running", "Requests in work.", "model_name"),
            )
            for name in OTHERS
        ]

    def requests(self, under_way: Mapping[str, UnderWay]) -> None:
        """See :class:`Meter`."""
        super().requests(under_way)
        for model, number in under_way.items():
            for waiting, running in self._same:
                waiting.set(number.waiting, {"model_name": model})
                running.set(number.running, {"model_name": model})

    def text(self) -> bytes:
        """Return the page."""
        return generate_latest(self._registry)
