# SPDX-License-Identifier: Apache-2.0
"""Counters, gauges and histograms, of Ray for the ports of its nodes or of Prometheus' client for ``/metrics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram

Tags = Mapping[str, str]


class Counter(Protocol):
    """Something that only grows."""

    def inc(self, amount: float, tags: Tags) -> None:
        """Count more."""


class Gauge(Protocol):
    """Something that has a value now."""

    def set(self, value: float, tags: Tags) -> None:
        """Say the value."""


class Histogram(Protocol):
    """How often something took how long."""

    def observe(self, value: float, tags: Tags) -> None:
        """Take note of one."""


class Instruments(Protocol):
    """Makes instruments; all their tags are given with every value."""

    def counter(self, name: str, description: str, *tags: str) -> Counter:
        """Make a counter; ``_total`` is added to its name."""

    def gauge(self, name: str, description: str, *tags: str) -> Gauge:
        """Make a gauge."""

    def histogram(self, name: str, description: str, boundaries: Sequence[float], *tags: str) -> Histogram:
        """Make a histogram with these upper ends of its buckets."""


class RayInstruments:
    """Ray's, which every node exports with the prefix ``ray_``; made inside the gateway's replica."""

    def counter(self, name: str, description: str, *tags: str) -> Counter:
        """See :class:`Instruments`."""
        from ray.serve import metrics

        made: Counter = metrics.Counter(name, description=description, tag_keys=tags)
        return made

    def gauge(self, name: str, description: str, *tags: str) -> Gauge:
        """See :class:`Instruments`."""
        from ray.serve import metrics

        made: Gauge = metrics.Gauge(name, description=description, tag_keys=tags)
        return made

    def histogram(self, name: str, description: str, boundaries: Sequence[float], *tags: str) -> Histogram:
        """See :class:`Instruments`."""
        from ray.serve import metrics

        made: Histogram = metrics.Histogram(name, description=description, boundaries=list(boundaries), tag_keys=tags)
        return made


class PrometheusInstruments:
    """Prometheus' own, in a registry.

    Args:
        registry: Gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, description: str, *tags: str) -> Counter:
        """See :class:`Instruments`."""
        return _Labelled(PrometheusCounter(name, description, tags, registry=self._registry))

    def gauge(self, name: str, description: str, *tags: str) -> Gauge:
        """See :class:`Instruments`."""
        return _Labelled(PrometheusGauge(name, description, tags, registry=self._registry))

    def histogram(self, name: str, description: str, boundaries: Sequence[float], *tags: str) -> Histogram:
        """See :class:`Instruments`."""
        return _Labelled(PrometheusHistogram(name, description, tags, registry=self._registry, buckets=boundaries))


class _Labelled:
    """An instrument of Prometheus that takes tags with every value, as Ray's do."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def inc(self, amount: float, tags: Tags) -> None:
        self._of(tags).inc(amount)

    def set(self, value: float, tags: Tags) -> None:
        self._of(tags).set(value)

    def observe(self, value: float, tags: Tags) -> None:
        self._of(tags).observe(value)

    def _of(self, tags: Tags) -> Any:
        return self._metric.labels(**tags) if tags else self._metric
