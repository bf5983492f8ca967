# SPDX-License-Identifier: Apache-2.0
"""Sites of a service, and the worker groups of its Ray cluster: one for the gateways, one for every site.

A site is one name: a label of nodes, a worker group, and a Ray resource that this group offers. An edge says in
``resources`` at which site it is.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgegen.envs.core.errors import InputError
from edgegen.platform.kubernetes.values import Size, Values

if TYPE_CHECKING:
    from edgegen.serve.config import ServiceConfig

CORE = "core"
"""The site of head and gateways."""
MODELS = "/models"
DRAIN_S = 60
"""Time beyond that of a request that a pod has for its end, s: to notice it, and to stop Ray."""

_SITE = re.compile(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class Site:
    """A place where edges run.

    Attributes:
        name: Its name.
        units: How much of the Ray resource of this name it offers.
        gpus: GPUs that it needs.
        size: What its pod gets.
    """

    name: str
    units: int
    gpus: int
    size: Size


def sites_of(service: ServiceConfig, values: Values) -> list[Site]:
    """Return the sites of a service, in the order of its edges.

    Args:
        service: The service.
        values: What the cluster is like.

    Raises:
        InputError: If an edge is at no site or several, a name can be none of a worker group, edges need more CPUs
            than their site has, or a size is given for a site that is none.
    """
    from edgegen.serve.edge_config import reserved

    place: dict[str, str] = {}
    for edge in service.edges:
        here = _site_of(edge.name, edge.resources)
        if place.setdefault(edge.deployment, here) != here:
            raise InputError(f"Edges at '{place[edge.deployment]}' and '{here}' share the process '{edge.process}'.")
    needs: dict[str, dict[str, float]] = {}
    for deployment, amounts in reserved(service.edges).items():
        site = needs.setdefault(place[deployment], {})
        for resource, amount in amounts.items():
            site[resource] = site.get(resource, 0.0) + amount
    for name in values.sites:
        if name not in needs:
            raise InputError(f"sites gives a size for '{name}', but the sites of the service are {', '.join(needs)}.")
    found = []
    for name, amounts in needs.items():
        gpus = math.ceil(amounts["GPU"])
        size = values.sites.get(name, values.gpu_site if gpus else values.site)
        if amounts["CPU"] > size.cpu:
            raise InputError(
                f"The edges at '{name}' reserve {amounts['CPU']:g} CPUs (num_cpus), but their site has {size.cpu}."
            )
        found.append(Site(name, math.ceil(amounts[name]), gpus, size))
    return found


def gateway_pods(service: ServiceConfig) -> int:
    """Return how many pods the gateways need, each of which offers one ``core``.

    Raises:
        InputError: If gateways reserve something else than ``core``, or more than there is.
    """
    needed = service.gateway_resources
    share = needed.get(CORE, 0.0)
    if set(needed) != {CORE} or share > 1:
        raise InputError(
            f"gateway_resources is {dict(needed)}, but on a cluster gateways reserve '{CORE}', at most 1 of it, as in "
            f"{{{CORE}: 0.5}}."
        )
    most = math.floor(1 / share + 1e-9)
    if service.gateways_per_node is not None:
        most = min(most, service.gateways_per_node)
    return math.ceil(service.gateways / most)


def drain_s(service: ServiceConfig) -> int:
    """Time that a pod has to finish what it has accepted, s."""
    return math.ceil(service.request_timeout_s) + DRAIN_S // 2


def grace_s(service: ServiceConfig) -> int:
    """Time that a pod has for its end, s."""
    return math.ceil(service.request_timeout_s) + DRAIN_S


def gateway_changes(service: ServiceConfig, values: Values) -> list[dict[str, Any]]:
    """Return what changes in the worker group of the gateways, the first one, as operations of a JSON patch.

    Args:
        service: The service.
        values: What the cluster is like.

    Raises:
        InputError: As for :func:`gateway_pods`.
    """
    pods = gateway_pods(service)
    group = "/spec/rayClusterConfig/workerGroupSpecs/0"
    pod, container = f"{group}/template/spec", f"{group}/template/spec/containers/0"
    new = {
        **{f"{group}/{name}": pods for name in ("replicas", "minReplicas", "maxReplicas")},
        f"{group}/rayStartParams/num-cpus": str(values.core.cpu),
        f"{pod}/terminationGracePeriodSeconds": grace_s(service),
        f"{container}/resources": _resources(values.core, 0, values),
        f"{container}/lifecycle/preStop/exec/command/2": str(drain_s(service)),
    }
    return [{"op": "replace", "path": path, "value": value} for path, value in new.items()]


def site_group(base: Mapping[str, Any], site: Site, service: ServiceConfig, values: Values) -> dict[str, Any]:
    """Return the worker group of a site: that of the gateways, at another place, with what its edges need.

    Args:
        base: The group of the gateways, as the manifests have it.
        site: The site.
        service: The service.
        values: What the cluster is like.
    """
    group = copy.deepcopy(dict(base))
    group["groupName"] = site.name
    group["rayStartParams"] = {
        "num-cpus": str(site.size.cpu),
        # KubeRay passes it through a shell.
        "resources": '"{}"'.format(json.dumps({site.name: site.units}).replace('"', '\\"')),
    }
    group["template"]["metadata"]["labels"]["app.kubernetes.io/component"] = site.name
    spec = group["template"]["spec"]
    spec["nodeSelector"] = {"edgegen.io/site": site.name}
    spec["terminationGracePeriodSeconds"] = grace_s(service)
    (container,) = spec["containers"]
    container["resources"] = _resources(site.size, site.gpus, values)
    container["lifecycle"]["preStop"]["exec"]["command"][-1] = str(drain_s(service))
    if site.gpus:
        group["rayStartParams"]["num-gpus"] = str(site.gpus)
        spec["tolerations"] = [{"key": values.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]
    if values.models:
        container["volumeMounts"] = [{"name": "models", "mountPath": MODELS, "readOnly": True}]
        claim = {"claimName": "edgegen-models", "readOnly": True}
        spec["volumes"] = [{"name": "models", "persistentVolumeClaim": claim}]
    return group


def _site_of(edge: str, resources: Mapping[str, float]) -> str:
    if len(resources) != 1:
        named = f"names {', '.join(resources)}" if resources else "names none"
        raise InputError(
            f"resources of edge '{edge}' {named}, but on a cluster it names the one site of the edge, as in "
            "{site-a: 1}."
        )
    (name,) = resources
    if name == CORE:
        raise InputError(f"Edge '{edge}' is at '{CORE}', which is the place of the gateways; give it another site.")
    if _SITE.fullmatch(name) is None:
        raise InputError(
            f"Edge '{edge}' is at '{name}', but a site is a name of at most 30 small letters, digits and dashes that "
            "begins with a letter."
        )
    return name


def _resources(size: Size, gpus: int, values: Values) -> dict[str, Any]:
    amounts = {"cpu": str(size.cpu), "memory": size.memory}
    if gpus:
        amounts[values.gpu_resource] = str(gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}
