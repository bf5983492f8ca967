"""The entrypoints of the RayJobs, submitted to a real Ray cluster as KubeRay would submit them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from edgegen.platform.ports import free_ports

pytestmark = pytest.mark.e2e

SMALL_STUDY = {
    "overrides": {"slots": 8},
    "settings": {"copies": 2, "replay_warmup": 8, "batch_size": 8},
    "budget": {"trials": 1, "episodes": 4, "report_every": 4},
    "scheduler": {"kind": "none"},
    "validation": {"episodes": 2},
    "retrain": {"seeds": [101], "control": False},
    "evaluation": {"episodes": 2},
}
"""Sizes in the study that the sweep reads from the path its entrypoint names."""
SIZES = {"--episodes": "2", "--num-env-runners": "1", "--scenario": "small.yaml"}
"""What the test asks for instead of what the manifest says; nothing else of an entrypoint changes."""
SMALL_WORLD = "extends: demo\nslots: 4\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def submit(manifests, home):
    """Start a cluster as KubeRay does, in a folder like the home of the image; gives what runs a job's entrypoint."""
    (home / "jobs").symlink_to(manifests.root / "jobs" / "scripts")
    (home / "tune_configs").mkdir()
    (home / "small.yaml").write_text(SMALL_WORLD)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }
    environment.pop("RAY_ADDRESS", None)
    dashboard, agent, client = free_ports(3)
    # Other clusters may run on this machine, so no port is left to its default, nor the folder in which Ray notes down
    # the latest cluster. Its sockets need a short path.
    folder = tempfile.mkdtemp(prefix="edgegen-")
    start = ["ray", "start", "--head", "--block", "--port=0", "--num-cpus=3", '--resources={"driver": 1}']
    start += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    start += [f"--ray-client-server-port={client}", f"--object-store-memory={100 * 2**20}", f"--temp-dir={folder}"]
    with (home / "ray.log").open("w") as log:
        cluster = subprocess.Popen(start, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{dashboard}"

    def run(entrypoint, spec):
        line = (
            f"until curl -sf -o /dev/null http://127.0.0.1:{agent}/api/local_raylet_healthz; do sleep 0.5; done; "
            f"until curl -sf -o /dev/null {address}/api/gcs_healthz; do sleep 0.5; done; "
            f"ray job submit --address {address} "
            f"--entrypoint-resources {json.dumps(spec['entrypointResources'])} -- {entrypoint}"
        )
        return subprocess.run(
            ["bash", "-ce", "--", line],
            cwd=home, env=environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip

    try:
        yield run
    finally:
        cluster.terminate()  # `ray start --block` stops what it started
        cluster.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def smaller(entrypoint):
    """The same command line with other sizes."""
    words = entrypoint.split()
    for option, value in SIZES.items():
        if option in words:
            words[words.index(option) + 1] = value
    return " ".join(words)


def test_entrypoints_are_plain_words(manifests, overlay):
    # KubeRay pastes them into a line of shell.
    for job in ("train", "sweep"):
        entrypoint = manifests.pick(f"{overlay}/{job}", "RayJob")["spec"]["entrypoint"]
        assert set(entrypoint) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_./= "), entrypoint


def test_training_runs(manifests, submit, home):
    spec = manifests.pick("kind/train", "RayJob")["spec"]
    done = submit(smaller(spec["entrypoint"]), spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trained for" in done.stdout
    assert "models:/scheduler@" in done.stdout, done.stdout
    (checkpoint,) = (home / "runs").glob("*/checkpoint-*")
    assert (checkpoint / "policy").is_dir()
    assert (home / "mlflow.db").is_file()


@pytest.mark.soak
def test_sweep_runs(manifests, submit, home):
    spec = manifests.pick("kind/sweep", "RayJob")["spec"]
    (file,) = [word for word in spec["entrypoint"].split() if word.startswith("tune_configs/")]
    study = yaml.safe_load((manifests.root.parent / file).read_text())
    (home / file).write_text(yaml.safe_dump(study | SMALL_STUDY))
    done = submit(spec["entrypoint"], spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((home / "runs").glob("sweep-*/report/report.md"))
