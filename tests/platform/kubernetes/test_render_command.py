# SPDX-License-Identifier: Apache-2.0
"""`edgegen k8s render`: what it writes, what it leaves alone, and what it refuses in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.platform.kubernetes import serve_config
from edgegen.platform.kubernetes.overlay import overlay
from edgegen.platform.kubernetes.values import load_values
from edgegen.serve.config import build_config

ROOT = Path(__file__).parents[3]
SERVICE = """
models: {shapes-64: {cycles_per_step_gcycles: 0.03}}
gateway_resources: {core: 0.5}
edges:
  - {name: one, model: shapes-64, resources: {attic: 1}}
"""
ANOTHER_SITE = "  - {name: two, model: shapes-64, resources: {cellar: 1}}\n"


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Render a service; what Ray Serve makes of it takes seconds, and is tested with the manifests."""
    monkeypatch.setattr(serve_config, "serve_config", lambda path: {"applications": [{"args": str(path)}]})
    monkeypatch.chdir(tmp_path)

    def run(service, *options):
        (tmp_path / "service.yaml").write_text(service)
        arguments = ["k8s", "render", "service.yaml", "-o", "made", "--manifests", str(ROOT / "k8s"), *options]
        return CliRunner().invoke(app, arguments)

    return run


def groups(folder):
    """Names of the worker groups that an overlay adds."""
    changes = yaml.safe_load((folder / "sites.yaml").read_text())
    return [change["value"]["groupName"] for change in changes if change["op"] == "add"]


def test_a_site_is_one_line(render, tmp_path):
    done = render(SERVICE, "--set", "target=kind")
    assert done.exit_code == 0, done.stderr
    assert groups(tmp_path / "made") == ["attic"]
    assert render(SERVICE + ANOTHER_SITE, "--set", "target=kind").exit_code == 0
    assert groups(tmp_path / "made") == ["attic", "cellar"]
    nodes = yaml.safe_load((tmp_path / "made" / "cluster.yaml").read_text())["nodes"]
    labels = [node["labels"]["edgegen.io/site"] for node in nodes if node["role"] == "worker"]
    assert labels == ["core", "attic", "cellar"]
    budget = yaml.safe_load((tmp_path / "made" / "disruption.yaml").read_text())
    assert budget["spec"]["minAvailable"] == 3


def test_only_what_changed_is_written_and_what_is_made_no_more_goes(render, tmp_path):
    assert render(SERVICE, "--set", "target=kind").exit_code == 0
    made = tmp_path / "made"
    (made / "mine.yaml").write_text("kind: Secret\n")
    again = render(SERVICE, "--set", "target=kind")
    assert "made/" not in again.stderr.replace("kubectl kustomize made", "").replace("-k made", "")
    assert render(SERVICE).exit_code == 0
    assert not (made / "cluster.yaml").exists()
    assert (made / "mine.yaml").read_text() == "kind: Secret\n"


def test_a_file_of_somebody_else_is_not_overwritten(render, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "kustomization.yaml").write_text("kind: Kustomization\n")
    done = render(SERVICE)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "kustomization.yaml' was not made by this command" in done.stderr
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["kustomization.yaml"]


def test_an_overlay_outside_of_the_repository_names_its_manifests_by_their_way(render, tmp_path):
    shutil.copytree(ROOT / "k8s" / "base", tmp_path / "vendor" / "k8s" / "base")
    assert render(SERVICE, "--manifests", "vendor/k8s").exit_code == 0
    kustomization = yaml.safe_load((tmp_path / "made" / "kustomization.yaml").read_text())
    assert kustomization["resources"][0] == "../vendor/k8s/base"
    job = yaml.safe_load((tmp_path / "made" / "train" / "kustomization.yaml").read_text())
    assert job["resources"] == ["../../vendor/k8s/jobs/train"]


EDGE = "  - {name: one, model: shapes-64, resources: {attic: 1}}\n"


@pytest.mark.parametrize(
    ("edge", "options", "words"),
    [
        ("  - {name: one, model: shapes-64}\n", (), "edge 'one' names none, but on a cluster it names the one site"),
        ("  - {name: one, model: shapes-64, resources: {a: 1, b: 1}}\n", (), "edge 'one' names a, b, but"),
        ("  - {name: one, model: shapes-64, resources: {core: 1}}\n", (), "is the place of the gateways"),
        ("  - {name: one, model: shapes-64, resources: {Attic_1: 1}}\n", (), "at most 30 small letters"),
        ("  - {name: one, model: shapes-64, num_cpus: 3, resources: {a: 1}}\n", (), "reserve 3 CPUs (num_cpus), but"),
        (EDGE + "gateway_resources: {other: 1}\n", (), "gateways reserve 'core', at most 1 of it"),
        (EDGE + "keys: keys.json\n", (), "keys is 'keys.json', but on a cluster it is a file in /keys"),
        (EDGE, ("--set", "sites.cellar.cpu=1", "--set", "sites.cellar.memory=1Gi"), "sites gives a size for 'cellar'"),
        (EDGE, ("--set", "image=edgegen"), "'edgegen' has neither a tag nor a digest"),
        (EDGE, ("--set", "site.memory=3G"), "site.memory"),
        (EDGE, ("--set", "upgrade=steps"), "gateway_class and upgrade: steps must be given together"),
        (EDGE, ("--set", "storage=fast"), "unknown field 'storage'"),
        (EDGE, ("--set", "store_addresses=[10.0.0.0/8]"), "object_store is false"),
        (EDGE, ("--manifests", "."), "holds no manifests; give the folder k8s"),
    ],
)
def test_what_can_not_be_is_refused_in_one_sentence(edge, options, words, render, tmp_path):
    service = SERVICE.replace(EDGE, edge)
    if "gateway_resources: {other" in service:
        service = service.replace("gateway_resources: {core: 0.5}\n", "")
    done = render(service, *options)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_edges_of_one_process_are_at_one_site():
    edges = [
        {"name": name, "model": "shapes-64", "engine": "emulated", "process": "both", "resources": {site: 1}}
        for name, site in (("one", "attic"), ("two", "cellar"))
    ]
    models = {"shapes-64": {"cycles_per_step_gcycles": 0.03}}
    config = build_config({"models": models, "edges": edges, "gateway_resources": {"core": 1}})
    with pytest.raises(InputError, match="Edges at 'attic' and 'cellar' share the process 'both'"):
        overlay(config, {}, load_values(None, {}), ROOT / "k8s", ROOT / "k8s" / "overlays" / "new")
