# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard: queries that parse, alerts that fire when they should, only metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

INTERVALS = {"$__rate_interval": "1m"}


@pytest.fixture(scope="module")
def rules(manifests):
    return manifests.pick("monitoring", "PrometheusRule")["spec"]


@pytest.fixture(scope="module")
def dashboard(manifests):
    config = manifests.pick("monitoring", "ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(config["data"]["edgegen.json"])


def queries(dashboard):
    return {
        (panel["title"], target["refId"]): target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def test_queries_parse(rules, dashboard):
    texts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]] + list(queries(dashboard).values())
    assert len(texts) > 20
    for text in texts:
        for name, value in INTERVALS.items():
            text = text.replace(name, value)
        promql_parser.parse(text)  # raises if it is wrong


def test_dashboard_shows_the_edge_servers(dashboard):
    shown = " ".join(queries(dashboard).values())
    for metric in (
        "ray_edgegen_queue_length",
        "ray_edgegen_decisions_total",
        "ray_edgegen_generation_seconds_bucket",
        "ray_edgegen_edge_failures_total",
    ):
        assert metric in shown
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in panels
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) == 23


def test_sums_of_histograms_are_not_used(rules, dashboard):
    # Ray rebuilds a histogram from its buckets, so that its _sum is that of bucket middles: no mean is exact.
    assert "_seconds_sum" not in json.dumps([rules, dashboard])


def test_the_monitor_scrapes_every_ray_pod_and_keeps_what_is_shown(manifests, rules, dashboard):
    spec = manifests.pick("monitoring", "PodMonitor")["spec"]
    (selected,) = spec["selector"]["matchExpressions"]
    (endpoint,) = spec["podMetricsEndpoints"]
    for overlay in manifests.overlays:
        for name, labels, pod in manifests.pods(manifests.with_jobs(overlay)):
            if "ray.io/node-type" in labels:
                assert labels[selected["key"]] in selected["values"], name
                ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
                assert ports[endpoint["port"]] == 8080, name
    used = set(re.findall(r"ray_[a-z0-9_]+", json.dumps([rules, dashboard])))
    for relabeling in endpoint["metricRelabelings"]:
        if relabeling["action"] == "drop":
            assert not [name for name in used if re.fullmatch(relabeling["regex"], name)]


def test_alerts_fire_when_they_should(rules, tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; it comes with Prometheus (Debian: `apt install prometheus`)")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(Path(__file__).parent / "alerts_test.yaml", tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test(rules):
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())
    tested = {check["alertname"] for case in cases["tests"] for check in case["alert_rule_test"]}
    assert tested == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


def test_every_alert_has_its_section_in_the_guide(rules):
    page = Path(__file__).parents[2] / "docs" / "day-2.md"
    _, _, alerts = page.read_text().partition("\n## Alerts\n")
    sections = {
        title: text for title, _, text in (part.partition("\n") for part in re.split(r"^### ", alerts, flags=re.M)[1:])
    }
    told = {rule["alert"]: rule["annotations"]["runbook_url"] for group in rules["groups"] for rule in group["rules"]}
    assert set(sections) == set(told)
    for name, text in sections.items():
        assert told[name] == f"docs/day-2.md#{name.lower()}"
        assert all(word in text for word in ("**Means:**", "**Look:**", "**Do:**")), name
    critical = {rule["alert"] for rule in rules["groups"][0]["rules"] if rule["labels"]["severity"] == "critical"}
    assert critical == {name for name, text in sections.items() if "**Critical.**" in text}
