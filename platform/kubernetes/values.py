# SPDX-License-Identifier: Apache-2.0
"""What a cluster is like on which a service is to run: images, storage, sizes, and the ways in; as frozen data.

The service config says which sites there are and what runs at them. Everything that depends on the cluster instead, and
that edgegen can not know, is here; the defaults suit a cluster in a cloud.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from edgegen.envs.core.errors import from_validation
from edgegen.envs.core.fields import Count, Flag, Frozen
from edgegen.envs.core.yaml_files import read_mapping

_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_HOST = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_IMAGE = r"^[\w.:/-]+(@sha256:[0-9a-f]{64})?$"
_CIDR = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"
_MEMORY = r"^[1-9][0-9]{0,5}(Mi|Gi)$"
_CLASS = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


def _pinned(image: str) -> str:
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        raise ValueError(f"'{image}' has neither a tag nor a digest, so that nobody could say what runs")
    return image


Name = Annotated[str, Field(pattern=_NAME)]
Host = Annotated[str, Field(pattern=_HOST)]
ImageName = Annotated[str, Field(pattern=_IMAGE), AfterValidator(_pinned)]
Cidr = Annotated[str, Field(pattern=_CIDR)]
Memory = Annotated[str, Field(pattern=_MEMORY)]
ClassName = Annotated[str, Field(pattern=_CLASS)]


class Size(Frozen):
    """What a pod gets; its memory is promised in full.

    Attributes:
        cpu: Whole CPUs.
        memory: Memory, in Mi or Gi.
    """

    cpu: Annotated[Count, Field(le=1024)]
    memory: Memory


class Ingress(Frozen):
    """A way in for people, by an Ingress.

    Attributes:
        class_name: The controller's class.
        host: Name under which the service is reached.
        tls_secret: Secret with its certificate; plain HTTP if left out.
        annotations: What this controller wants to be told besides, such as how long a request may take.
        namespace: Namespace of the controller, which may then reach the service.
    """

    class_name: ClassName
    host: Host
    tls_secret: Name | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    namespace: Name


class Route(Frozen):
    """A way in for people, by a Gateway that is there.

    Attributes:
        gateway: Its name.
        namespace: Its namespace.
        proxies: Namespace of the pods that pass requests on for it; that of the Gateway if left out.
        host: Name under which the service is reached.
    """

    gateway: Name
    namespace: Name
    proxies: Name | None = None
    host: Host


class Values(Frozen):
    """What a cluster is like.

    Attributes:
        target: ``cluster``, or ``kind`` for one on a laptop: small, volumes for one node, and nodes with labels.
        image: Image of the service, with its tag or digest; edgegen's own name and tag if left out.
        jobs_image: Image of the jobs, which learn on CPUs.
        mlflow_image: Image of the tracking server.
        storage_class: Storage class of volumes for one pod; the cluster's default if left out.
        shared_storage_class: Storage class of volumes that many pods write to (ReadWriteMany).
        gpu_resource: What GPUs are called by the device plugin.
        core: Size of each pod with gateways.
        site: Size of a site without GPU.
        gpu_site: Size of a site with GPUs.
        sites: Other sizes, by site.
        models: Whether there is a volume for models and policies, mounted at ``/models``.
        backup: Whether MLflow's database is dumped every night.
        object_store: Whether MLflow's artifacts are in an object store.
        monitoring: Whether there is a Prometheus operator.
        docs_url: Address of edgegen's pages as a website, to which alerts then link.
        node_local_dns: Whether names are looked up at a cache on every node.
        upgrade: ``cluster``: a new Ray cluster takes over at once. ``steps``: in steps, through a Gateway of its own.
            ``none``: where there is no room for two.
        gateway_class: Class of the Gateway for upgrades in steps.
        asynchronous: Whether the job ``train`` plays and learns without taking turns.
        queue: LocalQueue of Kueue in which jobs wait; they start at once if left out.
        ingress: A way in.
        route: Another one.
        api_server: Where the API server is; anywhere if left out.
        store_addresses: Where the object store is; anywhere if left out.
    """

    target: Literal["cluster", "kind"] = "cluster"
    image: ImageName | None = None
    jobs_image: ImageName | None = None
    mlflow_image: ImageName | None = None
    storage_class: ClassName | None = None
    shared_storage_class: ClassName | None = None
    gpu_resource: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] = "nvidia.com/gpu"
    core: Size = Size(cpu=1, memory="2Gi")
    site: Size = Size(cpu=2, memory="3Gi")
    gpu_site: Size = Size(cpu=4, memory="24Gi")
    sites: dict[str, Size] = Field(default_factory=dict)
    models: Flag = False
    backup: Flag = False
    object_store: Flag = False
    monitoring: Flag = False
    docs_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None = None
    node_local_dns: Flag = False
    upgrade: Literal["cluster", "steps", "none"] = "cluster"
    gateway_class: ClassName | None = None
    asynchronous: Flag = False
    queue: Name | None = None
    ingress: Ingress | None = None
    route: Route | None = None
    api_server: tuple[Cidr, ...] = ()
    store_addresses: tuple[Cidr, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.upgrade == "steps") != (self.gateway_class is not None):
            raise ValueError("gateway_class and upgrade: steps must be given together, or neither of them")
        for name, way in {"ingress": self.ingress, "route": self.route}.items():
            if way is not None and self.upgrade == "steps":
                raise ValueError(
                    f"{name} is given, but with upgrade: steps the way in is the Gateway that KubeRay makes"
                )
        if self.docs_url is not None and not self.monitoring:
            raise ValueError("docs_url is given, but monitoring is false, so that there are no alerts")
        if self.store_addresses and not self.object_store:
            raise ValueError("store_addresses is given, but object_store is false")
        return self

    def image_of(self, gpus: bool) -> str:
        """Image of the service; the one with CUDA where sites have GPUs."""
        return self.image or f"{_own_image()}{'-cuda' if gpus else ''}"

    @property
    def image_of_jobs(self) -> str:
        """Image of the jobs."""
        return self.jobs_image or _own_image()

    @property
    def image_of_mlflow(self) -> str:
        """Image of the tracking server."""
        return self.mlflow_image or f"edgegen-mlflow:{importlib.metadata.version('mlflow')}"


def load_values(file: Path | None, overrides: Mapping[str, Any]) -> Values:
    """Read what a cluster is like.

    Args:
        file: A YAML file; only defaults if None.
        overrides: Values that replace top-level fields, or fields of these by dotted names.

    Raises:
        InputError: If the file can not be read, or a field or value is impossible.
    """
    data: dict[str, Any] = {} if file is None else read_mapping(file, "Values file")
    for name, value in overrides.items():
        *parents, leaf = name.split(".")
        place = data
        for parent in parents:
            inner = place.get(parent)
            place[parent] = dict(inner) if isinstance(inner, dict) else {}
            place = place[parent]
        place[leaf] = value
    for name in ("core", "site", "gpu_site"):  # of these the one or the other may be given
        given, usual = data.get(name), Values.model_fields[name].default
        if isinstance(given, dict):
            data[name] = {**usual.model_dump(), **given}
    try:
        return Values.model_validate(data)
    except ValidationError as error:
        where = error.errors(include_url=False)[0]["loc"]
        parts = {"ingress": Ingress.model_fields, "route": Route.model_fields}
        known = parts.get(str(where[0]), Values.model_fields) if len(where) > 1 else Values.model_fields
        raise from_validation(error, "Values of the cluster", known) from None


def _own_image() -> str:
    version = importlib.metadata.version
    return f"edgegen:{version('edgegen')}-ray{version('ray')}"
