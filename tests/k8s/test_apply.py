# SPDX-License-Identifier: Apache-2.0
"""Server-side apply against a real API server, where the variable `KUBE_APISERVER` names one.

What it checks is what no schema says: defaults, admission, fields that two managers fight for. Everything goes to a
namespace of its own, which is deleted in the end. Who may do that is said by the usual kubeconfig.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

VARIABLE = "KUBE_APISERVER"
CLUSTER_WIDE = ("Namespace", "PriorityClass", "StorageClass", "ClusterRole", "ClusterRoleBinding")


def moved(objects: list[dict[str, Any]], namespace: str, served: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Objects in another namespace, without those that the server has no kind for, and without other namespaces'."""
    found = []
    for one in copy.deepcopy(objects):
        own = one["metadata"].get("namespace") == "edgegen"
        if own and one["kind"] not in CLUSTER_WIDE and (one["apiVersion"].partition("/")[0], one["kind"]) in served:
            one["metadata"]["namespace"] = namespace
            found.append(one)
    return found


def test_only_what_a_server_knows_is_moved(manifests):
    served = {("v1", "Service"), ("apps", "StatefulSet")}
    found = moved(manifests.parts["kind"], "elsewhere", served)
    assert {(one["kind"], one["metadata"]["namespace"]) for one in found} == {
        ("Service", "elsewhere"), ("StatefulSet", "elsewhere"),
    }  # fmt: skip
    assert all(one["metadata"].get("namespace") != "elsewhere" for one in manifests.parts["kind"])


class Server:
    """An API server, by way of kubectl."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.namespace = f"edgegen-test-{uuid.uuid4().hex[:8]}"

    def ask(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl; returns what it printed."""
        command = ["kubectl", "--server", self.address, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def served(self) -> set[tuple[str, str]]:
        """Kinds that it has, with their groups."""
        lines = [line.split() for line in self.ask("api-resources", "--no-headers").splitlines()]
        return {(line[-3].partition("/")[0], line[-1]) for line in lines}

    def apply(self, objects: list[dict[str, Any]], *options: str) -> list[str]:
        """Apply objects on the side of the server; returns a line for each."""
        text = yaml.safe_dump_all(objects)
        return self.ask("apply", "--server-side", "--validate=strict", *options, "-f", "-", given=text).splitlines()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    address = os.environ.get(VARIABLE)
    if not address:
        pytest.skip(f"{VARIABLE} names no API server to apply the manifests to, such as https://127.0.0.1:6443")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; it applies the manifests")
    made = Server(address)
    made.ask("create", "namespace", made.namespace)
    try:
        yield made
    finally:
        made.ask("delete", "namespace", made.namespace, "--wait=false")


def test_an_api_server_takes_every_overlay_and_its_jobs(manifests, server, overlay):
    objects = moved(manifests.with_jobs(overlay), server.namespace, server.served())
    assert objects
    tried = server.apply(objects, "--dry-run=server")
    assert len(tried) == len(objects)
    assert all(line.endswith("serverside-applied (server dry run)") for line in tried)


def test_an_overlay_that_is_applied_twice_changes_nothing(manifests, server):
    # Without what would start pods: no image is there.
    quiet = ("Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "PersistentVolumeClaim")
    objects = [one for one in moved(manifests.parts["kind"], server.namespace, server.served()) if one["kind"] in quiet]
    assert len(server.apply(objects)) == len(objects)
    text = yaml.safe_dump_all(objects)
    assert server.ask("diff", "--server-side", "-f", "-", given=text) == ""  # a difference is an exit status of 1
