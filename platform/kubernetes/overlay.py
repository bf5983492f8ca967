# SPDX-License-Identifier: Apache-2.0
"""A Kustomize overlay from a service config: everything that a cluster gets for this service, as files.

What is the same for every service lies in the folder ``k8s`` of the repository, as plain manifests. An overlay names
them, adds what follows from the sites of the service, and changes what follows from its limits and from the cluster.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.yaml_files import read_mapping
from edgegen.platform.kubernetes.jobs import JOBS, job_kustomization
from edgegen.platform.kubernetes.kustomize import KUSTOMIZATION, NAMESPACE, image_entry, json_patch, manifest
from edgegen.platform.kubernetes.sites import CORE, Site, gateway_changes, gateway_pods, site_group, sites_of
from edgegen.platform.kubernetes.values import Values
from edgegen.platform.kubernetes.ways_in import answer_s, ways_in

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

HEADER = "# Made by edgegen k8s render: change the service or the values, not this file.\n"
"""First line of whatever is written, by which it is known again."""
LEAST_SPARE = 1
"""Pods of the service that may be drained at a time."""
KEYS = "/keys"
"""Where the Secret with the API keys is mounted, in the pods of the gateways."""

_RAY_SERVICE = {"kind": "RayService", "name": "edgegen"}
_SPEC = "/spec/rayClusterConfig"
_BEFORE_DELETION_S = 60
"""Time beyond that of a request for which a cluster that was replaced is kept, s."""


def overlay(
    service: ServiceConfig, serve_config: Mapping[str, Any], values: Values, manifests: Path, out: Path
) -> dict[str, str]:
    """Return the files of an overlay, by their path in its folder.

    Args:
        service: The service.
        serve_config: The same for Ray Serve, see :mod:`edgegen.platform.kubernetes.serve_config`.
        values: What the cluster is like.
        manifests: The folder ``k8s`` of the repository.
        out: Folder of the overlay, which names the manifests by their way from there.

    Raises:
        InputError: If the manifests are not there, or the service can not be run with them.
    """
    _check_keys(service)
    sites = sites_of(service, values)
    way = Path(os.path.relpath(manifests.resolve(), out.resolve())).as_posix()
    made: dict[str, list[Any]] = {
        KUSTOMIZATION: [_kustomization(service, values, sites, way, _links(values, manifests))],
        "serve-config.yaml": [serve_config],
        "sites.yaml": [_sites(_gateways_of(manifests), service, values, sites)],
        "disruption.yaml": [_disruption(gateway_pods(service) + len(sites) + 1)],
    }
    if entrances := ways_in(service, values):
        made["ways-in.yaml"] = entrances
    if values.target == "kind":
        made["cluster.yaml"] = [_kind_cluster(sites)]
    for job in JOBS:
        made[f"{job}/{KUSTOMIZATION}"] = [job_kustomization(job, values, f"../{way}")]
    return {name: HEADER + manifest(*documents) for name, documents in made.items()}


def _check_keys(service: ServiceConfig) -> None:
    if service.keys is not None and Path(service.keys).parent != Path(KEYS):
        raise InputError(
            f"keys is '{service.keys}', but on a cluster it is a file in {KEYS}, where the Secret edgegen-keys is "
            f"mounted, as in {KEYS}/keys.json."
        )


def _gateways_of(manifests: Path) -> dict[str, Any]:
    """The worker group of the gateways, from which those of the sites are made."""
    file = manifests / "base" / "service" / "rayservice.yaml"
    if not file.is_file():
        raise InputError(f"'{manifests}' holds no manifests; give the folder k8s of edgegen's repository.")
    groups = read_mapping(file, "Manifest")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (group,) = [one for one in groups if one["groupName"] == CORE]
    return copy.deepcopy(dict(group))


def _links(values: Values, manifests: Path) -> list[dict[str, Any]]:
    """Changes of the alerts: each links to its section of the website."""
    if values.docs_url is None:
        return []
    groups = read_mapping(manifests / "monitoring" / "rules.yaml", "Manifest")["spec"]["groups"]
    return [
        {
            "op": "replace",
            "path": f"/spec/groups/{group}/rules/{number}/annotations/runbook_url",
            "value": f"{values.docs_url}/day-2.html#{rule['alert'].lower()}",
        }
        for group, rules in enumerate(groups)
        for number, rule in enumerate(rules["rules"])
    ]


def _kustomization(
    service: ServiceConfig, values: Values, sites: Sequence[Site], way: str, links: list[dict[str, Any]]
) -> dict[str, Any]:
    resources = [f"{way}/base", "disruption.yaml"]
    resources += ["ways-in.yaml"] if ways_in(service, values) else []
    resources += [f"{way}/monitoring"] if values.monitoring else []
    wanted = {
        "laptop": values.target == "kind",
        "models": values.models,
        "keys": service.keys is not None,
        "registry": service.follow is not None or "models:/" in service.policy,
        "backup": values.backup,
        "object-store": values.object_store,
        "node-local-dns": values.node_local_dns,
        "incremental-upgrade": values.upgrade == "steps",
    }
    alerts = [{"target": {"kind": "PrometheusRule", "name": "edgegen"}, "patch": manifest(links)}] if links else []
    images = {
        "edgegen": values.image_of(any(site.gpus for site in sites)),
        "edgegen-mlflow": values.image_of_mlflow,
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": resources,
        "components": [f"{way}/components/{name}" for name, there in wanted.items() if there],
        "images": [image_entry(name, image) for name, image in images.items()],
        "patches": _patches(service, values) + alerts,
        # The text becomes that of spec.serveConfigV2; the ConfigMap itself goes to no cluster.
        "configMapGenerator": [
            {
                "name": "edgegen-serve-config",
                "files": ["config=serve-config.yaml"],
                "options": {
                    "disableNameSuffixHash": True,
                    "annotations": {"config.kubernetes.io/local-config": "true"},
                },
            }
        ],
        "replacements": [
            {
                "source": {"kind": "ConfigMap", "name": "edgegen-serve-config", "fieldPath": "data.config"},
                "targets": [{"select": _RAY_SERVICE, "fieldPaths": ["spec.serveConfigV2"]}],
            }
        ],
    }


def _patches(service: ServiceConfig, values: Values) -> list[dict[str, Any]]:
    patches: list[dict[str, Any]] = [{"target": _RAY_SERVICE, "path": "sites.yaml"}]
    if values.storage_class is not None:
        own = "edgegen-(mlflow-artifacts|mlflow-backups)"
        patches.append(_storage_class("PersistentVolumeClaim", own, "", values.storage_class))
        each = "edgegen-(redis|postgres)"
        patches.append(_storage_class("StatefulSet", each, "/volumeClaimTemplates/0/spec", values.storage_class))
    if values.shared_storage_class is not None:
        shared = "edgegen-(runs|models)"
        patches.append(_storage_class("PersistentVolumeClaim", shared, "", values.shared_storage_class))
    for policy, addresses in (("ray-autoscaler", values.api_server), ("mlflow-object-store", values.store_addresses)):
        if addresses:
            blocks = [{"ipBlock": {"cidr": cidr}} for cidr in addresses]
            patches.append(json_patch("NetworkPolicy", policy, "replace", "/spec/egress/0/to", blocks))
    if values.upgrade == "steps":
        options = "/spec/upgradeStrategy/clusterUpgradeOptions"
        patches.append(
            json_patch("RayService", "edgegen", "replace", f"{options}/gatewayClassName", values.gateway_class)
        )
        timeout = "/spec/timeout/http/requestTimeout"
        patches.append(json_patch("BackendTrafficPolicy", "edgegen", "replace", timeout, f"{answer_s(service)}s"))
    return patches


def _storage_class(kind: str, name: str, place: str, storage_class: str) -> dict[str, Any]:
    return json_patch(kind, name, "add", f"/spec{place}/storageClassName", storage_class)


def _sites(
    base: Mapping[str, Any], service: ServiceConfig, values: Values, sites: Sequence[Site]
) -> list[dict[str, Any]]:
    """Changes of the RayService, as a JSON patch: what follows from the limits of the service, and its sites."""
    kept_s = math.ceil(service.request_timeout_s) + _BEFORE_DELETION_S
    changes = [{"op": "replace", "path": "/spec/rayClusterDeletionDelaySeconds", "value": kept_s}]
    if values.upgrade == "none":
        changes.append({"op": "replace", "path": "/spec/upgradeStrategy/type", "value": "None"})
    if service.url_key_env is not None:
        secret = {"secretKeyRef": {"name": "edgegen-url-key", "key": "key"}}
        path = f"{_SPEC}/headGroupSpec/template/spec/containers/0/env/-"
        changes.append({"op": "add", "path": path, "value": {"name": service.url_key_env, "valueFrom": secret}})
    changes += gateway_changes(service, values)
    for site in sites:
        group = site_group(base, site, service, values)
        changes.append({"op": "add", "path": f"{_SPEC}/workerGroupSpecs/-", "value": group})
    return changes


def _disruption(pods: int) -> dict[str, Any]:
    """Lets drains take one pod of the service at a time.

    Ray's pods have a controller without a scale, for which Kubernetes accepts only a plain ``minAvailable``.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "edgegen-serve", "labels": {"app.kubernetes.io/part-of": "edgegen"}},
        "spec": {
            "minAvailable": pods - LEAST_SPARE,
            "selector": {"matchLabels": {"edgegen.io/cluster": "serve"}},
        },
    }


def _kind_cluster(sites: Sequence[Site]) -> dict[str, Any]:
    """Nodes of a cluster on a laptop, for ``kind create cluster --config``: one for core, and one for every site."""
    labels = [{"role": "worker", "labels": {"edgegen.io/site": name}} for name in (CORE, *(s.name for s in sites))]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": "edgegen",
        "nodes": [{"role": "control-plane"}, *labels],
    }
