# SPDX-License-Identifier: Apache-2.0
"""Every rendered object against the schemas and rules with which an API server would check it.

Unknown fields are refused, and the rules of KubeRay's CRDs evaluated.
"""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

from tests.k8s.rules import broken_rules

KUBERNETES = "1.34"
CRD_VARIABLE = "EDGEGEN_KUBERAY_CRDS"
# What the manifests use of Envoy Gateway's API, from its reference; no package has the schemas.
ENVOY = {
    "BackendTrafficPolicy": {
        "properties": {
            "apiVersion": {"const": "gateway.envoyproxy.io/v1alpha1"},
            "kind": {},
            "metadata": {},
            "spec": {
                "required": ["targetRefs"],
                "properties": {
                    "targetRefs": {
                        "items": {
                            "required": ["group", "kind", "name"],
                            "properties": {
                                "group": {"const": "gateway.networking.k8s.io"},
                                "kind": {"enum": ["Gateway", "HTTPRoute", "GRPCRoute"]},
                                "name": {"type": "string"},
                            },
                        }
                    },
                    "timeout": {
                        "properties": {
                            "http": {"properties": {"requestTimeout": {"pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}}}
                        }
                    },
                },
            },
        }
    }
}
# The same of the Gateway API, v1.
GATEWAY = {
    "HTTPRoute": {
        "properties": {
            "apiVersion": {"const": "gateway.networking.k8s.io/v1"},
            "kind": {},
            "metadata": {},
            "spec": {
                "properties": {
                    "parentRefs": {
                        "items": {
                            "required": ["name"],
                            "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
                        }
                    },
                    "hostnames": {"items": {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}},
                    "rules": {
                        "items": {
                            "properties": {
                                "backendRefs": {
                                    "items": {
                                        "required": ["name", "port"],
                                        "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
                                    }
                                },
                                "timeouts": {"properties": {"request": {"pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}}},
                            }
                        }
                    },
                },
            },
        }
    }
}
CRD_FOLDER = Path(__file__).parents[3] / "shared" / "kuberay-crds"


def schema_errors(one):
    group, broken = one["apiVersion"].rpartition("/")[0], list[str]()
    if group == "ray.io":
        schema = _strict(kuberay_schema(one["kind"]))
        broken += broken_rules(kuberay_schema(one["kind"]), one)
    elif group == "gateway.envoyproxy.io":
        schema = _strict(ENVOY[one["kind"]])
    elif group == "gateway.networking.k8s.io":
        schema = _strict(GATEWAY[one["kind"]])
    elif group == "monitoring.coreos.com":
        schema = _strict(getattr(prometheus_operator, one["kind"]).model_json_schema(by_alias=True))
    else:
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [error.message]
        return []
    found = jsonschema.Draft202012Validator(schema).iter_errors(one)
    return [f"{error.json_path}: {error.message}" for error in found] + broken


@cache
def kuberay_schema(kind):
    """The schema of one of KubeRay's kinds, as its CRD has it."""
    folder = Path(os.environ.get(CRD_VARIABLE, CRD_FOLDER))
    plural = f"{kind.lower()}s"
    file = folder / f"ray.io_{plural}.yaml"
    if not file.is_file():
        pytest.skip(
            f"KubeRay's schema {file} is not there. Export it from a cluster with the operator, `kubectl get crd "
            f"{plural}.ray.io -o yaml > FOLDER/{file.name}`, and set {CRD_VARIABLE}=FOLDER."
        )
    crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)  # the file is large
    (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
    return version["schema"]["openAPIV3Schema"]


def _strict(schema):
    """Refuse unknown fields, which an API server drops silently, and read what is Kubernetes' own in a schema."""
    schema = copy.deepcopy(schema)
    _close(schema)
    return schema


def _close(node):
    if isinstance(node, list):
        for one in node:
            _close(one)
        return
    if not isinstance(node, dict):
        return
    if node.pop("x-kubernetes-int-or-string", False):
        node.pop("type", None)
        node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in node and isinstance(node["properties"], dict):
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        for one in node["properties"].values():
            _close(one)
    for key in ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "$defs"):
        value = node.get(key)
        _close(list(value.values()) if key == "$defs" and isinstance(value, dict) else value)


def test_every_object_keeps_its_schema(manifests, part):
    assert manifests.parts[part]
    found = {f"{one['kind']} {one['metadata']['name']}": schema_errors(one) for one in manifests.parts[part]}
    assert {name: errors for name, errors in found.items() if errors} == {}


@pytest.mark.parametrize(
    ("where", "kind", "path", "value"),
    [
        ("kind", "RayService", ("spec", "rayClusterConfig", "headGroupSpecs"), {}),
        ("kind", "RayService", ("spec", "rayClusterConfig", "headGroupSpec", "template", "spec", "nodeSelektor"), {}),
        ("kind", "RayService", ("spec", "excludeHeadPodFromServeSvc"), "yes"),
        ("kind/train", "RayJob", ("spec", "submissionMode"), 3),
        ("kind", "StatefulSet", ("spec", "replicaz"), 1),
        ("kind", "Deployment", ("spec", "replicas"), "one"),
        ("monitoring", "PodMonitor", ("spec", "podMetricsEndpoint"), []),
        ("monitoring", "PrometheusRule", ("spec", "groups"), {}),
        ("prod", "BackendTrafficPolicy", ("spec", "timeout", "http", "requestTimeout"), "150"),
    ],
)
def test_mistakes_are_found(manifests, where, kind, path, value):
    broken = copy.deepcopy(next(one for one in manifests.parts[where] if one["kind"] == kind))
    node = broken
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    assert schema_errors(broken)


STRATEGY = ("spec", "deletionStrategy")


@pytest.mark.parametrize(
    ("kind", "path", "value", "told"),
    [
        ("RayJob", ("spec", "managedBy"), "somebody", "managedBy field value must be either"),
        ("RayJob", (*STRATEGY, "onSuccess"), {"policy": "DeleteSelf"}, "can not be used together"),
        ("RayJob", (*STRATEGY, "deletionRules", 0, "condition"), {"ttlSeconds": 1}, "requires either the JobStatus"),
        ("RayJob", STRATEGY, {}, "requires either BOTH onSuccess and onFailure"),
        (
            "RayJob",
            (*STRATEGY, "deletionRules", 2, "condition", "jobDeploymentStatus"),
            "Failed",
            "cannot be used together within the same deletion condition",
        ),
        ("RayService", ("spec", "managedBy"), "me", "managedBy field value must be either"),
    ],
)
def test_rules_of_the_crds_are_evaluated(manifests, kind, path, value, told):
    part = "kind/train" if kind == "RayJob" else "kind"
    sound = manifests.pick(part, kind)
    assert list(broken_rules(kuberay_schema(kind), sound)) == []
    broken = copy.deepcopy(sound)
    node = broken
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    found = list(broken_rules(kuberay_schema(kind), broken))
    assert len(found) == 1
    assert told.replace("can not", "cannot") in found[0]
    assert found[0] in schema_errors(broken)


def test_rules_about_changes_are_evaluated_where_something_changes(manifests):
    schema, one = kuberay_schema("RayService"), copy.deepcopy(manifests.pick("kind", "RayService"))
    options = one["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    options["backend"] = "redis"
    assert list(broken_rules(schema, one, copy.deepcopy(one))) == []
    old = copy.deepcopy(one)
    options["backend"] = "rocksdb"
    (found,) = broken_rules(schema, one, old)
    assert found.endswith("gcsFaultToleranceOptions.backend is immutable (False)")
