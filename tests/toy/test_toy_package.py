# SPDX-License-Identifier: Apache-2.0
"""The example package, installed: every command knows its world, rules and method, and nothing else is told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.toy.toy_process import HERE, PACKAGE, ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.soak]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the package is installed, as into an environment, and nowhere else."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(folder / "packages"), str(source)], check=True, timeout=300)
    return folder / "packages"


def run(installed: Path, folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder of its own, with the installed package."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "EDGEGEN_PLUGINS"},
        "PYTHONPATH": os.pathsep.join(filter(None, [str(installed), str(ROOT), os.environ.get("PYTHONPATH")])),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_every_command_knows_what_is_installed(installed: Path, tmp_path: Path) -> None:
    toy = installed / "edgegen_toy" / "toy.yaml"
    for name in ("sweep.yaml", "study.yaml", "edgegen_toy/toy.yaml"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(PACKAGE / name, target)
    trace = "slot,edge,index,size_mbit,workload_gcycles,result_mbit\n0,0,0,2,1,0.6\n0,1,0,2,1,0.6\n1,4,0,2,3,0.6\n"
    (tmp_path / "trace.csv").write_text(trace)
    lines: list[list[Any]] = [
        ["compare", "-s", toy, "-n", 5, "--json", "rules.json"],
        ["compare", "-s", "demo", "nearest", "least-delay", "-n", 3, "--json", "nearest.json"],
        ["tune", "nearest", "-s", "demo", "--budget", 4, "-n", 2, "--out", "tuned", "--no-tracking"],
        ["evaluate", "tuned", "-s", "demo", "-n", 2, "--json", "tuned.json"],
        ["train", "bandit", "-n", 4, "--set", "slots=10", "--out", "run", "--no-tracking"],
        ["compare", "-s", toy, "run", "shortest", "-n", 3, "--json", "learned.json"],
        ["replay", "-s", "demo", "--trace", "trace.csv", "--policy", "nearest", "--out", "delays.csv"],
        ["sweep", "sweep.yaml", "--out", "swept", "--no-tracking"],
        ["reproduce", "study.yaml", "--quick", "--out", "report"],
    ]
    text = json.dumps([[str(word) for word in line] for line in lines])
    done = run(installed, tmp_path, HERE / "several_commands.py", text)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [result["code"] for result in results] == [0] * len(lines), results[-1]
    for file, expected in (
        ("rules.json", {"shortest", "coin"}),
        ("nearest.json", {"nearest", "least-delay", "capacity-weighted"}),
        ("learned.json", {"run", "shortest", "coin"}),
    ):
        assert set(json.loads((tmp_path / file).read_text())["policies"]) == expected
    assert len((tmp_path / "delays.csv").read_text().splitlines()) == 4
    away_s = json.loads((tmp_path / "tuned" / "policy" / "policy.json").read_text())["constants"]["away_s"]
    assert 0.001 <= away_s <= 5
    assert (tmp_path / "swept" / "report" / "report.md").exists()
    assert [*(tmp_path / "report").rglob("both-curves.svg")]


def test_it_is_served(installed: Path, tmp_path: Path) -> None:
    model = {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "default_steps": 10}
    edges = [{"name": f"edge-{c}", "model": "tiny", "capacity_gcycles_s": 1.0} for c in "ab"]
    config = {"kind": "toy", "models": {"tiny": model}, "edges": edges, "policy": "shortest"}
    (tmp_path / "toy.yaml").write_text(json.dumps(config))
    done = run(installed, tmp_path, HERE / "serve_with_slow_edges.py", "toy.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bandit"]["decisions"] == found["shortest"]["decisions"] == 5
    assert found["bandit"]["fallbacks"] == [None] * 5
