# SPDX-License-Identifier: Apache-2.0
"""What schemas can not say: restricted pods, limits, pinned images, no secrets, and KubeRay's own rules."""

from __future__ import annotations

import json
import re

import pytest
import ray

from edgegen.platform.records.lineage import IMAGE_VARIABLE, JOB_VARIABLE

RAY_KINDS = ("RayService", "RayJob", "RayCluster")
PINNED = re.compile(r"[\w./-]+(:[\w][\w.-]*)?(@sha256:[0-9a-f]{64})?")
SECRET_WORDS = re.compile(r"password|secret|token|access.?key|credential", re.IGNORECASE)


def test_every_container_meets_the_restricted_standard(manifests, part):
    for name, container, pod in manifests.containers(manifests.parts[part]):
        context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        assert context["runAsNonRoot"] is True, name
        assert context.get("runAsUser", 0) > 0, f"{name} may be root: runAsUser is not set"
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not context.get("privileged"), name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume], name


def test_the_namespace_enforces_it(manifests, overlay):
    labels = manifests.pick(overlay, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_memory_is_promised_in_full_and_limited(manifests, part):
    for name, container, _ in manifests.containers(manifests.parts[part]):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests["memory"] == limits["memory"], name
        assert {"cpu", "memory"} <= set(requests), name
        assert {"cpu", "memory"} <= set(limits), name


def test_long_running_containers_have_probes(manifests, part):
    for name, container, _ in manifests.containers(manifests.parts[part]):
        if not name.endswith((": autoscaler", ": ray-job-submitter", ": backup", ": migrate")):
            assert {"livenessProbe", "readinessProbe"} <= set(container), name


def test_images_are_pinned_and_have_the_ray_version(manifests, part):
    for name, container, _ in manifests.containers(manifests.parts[part]):
        image = container["image"]
        assert PINNED.fullmatch(image), name
        _, colon, tag = image.rpartition(":")
        assert colon, f"{name}: the image {image} has no tag"
        assert tag != "latest", name
        if re.search(r"(^|/)edgegen:", image):
            assert re.fullmatch(rf"\d+\.\d+\.\d+-ray{re.escape(ray.__version__)}(-cuda)?", tag), name
    for one in manifests.parts[part]:
        if one["kind"] in RAY_KINDS:
            assert manifests.ray_cluster(one)["rayVersion"] == ray.__version__


def test_constraints_and_image_have_the_installed_ray(manifests):
    constraints = (manifests.root.parent / "constraints.txt").read_text().splitlines()
    assert f"ray=={ray.__version__}" in constraints
    assert f"ray{ray.__version__}" in (manifests.root / "image" / "Dockerfile").read_text()


def _values(node, path=()):
    """Every scalar in an object with the path that leads to it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _values(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _values(value, (*path, str(index)))
    else:
        yield path, node


def test_secrets_are_only_referred_to(manifests, part):
    for one in manifests.parts[part]:
        assert one["kind"] != "Secret", one["metadata"]["name"]
        for path, value in _values(one.get("spec", {})):
            names_one = path[-1] == "secretName" or path[-1].startswith("automount")
            if "valueFrom" not in path and SECRET_WORDS.search(path[-1]) and not names_one:
                pytest.fail(f"{one['metadata']['name']}: {'.'.join(path)} holds {value!r}")
    for name, container, _ in manifests.containers(manifests.parts[part]):
        for variable in container.get("env", []):
            value = re.sub(r"\$\([A-Z_]+\)", "", variable.get("value", ""))
            assert not SECRET_WORDS.search(variable["name"]) or "valueFrom" in variable, f"{name}: {variable['name']}"
            assert not re.search(r"://[^/@]+:[^/@]+@", value), f"{name}: {variable['name']} holds a password"


def test_only_heads_with_an_autoscaler_get_a_token_of_the_api_server(manifests, overlay):
    objects = manifests.with_jobs(overlay)
    growing = {
        manifests.ray_cluster(one)["headGroupSpec"]["template"]["metadata"]["labels"]["edgegen.io/cluster"]
        for one in objects
        if one["kind"] in RAY_KINDS and manifests.ray_cluster(one).get("enableInTreeAutoscaling")
    }
    assert growing == {"serve", "interactive"} | ({"sweep"} if overlay != "prod" else set())
    for name, labels, pod in manifests.pods(objects):
        autoscaled = labels.get("edgegen.io/cluster") in growing and labels.get("ray.io/node-type") == "head"
        assert pod.get("automountServiceAccountToken", True) is autoscaled, name


def test_groups_that_grow_are_replaced_by_the_autoscaler_and_begin_small(manifests, overlay):
    for one in manifests.with_jobs(overlay):
        if one["kind"] not in RAY_KINDS:
            continue
        cluster = manifests.ray_cluster(one)
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            grows = group["minReplicas"] < group["maxReplicas"]
            assert not grows or cluster["enableInTreeAutoscaling"], group["groupName"]
            # or KubeRay refuses autoscaler v2
            assert group["template"]["spec"]["restartPolicy"] == "Never"


def test_what_is_registered_says_where_it_comes_from(manifests, overlay):
    for job in ("train", "sweep", "interactive"):
        (one,) = [one for one in manifests.parts[f"{overlay}/{job}"] if one["kind"] in RAY_KINDS]
        for group in manifests.ray_cluster(one)["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            settings = {entry["name"]: entry for entry in container["env"]}
            assert settings[IMAGE_VARIABLE]["value"] == container["image"]
            # A cluster is made for every attempt of a job, and named after the job.
            job_field = settings[JOB_VARIABLE]["valueFrom"]["fieldRef"]["fieldPath"]
            assert job_field == "metadata.labels['ray.io/cluster']"
            writes = "driver" in group["groupName"] or job != "train"
            assert ("MLFLOW_TRACKING_URI" in settings) is writes


def test_no_job_takes_the_runs_of_others_with_it(manifests, overlay):
    manifests.pick(overlay, "PersistentVolumeClaim", "edgegen-runs")
    for job in ("train", "sweep", "interactive"):
        assert "PersistentVolumeClaim" not in {one["kind"] for one in manifests.parts[f"{overlay}/{job}"]}


def test_clusters_ask_for_a_token_and_heads_carry_no_workload(manifests, overlay):
    for one in manifests.with_jobs(overlay):
        if one["kind"] in RAY_KINDS:
            cluster = manifests.ray_cluster(one)
            assert cluster["authOptions"] == {"mode": "token"}
            assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_service_survives_its_head_and_can_be_upgraded(manifests, overlay):
    spec = manifests.pick(overlay, "RayService")["spec"]
    cluster = spec["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True  # incremental upgrades need it
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert spec["excludeHeadPodFromServeSvc"] is True
    redis = cluster["gcsFaultToleranceOptions"]
    host, _, port = redis["redisAddress"].partition(":")
    service = manifests.pick(overlay, "Service", host)
    assert int(port) == service["spec"]["ports"][0]["port"]
    for template in (cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])):
        assert template["spec"]["restartPolicy"] == "Never"  # or KubeRay refuses autoscaler v2
    if overlay == "prod":
        assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
        assert spec["upgradeStrategy"]["clusterUpgradeOptions"]["gatewayClassName"]


def test_ray_pods_keep_the_labels_that_kuberay_selects_by(manifests, overlay):
    # KubeRay names its pods `kuberay` and lets its Services select by that; a label of ours would come first.
    for name, labels, _ in manifests.pods(manifests.with_jobs(overlay)):
        if "ray.io/node-type" in labels:
            assert "app.kubernetes.io/name" not in labels, name
            assert "edgegen.io/cluster" in labels, name


def test_jobs_clean_up_or_can_be_suspended(manifests, overlay):
    # KubeRay refuses a job with both deletion rules and shutdownAfterJobFinishes, and one that is suspended without.
    for job in ("train", "sweep"):
        one = manifests.pick(f"{overlay}/{job}", "RayJob")
        spec = one["spec"]
        assert spec["backoffLimit"] > 0
        if overlay == "prod":
            assert one["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
            assert (spec["suspend"], spec["shutdownAfterJobFinishes"]) == (True, True)
            assert spec["ttlSecondsAfterFinished"] > 0
            assert "deletionStrategy" not in spec
            assert not spec["rayClusterSpec"].get("enableInTreeAutoscaling")  # Kueue counts fixed sizes
        else:
            assert not spec.get("suspend")
            assert not spec.get("shutdownAfterJobFinishes")
            order = ["DeleteWorkers", "DeleteCluster", "DeleteSelf"]
            for status in ("SUCCEEDED", "FAILED"):
                rules = spec["deletionStrategy"]["deletionRules"]
                mine = {
                    r["policy"]: r["condition"]["ttlSeconds"] for r in rules if r["condition"]["jobStatus"] == status
                }
                assert "DeleteSelf" in mine
                waits = [mine[policy] for policy in order if policy in mine]
                assert waits == sorted(waits)
        # The driver goes where its resource is, and that worker keeps the run's files.
        (wanted,) = json.loads(spec["entrypointResources"])
        offers = {group["groupName"]: _ray_resources(group) for group in spec["rayClusterSpec"]["workerGroupSpecs"]}
        assert [name for name, offer in offers.items() if wanted in offer] == ["driver"]


def test_disruption_budgets_match_pods_and_can_be_kept(manifests, overlay):
    objects = manifests.with_jobs(overlay)
    budgets = [one for one in objects if one["kind"] == "PodDisruptionBudget"]
    assert len(budgets) >= 3
    for budget in budgets:
        selector = budget["spec"]["selector"]["matchLabels"]
        covered = [name for name, labels, _ in manifests.pods(objects) if selector.items() <= labels.items()]
        assert covered, budget["metadata"]["name"]
        if "edgegen.io/cluster" in selector:
            # Pods whose controller has no scale: a percentage or maxUnavailable would block every eviction.
            least = budget["spec"]["minAvailable"]
            assert isinstance(least, int)
            assert "maxUnavailable" not in budget["spec"]
            spare = 1 if selector["edgegen.io/cluster"] == "serve" else 0
            assert least == len(covered) - spare, budget["metadata"]["name"]


def test_references_lead_somewhere(manifests, overlay):
    objects = manifests.with_jobs(overlay)
    claims = {one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"}
    services = {one["metadata"]["name"] for one in objects if one["kind"] == "Service"}
    for name, _, pod in manifests.pods(objects):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, name
    for name, container, _ in manifests.containers(objects):
        for variable in container.get("env", []):
            for host in re.findall(r"(?:://|@)(edgegen-[a-z]+):\d+", variable.get("value", "")):
                assert host in services, f"{name}: {variable['name']} names the service {host}"
    for one in objects:
        if one["kind"] == "Service":
            selector = one["spec"]["selector"]
            (pod,) = [pod for _, labels, pod in manifests.pods(objects) if selector.items() <= labels.items()]
            names = {port["name"] for container in pod["containers"] for port in container.get("ports", [])}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= names


def _ray_resources(group):
    """Custom resources of a worker group; KubeRay passes the text through a shell, so JSON stands in double quotes."""
    text = group["rayStartParams"].get("resources", '"{}"')
    assert text[0] == text[-1] == '"'
    resources = json.loads(text[1:-1].replace('\\"', '"'))
    assert all(isinstance(amount, int) for amount in resources.values())
    return resources
