# SPDX-License-Identifier: Apache-2.0
"""The entrypoints of the RayJobs, submitted to a real Ray cluster as KubeRay would submit them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.core.registered import CACHE_VARIABLE, URI_VARIABLE
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.ports import free_ports
from edgegen.platform.records.gate import Judge
from edgegen.platform.records.lineage import IMAGE_VARIABLE, JOB_VARIABLE
from edgegen.platform.records.model_registry import Candidate, Model, register
from edgegen.platform.records.tracking import Store
from edgegen.serve.config import load_config
from tests.platform.records.servers import tracking_server
from tests.serve.emulated_service import emulated_config
from tests.serve.loopback_service import loopback

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
def tracking(home):
    """Address of a tracking server."""
    (home / "server").mkdir()
    with tracking_server(f"sqlite:///{home / 'server' / 'mlflow.db'}", home / "server", workers=1) as server:
        yield server.uri


@pytest.fixture(scope="module")
def submit(manifests, home, tracking):
    """Start a cluster as KubeRay does, in a folder like the home of the image; gives what runs a job's entrypoint."""
    (home / "jobs").symlink_to(manifests.root / "jobs" / "scripts")
    (home / "tune_configs").mkdir()
    (home / "small.yaml").write_text(SMALL_WORLD)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        URI_VARIABLE: tracking,
        JOB_VARIABLE: "edgegen-train-1",  # KubeRay's name for the cluster of the first attempt
        IMAGE_VARIABLE: manifests.containers(manifests.parts["kind/train"])[0][1]["image"],
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


class Asking:
    """Asks a service for pictures, one after the other, for as long as a block lasts; notes what comes back."""

    def __init__(self, url):
        self.url, self.answers, self._end = url, [], threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _ask(self):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._end.wait(0.1):
                try:
                    answer = client.post("/v1/images/generations", json={"prompt": "a red circle"})
                except httpx.HTTPError as error:
                    self.answers.append(repr(error))
                    continue
                fallback = answer.json()["edgegen"]["fallback"] if answer.status_code == 200 else answer.text
                self.answers.append((answer.status_code, fallback))

    def wait_for(self, number):
        """Wait until so many more requests have been answered."""
        wanted = len(self.answers) + number
        while len(self.answers) < wanted:
            assert self._thread.is_alive()
            time.sleep(0.1)


def followed(url, version):
    """Wait until a service follows a version; returns what it says of its policy."""
    deadline = time.monotonic() + 60
    while True:
        state: dict[str, Any] = httpx.get(f"{url}/healthz", timeout=30).json()["policy"]
        if state["version"] == f"models:/scheduler/{version}":
            return state
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


def test_what_a_job_trains_reaches_the_running_service_and_a_worse_one_does_not(
    manifests, submit, home, tracking, monkeypatch
):
    spec = manifests.pick("kind/train", "RayJob")["spec"]
    monkeypatch.setenv(URI_VARIABLE, tracking)
    monkeypatch.setenv(CACHE_VARIABLE, str(home / "cache"))
    service = load_config(manifests.root / "overlays" / "kind" / "service.yaml")
    assert service.follow == "models:/scheduler@champion"
    config = emulated_config(edges=3, speed=50.0, follow=service.follow, follow_s=1)
    with loopback(config) as url, Asking(url) as asking:
        done = submit(smaller(spec["entrypoint"]), spec)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Trained for" in done.stdout
        (checkpoint,) = (home / "runs").glob("*/checkpoint-*")
        assert (checkpoint / "policy").is_dir()
        store = Store(home / "spool")
        champion = store.client.get_registered_model("scheduler").aliases["champion"]
        tags = store.client.get_model_version("scheduler", champion).tags
        assert (tags["edgegen.job"], tags["edgegen.image"]) == ("edgegen-train-1", "edgegen:0.1.0-ray2.60.0")
        state = followed(url, champion)
        assert (state["label"], state["refused"]) == (f"models:/scheduler/{champion}", None)

        # A policy that has learned nothing, through the same gate.
        world = load_scenario(str(home / "small.yaml"))
        judge = Judge(world, "mean_delay_s", seed=1, episodes=4)
        settings = METHOD.make_settings("set", {})
        save_policy(LADTSPolicy(router_for(world, settings).actor(), seed=1), home / "worse", world, {})
        run = store.create_run("worse", {}, {})
        worse = Candidate("worse", home / "worse", run, {"edgegen.run": run}, "It has learned nothing.")
        model = Model("scheduler", "", judge)
        refused = register(store, model, worse)
        assert (refused.alias, refused.reason[:10]) == ("challenger", "Not better")
        asking.wait_for(30)  # of which there are ten in a second at most, so the alias was looked at three times
        assert followed(url, champion)["label"] == f"models:/scheduler/{champion}"

        # What an operator forces is followed, too.
        forced = register(store, model, worse, force=True)
        assert followed(url, forced.version)["label"] == f"models:/scheduler/{forced.version}"
        asking.wait_for(5)
    assert len(asking.answers) > 40
    assert {answer for answer in asking.answers if answer != (200, None)} == set()


@pytest.mark.soak
def test_the_asynchronous_form_trains_and_goes_on_where_it_was(manifests, submit, home):
    component = yaml.safe_load((manifests.root / "components" / "asynchronous" / "kustomization.yaml").read_text())
    (change,) = yaml.safe_load(component["patches"][0]["patch"])
    entrypoint = smaller(change["value"].replace(" --register scheduler", ""))
    assert "--asynchronous" in entrypoint
    spec = manifests.pick("kind/train", "RayJob")["spec"]
    done = submit(entrypoint, spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trained for" in done.stdout
    run = home / "runs" / "scheduler-asynchronous"
    processes = json.loads((run / "run.json").read_text())
    assert (processes["asynchronous"], processes["num_learners"], processes["replay_shards"]) == (True, 1, 1)
    again = submit(entrypoint, spec)  # the same job once more: a repetition after a failure
    assert again.returncode == 0, again.stdout + again.stderr
    assert list(run.glob("checkpoint-*"))


@pytest.mark.soak
def test_sweep_runs(manifests, submit, home):
    spec = manifests.pick("kind/sweep", "RayJob")["spec"]
    (file,) = [word for word in spec["entrypoint"].split() if word.startswith("tune_configs/")]
    study = yaml.safe_load((manifests.root.parent / file).read_text())
    (home / file).write_text(yaml.safe_dump(study | SMALL_STUDY))
    done = submit(spec["entrypoint"], spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((home / "runs").glob("sweep-*/report/report.md"))
