# SPDX-License-Identifier: Apache-2.0
"""The network policies, evaluated as Kubernetes does: what must be able to talk can, and what need not can not."""

from __future__ import annotations

import ipaddress

import pytest

NAMESPACE = {"kubernetes.io/metadata.name": "edgegen"}
OUTSIDE = {
    "dns": ({"kubernetes.io/metadata.name": "kube-system"}, {"k8s-app": "kube-dns"}),
    "operator": ({"kubernetes.io/metadata.name": "kuberay-system"}, {"app.kubernetes.io/name": "kuberay-operator"}),
    "prometheus": ({"kubernetes.io/metadata.name": "monitoring"}, {"app.kubernetes.io/name": "prometheus"}),
    "client": ({"kubernetes.io/metadata.name": "ingress", "edgegen.io/client": "true"}, {"app": "ingress"}),
    "stranger": ({"kubernetes.io/metadata.name": "other"}, {"app": "other"}),
}
ADDRESSES = {
    "api server": "10.96.0.1",
    "internet": "93.184.216.34",
    "metadata service": "169.254.169.254",
    "node's cache of names": "169.254.20.10",
}

NEEDED = [
    ("edgegen head", "dns", 53),
    ("edgegen site-a", "dns", 53),
    ("edgegen-train submitter", "dns", 53),
    # A Ray cluster within itself: GCS, object manager, workers' own ports, Serve's replicas.
    ("edgegen site-a", "edgegen head", 6379),
    ("edgegen head", "edgegen site-c", 34567),
    ("edgegen core", "edgegen site-b", 23456),
    ("edgegen-train driver", "edgegen-train head", 6379),
    ("edgegen-sweep head", "edgegen-sweep trials", 12345),
    ("edgegen-sweep trials", "edgegen-sweep driver", 12345),
    # KubeRay
    ("operator", "edgegen head", 8265),
    ("operator", "edgegen head", 8000),
    ("operator", "edgegen-train head", 8265),
    ("operator", "edgegen-sweep head", 8265),
    ("edgegen-train submitter", "edgegen-train head", 8265),
    ("edgegen-sweep submitter", "edgegen-sweep head", 8265),
    ("edgegen head", "api server", 443),
    ("edgegen head", "api server", 6443),
    ("edgegen head", "edgegen-redis", 6379),
    ("redis cleanup", "edgegen-redis", 6379),
    # Users
    ("client", "edgegen core", 8000),
    ("client", "edgegen site-a", 8000),
    ("client", "edgegen-mlflow", 5000),
    # Tracking
    ("edgegen-train driver", "edgegen-mlflow", 5000),
    ("edgegen-sweep trials", "edgegen-mlflow", 5000),
    ("edgegen-interactive workers", "edgegen-mlflow", 5000),
    ("edgegen-mlflow", "edgegen-postgres", 5432),
    # Clusters that grow
    ("edgegen-sweep head", "api server", 443),
    ("edgegen-interactive head", "api server", 443),
    ("edgegen-train driver", "edgegen-train runners", 12345),
    ("edgegen-interactive workers", "edgegen-interactive head", 6379),
    # Monitoring
    ("prometheus", "edgegen head", 8080),
    ("prometheus", "edgegen site-b", 8080),
    ("prometheus", "edgegen-train driver", 8080),
]
DENIED = [
    ("stranger", "edgegen site-a", 8000),
    ("stranger", "edgegen-mlflow", 5000),
    ("client", "edgegen head", 8265),  # whoever reaches the dashboard runs code
    ("client", "edgegen head", 10001),
    ("client", "edgegen site-a", 8080),
    ("client", "edgegen-postgres", 5432),
    ("prometheus", "edgegen head", 8265),
    ("edgegen-train driver", "edgegen head", 6379),
    ("edgegen-train submitter", "edgegen head", 8265),
    ("edgegen-train submitter", "edgegen-sweep head", 8265),
    ("edgegen-train driver", "edgegen-postgres", 5432),
    ("edgegen-train driver", "edgegen-redis", 6379),
    ("edgegen site-a", "edgegen-redis", 6379),
    ("edgegen site-a", "edgegen-mlflow", 5000),
    ("edgegen-mlflow", "edgegen site-a", 8000),
    ("edgegen-train driver", "api server", 443),
    ("edgegen-train head", "api server", 443),
    ("edgegen-interactive workers", "edgegen-sweep head", 6379),
    ("edgegen-interactive workers", "internet", 443),
    ("edgegen site-a", "internet", 443),
    ("edgegen site-a", "node's cache of names", 53),
    ("edgegen-train driver", "internet", 443),
    ("edgegen head", "metadata service", 443),
    ("edgegen-redis", "internet", 443),
    ("edgegen-postgres", "internet", 443),
]


def matches(selector, labels):
    """Whether a label selector matches."""
    holds = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, values: key in labels,
        "DoesNotExist": lambda key, values: key not in labels,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        holds[one["operator"]](one["key"], one.get("values")) for one in selector.get("matchExpressions", [])
    )


class Network:
    """Pods, other namespaces and addresses, with the policies of the namespace."""

    def __init__(self, policies, pods):
        self.policies = policies
        self.ends = {name: (NAMESPACE, labels) for name, labels in pods.items()} | OUTSIDE

    def allows(self, source, target, port, protocol="TCP"):
        return self._side("Egress", "egress", "to", source, target, port, protocol) and self._side(
            "Ingress", "ingress", "from", target, source, port, protocol
        )

    def _side(self, type_, rules, peers, here, there, port, protocol):
        if here in ADDRESSES or self.ends[here][0] is not NAMESPACE:
            return True  # not ours to restrict
        mine = [
            one["spec"]
            for one in self.policies
            if type_ in one["spec"]["policyTypes"] and matches(one["spec"]["podSelector"], self.ends[here][1])
        ]
        assert mine, f"{here} is not isolated"
        return any(
            (not rule.get("ports") or any(p["port"] == port and p["protocol"] == protocol for p in rule["ports"]))
            and (not rule.get(peers) or any(self._peer(peer, there) for peer in rule[peers]))
            for spec in mine
            for rule in spec.get(rules, [])
        )

    def _peer(self, peer, name):
        if "ipBlock" in peer:
            if name not in ADDRESSES:
                return False  # pods are selected by labels; plug-ins differ on their addresses
            address = ipaddress.ip_address(ADDRESSES[name])
            inside = [
                ipaddress.ip_network(cidr) for cidr in (peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", []))
            ]
            return address in inside[0] and not any(address in block for block in inside[1:])
        if name in ADDRESSES:
            return False
        namespace, labels = self.ends[name]
        if "namespaceSelector" in peer:
            if not matches(peer["namespaceSelector"], namespace):
                return False
        elif namespace is not NAMESPACE:
            return False
        return matches(peer.get("podSelector", {}), labels)


@pytest.fixture(scope="module")
def networks(manifests):
    made = {}
    for overlay in manifests.overlays:
        objects = manifests.with_jobs(overlay)
        pods = {name: labels for name, labels, _ in manifests.pods(objects)}
        # KubeRay makes it from the head's template when a cluster goes.
        pods["redis cleanup"] = {**pods["edgegen head"], "ray.io/node-type": "redis-cleanup"}
        made[overlay] = Network([one for one in objects if one["kind"] == "NetworkPolicy"], pods)
    return made


def test_needed_flows_are_allowed(networks, overlay):
    assert [flow for flow in NEEDED if not networks[overlay].allows(*flow)] == []
    assert networks[overlay].allows("edgegen-mlflow", "dns", 53, "UDP")


def test_other_flows_are_denied(networks, overlay):
    assert [flow for flow in DENIED if networks[overlay].allows(*flow)] == []


def test_every_pod_is_isolated_by_default(manifests, overlay):
    policy = manifests.pick(overlay, "NetworkPolicy", "default-deny")["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_flows_of_single_overlays(networks):
    assert networks["prod"].allows("edgegen-mlflow", "internet", 443)  # the object store
    assert not networks["kind"].allows("edgegen-mlflow", "internet", 443)
    for overlay in ("gpu", "prod"):
        assert networks[overlay].allows("edgegen-mlflow-backup", "edgegen-postgres", 5432)
        assert not networks[overlay].allows("edgegen-mlflow-backup", "internet", 443)


@pytest.mark.parametrize("follower", ["kind", "prod"])
def test_gateways_reach_the_registry_and_sites_do_not(networks, follower):
    # Whoever decides follows an alias: core, and the head, which builds the application.
    for pod in ("core", "head"):
        assert networks[follower].allows(f"edgegen {pod}", "edgegen-mlflow", 5000)
        assert not networks[follower].allows(f"edgegen {pod}", "edgegen-postgres", 5432)
    for site in ("site-a", "site-b", "site-c"):
        assert not networks[follower].allows(f"edgegen {site}", "edgegen-mlflow", 5000)
    assert not networks["gpu"].allows("edgegen core", "edgegen-mlflow", 5000)  # it follows nothing
