# SPDX-License-Identifier: Apache-2.0
"""Ways in for people: an Ingress or a route of a Gateway, and the network policy that lets it through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgegen.platform.kubernetes.values import Ingress, Route, Values

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

SERVICE = "edgegen-serve-svc"
"""What KubeRay calls the Service in front of the proxies."""
PORT = 8000
_LABELS = {"app.kubernetes.io/part-of": "edgegen"}
_SPARE_S = 30
"""Time beyond that of a request for which whatever is in front of the service waits, s: it answers in its own words."""


def answer_s(service: ServiceConfig) -> int:
    """Time for which whatever is in front of a service waits for an answer, s."""
    return math.ceil(service.request_timeout_s) + _SPARE_S


def ways_in(service: ServiceConfig, values: Values) -> list[dict[str, Any]]:
    """Return the objects of the ways in that a cluster has."""
    made: list[dict[str, Any]] = []
    if values.ingress is not None:
        made += [_ingress(values.ingress), _policy("ingress-clients", values.ingress.namespace)]
    if values.route is not None:
        proxies = values.route.proxies or values.route.namespace
        made += [_route(values.route, answer_s(service)), _policy("route-clients", proxies)]
    return made


def _ingress(ingress: Ingress) -> dict[str, Any]:
    backend = {"service": {"name": SERVICE, "port": {"number": PORT}}}
    paths = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
    spec: dict[str, Any] = {
        "ingressClassName": ingress.class_name,
        "rules": [{"host": ingress.host, "http": paths}],
    }
    if ingress.tls_secret is not None:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret}]
    metadata: dict[str, Any] = {"name": "edgegen", "labels": dict(_LABELS)}
    if ingress.annotations:
        metadata["annotations"] = dict(ingress.annotations)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def _route(route: Route, timeout_s: int) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "edgegen", "labels": dict(_LABELS)},
        "spec": {
            "parentRefs": [{"name": route.gateway, "namespace": route.namespace}],
            "hostnames": [route.host],
            "rules": [
                {
                    "backendRefs": [{"name": SERVICE, "port": PORT}],
                    "timeouts": {"request": f"{timeout_s}s"},
                }
            ],
        },
    }


def _policy(name: str, namespace: str) -> dict[str, Any]:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": dict(_LABELS)},
        "spec": {
            "podSelector": {"matchLabels": {"edgegen.io/cluster": "serve", "ray.io/node-type": "worker"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"protocol": "TCP", "port": PORT}]}],
        },
    }
