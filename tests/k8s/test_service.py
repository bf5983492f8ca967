"""The Serve configuration of every overlay: what `serve build` emits, and placeable on the overlay's sites."""

from __future__ import annotations

import importlib.util
import json

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

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


@pytest.fixture(scope="module")
def converter(manifests):
    spec = importlib.util.spec_from_file_location("edgegen_k8s_serve_config", manifests.root / "serve_config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_what_serve_build_emits(manifests, converter, overlay):
    service = manifests.root / "overlays" / overlay / "service.yaml"
    expected = serve_config(manifests, overlay)
    assert converter.serve_config(service) == expected, f"make serve-config.yaml of {overlay} again"
    assert expected["applications"][0]["args"] == yaml.safe_load(service.read_text())


def test_the_converter_prints_yaml_and_nothing_else(manifests, converter, capsys):
    assert converter.main([str(manifests.root / "overlays" / "kind" / "service.yaml")]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == serve_config(manifests, "kind")


def test_the_converter_refuses_a_wrong_config_in_one_sentence(manifests, converter, tmp_path, capsys):
    wrong = tmp_path / "service.yaml"
    wrong.write_text((manifests.root / "overlays" / "kind" / "service.yaml").read_text().replace("policy:", "polcy:"))
    assert converter.main([str(wrong)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "polcy" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert converter.main([]) == 2


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
