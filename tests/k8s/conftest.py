# SPDX-License-Identifier: Apache-2.0
"""The manifests as a cluster would get them: every overlay and its jobs, rendered once."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("kind", "gpu", "prod")
JOBS = ("train", "sweep", "interactive")
PARTS = (*OVERLAYS, *(f"{overlay}/{job}" for overlay in OVERLAYS for job in JOBS), "monitoring")
RAY_KINDS = ("RayService", "RayJob", "RayCluster")


def pytest_generate_tests(metafunc):
    """Run a test that takes `part` or `overlay` once for each."""
    for name, values in (("part", PARTS), ("overlay", OVERLAYS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


class Manifests:
    """Rendered objects by part: an overlay ("kind"), one of its jobs ("kind/train"), or "monitoring"."""

    root = K8S
    overlays = OVERLAYS

    def __init__(self, parts):
        self.parts = parts

    def with_jobs(self, overlay):
        """Objects of an overlay and its jobs."""
        return [one for part in (overlay, *(f"{overlay}/{job}" for job in JOBS)) for one in self.parts[part]]

    def pick(self, part, kind, name=None):
        """The one object of a kind."""
        (found,) = [one for one in self.parts[part] if one["kind"] == kind and name in (None, one["metadata"]["name"])]
        return found

    @staticmethod
    def ray_cluster(one):
        """The spec of a RayCluster, also inside a RayService or RayJob."""
        return one["spec"].get("rayClusterConfig") or one["spec"].get("rayClusterSpec") or one["spec"]

    def pods(self, objects):
        """Every pod that comes of objects, as (name, labels, pod spec), with the labels that KubeRay adds."""
        found = []
        for one in objects:
            templates: list[tuple[str, Any, dict[str, str]]]
            kind, name, spec = one["kind"], one["metadata"]["name"], one.get("spec", {})
            if kind in ("Deployment", "StatefulSet"):
                templates = [(name, spec["template"], {})]
            elif kind == "CronJob":
                templates = [(name, spec["jobTemplate"]["spec"]["template"], {})]
            elif kind in RAY_KINDS:
                cluster = self.ray_cluster(one)
                head = cluster["headGroupSpec"]["template"]
                templates = [(f"{name} head", head, {"ray.io/node-type": "head"})]
                templates += [
                    (f"{name} {group['groupName']}", group["template"], {"ray.io/node-type": "worker"})
                    for group in cluster["workerGroupSpecs"]
                ]
                if kind == "RayJob":
                    templates.append((f"{name} submitter", spec["submitterPodTemplate"], {}))
            else:
                continue
            for pod, template, added in templates:
                found.append((pod, {**template["metadata"].get("labels", {}), **added}, template["spec"]))
        return found

    def containers(self, objects):
        """Every container, as (name, container, pod spec), the autoscaler's sidecar included."""
        found = [
            (f"{pod}: {container['name']}", container, spec)
            for pod, _, spec in self.pods(objects)
            for container in [*spec["containers"], *spec.get("initContainers", [])]
        ]
        for one in objects:
            if one["kind"] in RAY_KINDS and self.ray_cluster(one).get("enableInTreeAutoscaling"):
                cluster = self.ray_cluster(one)
                head = cluster["headGroupSpec"]["template"]["spec"]
                # KubeRay gives it the image of the head unless told otherwise.
                sidecar = {"image": head["containers"][0]["image"], **cluster["autoscalerOptions"]}
                found.append((f"{one['metadata']['name']}: autoscaler", sidecar, head))
        return found


def _render(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="session")
def manifests():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; it renders the overlays, without a cluster (`kubectl kustomize`)")
    folders = {part: K8S / "overlays" / part for part in PARTS} | {"monitoring": K8S / "monitoring"}
    with ThreadPoolExecutor(2) as pool:
        return Manifests(dict(zip(folders, pool.map(_render, folders.values()), strict=True)))
