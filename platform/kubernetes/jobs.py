# SPDX-License-Identifier: Apache-2.0
"""What an overlay says of the jobs: their image, and the queue in which they wait."""

from __future__ import annotations

from typing import Any

from edgegen.platform.kubernetes.kustomize import NAMESPACE, image_entry, json_patch
from edgegen.platform.kubernetes.values import Values

JOBS = ("train", "sweep", "interactive")
"""Ray clusters that are applied by themselves, because applying one starts it."""

_IMAGE_OF = {
    "RayJob": "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.image",
    "RayCluster": "spec.headGroupSpec.template.spec.containers.0.image",
}
_IMAGE_VARIABLE = {
    "RayJob": "spec.rayClusterSpec.workerGroupSpecs.*.template.spec.containers.0.env.[name=EDGEGEN_IMAGE].value",
    "RayCluster": "spec.workerGroupSpecs.*.template.spec.containers.0.env.[name=EDGEGEN_IMAGE].value",
}


def job_kustomization(job: str, values: Values, way: str) -> dict[str, Any]:
    """Return the kustomization of a job in an overlay.

    Args:
        job: Its name.
        values: What the cluster is like.
        way: From its folder to the manifests.
    """
    kind = "RayCluster" if job == "interactive" else "RayJob"
    made: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [f"{way}/jobs/{job}"],
        "images": [image_entry("edgegen", values.image_of_jobs)],
        # Registered policies say in which image they were trained.
        "replacements": [
            {
                "source": {"kind": kind, "fieldPath": _IMAGE_OF[kind]},
                "targets": [{"select": {"kind": kind}, "fieldPaths": [_IMAGE_VARIABLE[kind]]}],
            }
        ],
    }
    components = [f"{way}/components/asynchronous"] if values.asynchronous and job == "train" else []
    patches = []
    if values.queue is not None and kind == "RayJob":
        label = "/metadata/labels/kueue.x-k8s.io~1queue-name"
        components.append(f"{way}/components/kueue")
        patches.append(json_patch(kind, None, "replace", label, values.queue))
    made |= {"components": components} if components else {}
    return made | ({"patches": patches} if patches else {})
