# SPDX-License-Identifier: Apache-2.0
"""The overlays that are committed are those that the command writes, and whatever it can write keeps the schemas."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from edgegen.platform.kubernetes.overlay import HEADER
from edgegen.platform.kubernetes.overlay import overlay as make_overlay
from edgegen.platform.kubernetes.serve_config import serve_config
from edgegen.platform.kubernetes.values import load_values
from edgegen.serve.config import load_config
from tests.k8s.test_schemas import schema_errors


def test_the_committed_overlays_are_what_the_command_writes(manifests, overlay):
    folder = manifests.root / "overlays" / overlay
    service, values = folder / "service.yaml", load_values(folder / "values.yaml", {})
    made = make_overlay(load_config(service), serve_config(service), values, manifests.root, folder)
    there = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*.yaml")
        if path.read_text().startswith(HEADER)
    }
    assert there == made, f"render {overlay} again; its values.yaml says how"
    assert {path.name for path in folder.glob("*.yaml")} - set(made) == {"service.yaml", "values.yaml"}
    (application,) = yaml.safe_load(made["serve-config.yaml"])["applications"]
    assert application["args"] == yaml.safe_load(service.read_text())


EVERYTHING = {
    "image": "registry.example.com/edge/gen@sha256:" + "0" * 64,
    "jobs_image": "registry.example.com:5000/jobs:1",
    "mlflow_image": "tracking:3",
    "storage_class": "fast",
    "shared_storage_class": "shared",
    "gpu_resource": "amd.com/gpu",
    "core": {"cpu": 2, "memory": "4Gi"},
    "sites": {"attic": {"cpu": 8, "memory": "64Gi"}},
    "models": True,
    "backup": True,
    "object_store": True,
    "monitoring": True,
    "docs_url": "https://docs.example.org/edgegen",
    "node_local_dns": True,
    "upgrade": "none",
    "asynchronous": True,
    "queue": "night",
    "ingress": {"class_name": "traefik", "host": "pictures.example.org", "tls_secret": "tls", "namespace": "traefik"},
    "route": {"gateway": "web", "namespace": "gateways", "proxies": "envoy", "host": "pictures.example.org"},
    "api_server": ["10.0.0.1/32"],
    "store_addresses": ["10.1.0.0/16"],
}
SERVICE = """
models: {shapes-64: {cycles_per_step_gcycles: 0.03}}
edges:
  - {name: one, model: shapes-64, device: "cuda:0", num_cpus: 2, num_gpus: 1, resources: {attic: 1}}
  - {name: two, model: shapes-64, device: "cuda:1", num_cpus: 2, num_gpus: 1, resources: {attic: 1}}
  - {name: three, model: shapes-64, resources: {cellar: 0.5}}
gateways: 5
gateway_resources: {core: 0.5}
follow: models:/mine@champion
keys: /keys/people.json
url_key_env: EDGEGEN_URL_KEY
request_timeout_s: 45.5
"""


@pytest.fixture(scope="module")
def everything(manifests, tmp_path_factory):
    """What a cluster gets where every value is given."""
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "service.yaml").write_text(SERVICE)
    service = load_config(folder / "service.yaml")
    values = load_values(None, EVERYTHING)
    # What Serve makes of it is tested elsewhere.
    for name, text in make_overlay(service, {"applications": []}, values, manifests.root, folder).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    made = {}
    for part in ("", "train", "sweep", "interactive"):
        done = subprocess.run(
            ["kubectl", "kustomize", folder / part], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        made[part] = list(yaml.safe_load_all(done.stdout))
    return made


def pick(objects, kind, name=None):
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def test_all_values_together_keep_the_schemas(everything):
    for objects in everything.values():
        errors = {f"{one['kind']} {one['metadata']['name']}": schema_errors(one) for one in objects}
        assert {name: found for name, found in errors.items() if found} == {}


def test_sites_follow_from_the_edges(everything):
    service = pick(everything[""], "RayService")["spec"]
    core, attic, cellar = service["rayClusterConfig"]["workerGroupSpecs"]
    # Two gateways fit one `core`, so five need three pods.
    assert (core["replicas"], core["minReplicas"], core["maxReplicas"]) == (3, 3, 3)
    assert core["rayStartParams"]["num-cpus"] == "2"
    assert attic["rayStartParams"] == {"num-cpus": "8", "num-gpus": "2", "resources": '"{\\"attic\\": 2}"'}
    assert cellar["rayStartParams"] == {"num-cpus": "2", "resources": '"{\\"cellar\\": 1}"'}
    limits = attic["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "8", "memory": "64Gi", "amd.com/gpu": "2"}
    assert attic["template"]["spec"]["tolerations"][0]["key"] == "amd.com/gpu"
    assert "tolerations" not in cellar["template"]["spec"]
    # Head, three gateways, two sites: one of them may go at a time.
    assert pick(everything[""], "PodDisruptionBudget", "edgegen-serve")["spec"]["minAvailable"] == 5
    for group in (core, attic, cellar):
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] == 46 + 60
    assert service["rayClusterDeletionDelaySeconds"] == 46 + 60
    assert service["upgradeStrategy"]["type"] == "None"
    (secret,) = [
        one
        for one in service["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
        if one["name"] == "EDGEGEN_URL_KEY"
    ]
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "edgegen-url-key", "key": "key"}}


def test_values_arrive(everything):
    service = pick(everything[""], "RayService")["spec"]["rayClusterConfig"]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in service["workerGroupSpecs"]}
    assert images == {EVERYTHING["image"]}
    assert pick(everything[""], "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "tracking:3"
    for part in ("train", "sweep"):
        job = pick(everything[part], "RayJob")
        assert ("--asynchronous" in job["spec"]["entrypoint"]) == (part == "train")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
        (container,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        assert container["image"] == EVERYTHING["jobs_image"]
    claims = {
        one["metadata"]["name"]: one["spec"]["storageClassName"]
        for one in everything[""]
        if one["kind"] == "PersistentVolumeClaim"
    }
    assert claims == {"edgegen-runs": "shared", "edgegen-models": "shared", "edgegen-mlflow-backups": "fast"}
    for one in everything[""]:
        if one["kind"] == "StatefulSet":
            assert one["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    autoscaler = pick(everything[""], "NetworkPolicy", "ray-autoscaler")["spec"]["egress"][0]
    assert autoscaler["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    store = pick(everything[""], "NetworkPolicy", "mlflow-object-store")["spec"]["egress"][0]
    assert store["to"] == [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    pick(everything[""], "NetworkPolicy", "allow-node-local-dns")
    rules = [rule for group in pick(everything[""], "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    for rule in rules:
        url = f"https://docs.example.org/edgegen/day-2.html#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == url


def test_ways_in_wait_for_the_service_and_are_let_through(everything):
    ingress = pick(everything[""], "Ingress")["spec"]
    assert ingress["tls"] == [{"hosts": ["pictures.example.org"], "secretName": "tls"}]
    route = pick(everything[""], "HTTPRoute")["spec"]
    assert route["rules"][0]["timeouts"] == {"request": f"{46 + 30}s"}
    for name, namespace in (("ingress-clients", "traefik"), ("route-clients", "envoy")):
        policy = pick(everything[""], "NetworkPolicy", name)["spec"]
        (rule,) = policy["ingress"]
        assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
        assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
        assert policy["podSelector"]["matchLabels"] == {"edgegen.io/cluster": "serve", "ray.io/node-type": "worker"}
