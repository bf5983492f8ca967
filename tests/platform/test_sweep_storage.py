# SPDX-License-Identifier: Apache-2.0
"""Sweeps whose trials keep their checkpoints in an object store: a real S3 server in another process."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
import yaml

from edgegen.envs.core.errors import InputError
from edgegen.platform.engine.doing import read_json
from edgegen.platform.ports import free_ports
from edgegen.platform.sweeps.relay import TrialView
from edgegen.platform.sweeps.storage import ObjectStore, newest_stored
from tests.platform.command_lines import EDGEGEN, refused
from tests.platform.test_sweep_resume import EPISODES, EVERY, SWEEP

BUCKET = "sweeps"


@contextmanager
def s3_server():
    """A server with one bucket; gives its address."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            client = boto3.client("s3", endpoint_url=address)
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.create_bucket(Bucket=BUCKET)
                    break
                except Exception:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            yield address
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def s3():
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
            patched.setenv(f"AWS_{name}", value)
        with s3_server() as address:
            patched.setenv("AWS_ENDPOINT_URL", address)
            yield f"s3://{BUCKET}/mine"


def test_files_go_to_the_store_and_come_back(s3, tmp_path):
    store = ObjectStore(s3)
    store.check()
    assert store.sizes("nothing") == {}
    store.write_json("about.json", {"x": [1]})
    assert store.read_json("about.json") == {"x": [1]}
    for name in ("a-state-1.json", "b-state-1.json"):
        (tmp_path / name).write_text(name)
    store.replace_files(tmp_path, "search", "state-")
    (tmp_path / "a-state-1.json").rename(tmp_path / "a-state-2.json")
    store.replace_files(tmp_path, "search", "state-")
    assert store.sizes("search") == {"a-state-2.json": 14, "b-state-1.json": 14}
    with store.fetched("search") as here:
        assert (here / "a-state-2.json").read_text() == "a-state-1.json"
    assert store.relative(f"{BUCKET}/mine/search/x") == "search/x"
    assert ObjectStore(f"{s3}?scheme=http").within("b/c") == f"{s3}/b/c?scheme=http"


def test_half_a_checkpoint_is_none(s3):
    store = ObjectStore(f"{s3}/half")
    assert newest_stored(store, "search/t", "trial.json") is None
    for number, size in ((0, 3), (1, 4)):
        store.write_json(f"search/t/checkpoint_{number:06d}/seed-0/x", 123)
        state = {"history": [{}] * (number + 1), "sizes": {"seed-0/x": size}}
        store.write_json(f"search/t/checkpoint_{number:06d}/trial.json", state)
    store.write_json("search/t/checkpoint_000002/seed-0/x", 123)  # its state is not there yet
    assert newest_stored(store, "search/t", "trial.json") == "search/t/checkpoint_000000"


def test_stores_that_can_not_be_used_are_said_in_a_sentence(s3, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"Storage 's3://no-such-bucket/x' can not be written: .*not found.*\.$"):
        ObjectStore("s3://no-such-bucket/x").check()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    assert "can not be written" in refused("sweep", file, "--storage", s3, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def checkpoints(store: ObjectStore, identity: str) -> int:
    """How many checkpoints of trials a sweep has written whole."""
    return sum(name.endswith("/trial.json") for name in store.sizes(f"{identity}/search"))


@pytest.mark.e2e
@pytest.mark.soak
def test_a_killed_sweep_goes_on_from_what_is_in_the_store(s3, tmp_path):
    file, out, log = tmp_path / "killed.yaml", tmp_path / "out", tmp_path / "log.txt"
    file.write_text(yaml.safe_dump({**SWEEP, "evaluation": {"episodes": 2, "tuned": False}}))
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    command = [*EDGEGEN, "sweep", str(file), "--resume", "--out", str(out)]
    store, deadline = ObjectStore(s3), time.monotonic() + 240
    with log.open("w") as to:
        driver = subprocess.Popen([*command, "--storage", s3], env=environment, stdout=to, stderr=to)
        identity = ""
        while not identity or checkpoints(store, identity) < 2:
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
            if (out / "sweep.json").exists():
                identity = json.loads((out / "sweep.json").read_text())["identity"]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not list(out.glob("search/*/checkpoint_*"))  # nothing of a trial lies here
        assert "resume it without --storage" in refused("sweep", file, "--resume", "--out", out, "--storage", f"{s3}/x")
        done = subprocess.run(command, env=environment, stdout=to, stderr=to, timeout=300, check=False)
    assert done.returncode == 0, log.read_text()
    (trial,) = [TrialView.of(data) for data in read_json(out / "search.json")]
    assert [report["episodes"] for report in trial.history] == list(range(EVERY, EPISODES + 1, EVERY))
    assert trial.history[-1]["process"]["resumed_at_episodes"] >= EVERY
    assert not list(out.glob("search/*/checkpoint_*"))
    assert (out / "report" / "report.md").is_file()

    from mlflow.tracking import MlflowClient

    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("edgegen").experiment_id])
    found = [run for run in runs if run.data.tags.get("edgegen.stage") == "search"]
    assert len(found) == 2  # one for every seed
    for run in found:
        assert [item.path for item in client.list_artifacts(run.info.run_id, "policy")] != []
    assert Path(out / "units").is_dir()
