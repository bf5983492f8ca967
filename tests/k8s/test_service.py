# SPDX-License-Identifier: Apache-2.0
"""The Serve configuration of every overlay: what `serve build` emits, and placeable on the overlay's sites."""

from __future__ import annotations

import json

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from edgegen.algorithms.core.registered import CACHE_VARIABLE, URI_VARIABLE
from edgegen.serve.app import APP_NAME
from edgegen.serve.config import load_config
from edgegen.serve.front import Limits
from edgegen.serve.running import SERVE_VARIABLES


def serve_config(manifests, overlay):
    return yaml.safe_load(manifests.pick(overlay, "RayService")["spec"]["serveConfigV2"])


def test_serve_accepts_it(manifests, overlay):
    config = serve_config(manifests, overlay)
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    assert application["name"] == APP_NAME
    assert application["import_path"] == "edgegen.serve.app:app"


def test_every_deployment_has_a_place(manifests, overlay):
    config = load_config(manifests.root / "overlays" / overlay / "service.yaml")
    (application,) = serve_config(manifests, overlay)["applications"]
    deployments = {one["name"]: one["ray_actor_options"] for one in application["deployments"]}
    assert set(deployments) == {edge.name for edge in config.edges} | {"gateway"}
    cluster = manifests.ray_cluster(manifests.pick(overlay, "RayService"))
    free = {}
    for group in cluster["workerGroupSpecs"]:
        start = group["rayStartParams"]
        resources = json.loads(start["resources"][1:-1].replace('\\"', '"'))
        free[group["groupName"]] = {"CPU": int(start["num-cpus"]), "GPU": int(start.get("num-gpus", 0)), **resources}
        # A site is one name: the node's label, the group, and the Ray resource.
        assert group["template"]["spec"]["nodeSelector"] == {"edgegen.io/site": group["groupName"]}
        assert set(resources) == {group["groupName"]}
        assert group["minReplicas"] == group["maxReplicas"] == 1
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["cpu"]) == int(start["num-cpus"])
        assert int(limits.get("nvidia.com/gpu", 0)) == int(start.get("num-gpus", 0))
    for name, options in deployments.items():
        wanted = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0), **options["resources"]}
        (place,) = [group for group, offer in free.items() if all(key in offer for key in options["resources"])]
        for key, amount in wanted.items():
            free[place][key] -= amount
            assert free[place][key] >= 0, f"{name} asks for more {key} than {place} has"
    edges = {edge.name: edge for edge in config.edges}
    if overlay != "kind":
        assert all(edge.device.startswith("cuda") and edge.num_gpus == 1 for edge in edges.values())


@pytest.mark.parametrize("gpu_overlay", ["gpu", "prod"])
def test_models_and_policies_are_read_wherever_they_are_asked_for(manifests, gpu_overlay):
    # The head builds the application, core decides, sites load: a path in a service config has to be one on all.
    # Mounted twice in one place is refused by Kubernetes, though its schema allows it.
    cluster = manifests.ray_cluster(manifests.pick(gpu_overlay, "RayService"))
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = part["template"]["spec"]
        (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["mountPath"] == "/models"]
        (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
        assert volume["persistentVolumeClaim"] == {"claimName": "edgegen-models", "readOnly": True}
        assert mount["readOnly"]


def test_the_gateway_waits_longer_than_the_service(manifests):
    policy = manifests.pick("prod", "BackendTrafficPolicy")
    limit = policy["spec"]["timeout"]["http"]["requestTimeout"]
    config = load_config(manifests.root / "overlays" / "prod" / "service.yaml")
    assert limit.endswith("s")
    assert config.request_timeout_s + 10 <= float(limit[:-1])
    upgrade = manifests.pick("prod", "RayService")["spec"]["upgradeStrategy"]
    assert upgrade["clusterUpgradeOptions"]["gatewayClassName"] == "eg"  # of Envoy, whose policy it is


def test_what_is_replaced_finishes_what_it_has_accepted(manifests, overlay):
    config = load_config(manifests.root / "overlays" / overlay / "service.yaml")
    (application,) = serve_config(manifests, overlay)["applications"]
    for deployment in application["deployments"]:
        assert deployment["graceful_shutdown_timeout_s"] >= config.request_timeout_s
    service = manifests.pick(overlay, "RayService")["spec"]
    for group in service["rayClusterConfig"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        (*drain, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert drain == ["bash", "jobs/drain.sh"]
        assert config.request_timeout_s <= int(seconds) < pod["terminationGracePeriodSeconds"]
    assert service["rayClusterDeletionDelaySeconds"] >= config.request_timeout_s + 30  # after traffic has moved
    head = service["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    settings = {one["name"]: one.get("value") for one in head["env"]}
    assert settings["RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS"] == "1"  # but for what hangs


def test_every_proxy_has_what_stands_before_the_gateway(manifests, overlay):
    cluster = manifests.pick(overlay, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len(groups) >= 5
    name = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    for group in groups:
        settings = {one["name"]: one.get("value") for one in group["template"]["spec"]["containers"][0]["env"]}
        assert settings[name] == SERVE_VARIABLES[name]
    config = load_config(manifests.root / "overlays" / overlay / "service.yaml")
    assert Limits().answer_timeout_s >= config.request_timeout_s + 30
    assert (Limits().receive_timeout_s, Limits().max_connections) == (config.receive_timeout_s, config.max_connections)


def test_keys_are_mounted_where_the_gateways_are_and_nowhere_else(manifests):
    cluster = manifests.ray_cluster(manifests.pick("prod", "RayService"))
    service = load_config(manifests.root / "overlays" / "prod" / "service.yaml")
    for group in cluster["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == "/keys"]
        if group["groupName"] != "core":
            assert mounts == []
            assert not [volume for volume in pod["volumes"] if "secret" in volume]
            continue
        assert service.keys == "/keys/keys.json"
        assert mounts == [{"name": "keys", "mountPath": "/keys", "readOnly": True}]  # a subPath would never change
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
        assert volume["secret"] == {"secretName": "edgegen-keys", "defaultMode": 0o440}
    assert "keys" not in str(manifests.pick("kind", "RayService")["spec"]["rayClusterConfig"])


@pytest.mark.parametrize("follower", ["kind", "prod"])
def test_whoever_follows_an_alias_knows_the_registry_and_has_room(manifests, follower):
    cluster = manifests.ray_cluster(manifests.pick(follower, "RayService"))
    service = load_config(manifests.root / "overlays" / follower / "service.yaml")
    assert service.follow is not None
    train = manifests.pick(f"{follower}/train", "RayJob")["spec"]["entrypoint"].split()
    assert service.follow == f"models:/{train[train.index('--register') + 1]}@champion"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        settings = {one["name"]: one.get("value") for one in container["env"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        if "groupName" in group and group["groupName"] != "core":
            assert not {URI_VARIABLE, CACHE_VARIABLE} & set(settings)
            continue
        assert settings[URI_VARIABLE] == "http://edgegen-mlflow:5000"
        mount = mounts[settings[CACHE_VARIABLE]]
        assert not mount.get("readOnly")
        assert [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == mount["name"]]
