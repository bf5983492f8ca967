# SPDX-License-Identifier: Apache-2.0
"""Traces of requests for OpenTelemetry: whether, where to, and the provider that makes them.

The variables of OpenTelemetry (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin) decide, or the config does. Without either
nothing is traced, and nothing of it costs time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgegen.envs.core.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

TRACER = "edgegen.serve"
SERVICE = "edgegen"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def make_provider(
    url: str | None = None, instance: str = "", environ: Mapping[str, str] = os.environ
) -> TracerProvider | None:
    """Return what makes spans and sends them away in batches; None if nobody wants any.

    Args:
        url: Where the config says they go, OTLP over HTTP; what the environment says if None.
        instance: Tells this process from others of the same service.
        environ: The environment.

    Raises:
        InputError: If a variable asks for what there is not, or a library is missing.
    """
    exporter = _exporter(url, environ)
    if exporter is None:
        return None
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = provider_of(instance, environ)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def provider_of(instance: str = "", environ: Mapping[str, str] = os.environ) -> TracerProvider:
    """Return a provider that sends nothing anywhere yet; who is sampled is what ``OTEL_TRACES_SAMPLER`` says."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    from edgegen import __version__

    named = {"service.name": environ.get("OTEL_SERVICE_NAME") or SERVICE, "service.version": __version__}
    if instance:
        named["service.instance.id"] = instance
    return TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)


def _exporter(url: str | None, environ: Mapping[str, str]) -> SpanExporter | None:
    kind = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or kind == "none":
        return None
    if url is None and not kind and not any(environ.get(name) for name in _ENDPOINTS):
        return None
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if kind not in ("", "otlp"):
        raise InputError(f"OTEL_TRACES_EXPORTER is '{kind}', but it must be otlp, console or none.")
    for name in _PROTOCOLS:
        if (protocol := environ.get(name)) and protocol != _PROTOCOL:
            raise InputError(f"{name} is '{protocol}', but traces are sent by {_PROTOCOL} only.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise InputError(
            "Traces need the library 'opentelemetry-exporter-otlp-proto-http'; install edgegen[otlp]."
        ) from None
    return OTLPSpanExporter(endpoint=url)  # headers, timeouts and certificates come from the environment
