# SPDX-License-Identifier: Apache-2.0
"""Hosts with addresses of their own, joined by ``ray start``: network namespaces on a bridge stand for machines."""

import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.core.errors import InputError
from edgegen.platform.cluster.host import (
    FEW_PROCESSES,
    FEW_PROCESSES_OF_HEAD,
    STORE_BYTES,
    RayHost,
    cluster_environment,
)
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.runs.training import TrainRequest, train

pytestmark = pytest.mark.e2e

HEAD, *WORKERS = ADDRESSES = ("10.77.7.1", "10.77.7.2", "10.77.7.3")
CLUSTER = f"{HEAD}:6379"
CPUS = 3
PAIR = Processes(num_env_runners=2, num_learners=2, cpus_per_learner=2, placement="spread", fragment_length=3)
"""A runner and a learner fill a host, so that neither both runners nor both learners can be on one."""
RUNNER, LEARNER = "JointEnvRunner", "_WrappedExecutable"
"""What Ray calls the actors; RLlib runs a learner inside an actor of Ray Train's."""


def ip(*arguments):
    ran = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise OSError(ran.stderr.strip())


@pytest.fixture(scope="module")
def namespaces():
    """A network namespace for every address, joined by a bridge in the first one."""
    if shutil.which("ip") is None:
        pytest.skip("there is no program 'ip'")
    names = [f"edgegen{os.getpid()}-{number}" for number in range(len(ADDRESSES))]
    try:
        try:
            ip("netns", "add", names[0])
            ip("-n", names[0], "link", "add", "bridge", "type", "bridge")
            for number, name in enumerate(names[1:]):
                ip("netns", "add", name)
                port = f"port{number}"
                ip("-n", names[0], "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("-n", names[0], "link", "set", port, "master", "bridge", "up")
        except OSError as error:
            pytest.skip(f"network namespaces are not allowed here: {error}")
        for name, address in zip(names, ADDRESSES, strict=True):
            device = "bridge" if name == names[0] else "eth0"
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def hosts(namespaces, tmp_path_factory):
    """A Ray host in every namespace; yields how to run Python on the first one, and Ray's folder by address."""
    logs, environment = tmp_path_factory.mktemp("hosts"), cluster_environment()
    folders = {address: Path(f"/tmp/{name}") for name, address in zip(namespaces, ADDRESSES, strict=True)}
    common = ("--object-store-memory", str(STORE_BYTES), *FEW_PROCESSES)
    roles: list[tuple[str, ...]] = [("--head", "--port", "6379", "--num-cpus", "0", *FEW_PROCESSES_OF_HEAD)]
    roles += [("--address", CLUSTER, "--num-cpus", str(CPUS))] * len(WORKERS)
    hosts = [
        RayHost(
            address,
            [*role, *common, "--node-ip-address", address, "--temp-dir", str(folders[address])],
            environment,
            logs / f"{address}.txt",
            inside=("ip", "netns", "exec", name),
        )
        for role, name, address in zip(roles, namespaces, ADDRESSES, strict=True)
    ]

    def on_head(*command):
        return subprocess.run(
            ["ip", "netns", "exec", namespaces[0], sys.executable, *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    try:
        try:
            hosts[0].start()
            with ThreadPoolExecutor() as pool:
                list(pool.map(RayHost.start, hosts[1:]))
        except InputError as error:  # Ray gives a node 30 s to start, and no setting changes that
            pytest.skip(f"this machine is too busy to start a Ray node: {error}")
        yield on_head, folders
    finally:
        for host in reversed(hosts):
            host.kill()
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


WHERE = """
import json, ray, sys
address, *hosts = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
where = ray.remote(num_cpus=0)(ray.util.get_node_ip_address)
print(json.dumps(ray.get([where.options(resources={f"node:{host}": 0.01}).remote() for host in hosts])))
"""


def test_hosts_join_and_work(hosts):
    on_head, _ = hosts
    ran = on_head("-c", WHERE, CLUSTER, *ADDRESSES)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == list(ADDRESSES)


def actors_that_ran(folder):
    """Classes of the actors whose processes ran on a host, from what Ray has them write at the top of their output."""
    outputs = folder.glob("session_*/logs/worker-*.out")
    lines = [line for path in outputs for line in path.read_text().splitlines()]
    return {line.removeprefix(":actor_name:") for line in lines if line.startswith(":actor_name:")}


@pytest.mark.soak
def test_hosts_train_what_one_host_trains(hosts, small, quick, tmp_path):
    """The same processes elsewhere: the same numbers, to the last bit."""
    on_head, folders = hosts
    alone = train(TrainRequest(small, tmp_path / "alone", overrides=quick, episodes=6, processes=PAIR, tracking=False))
    settings = [part for name, value in quick.items() for part in ("--set", f"{name}={value}")]
    ran = on_head(
        *("-m", "edgegen.platform.cli", "train", "ladts", "--scenario", str(tmp_path / "alone" / "scenario.yaml")),
        *("--address", CLUSTER, "--num-env-runners", "2", "--num-learners", "2", "--cpus-per-learner", "2"),
        *("--placement", "spread", "--fragment-length", "3", "--episodes", "6", "--no-tracking", *settings),
        *("--out", str(tmp_path / "hosts")),
    )
    assert ran.returncode == 0, ran.stderr
    episodes = json.loads((tmp_path / "hosts" / "episodes.json").read_text())
    assert episodes == alone.episodes
    (policy,) = (tmp_path / "hosts").glob("checkpoint-*/policy/policy.json")
    weights = [json.loads(path.read_text())["weights_sha256"] for path in (policy, alone.policy / "policy.json")]
    assert weights[0] == weights[1]

    everywhere = {address: actors_that_ran(folder) for address, folder in folders.items()}
    assert everywhere == {HEAD: set()} | {address: {RUNNER, LEARNER} for address in WORKERS}


def test_a_cluster_that_asks_for_a_token_is_named_as_that(monkeypatch):
    def refuse(**options):
        """Fail as Ray 2.60 does; asking a real cluster takes half a minute."""
        reason = RuntimeError("Failed to connect to GCS. Last connection error: ray.exceptions.AuthenticationError")
        raise ConnectionError("Failed to connect to Ray cluster") from reason

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError) as refused, ray_session(address):
            pass
    assert str(refused.value) == (
        f"The Ray cluster at '{address}' asks for a token: set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token of its "
        "head to this machine."
    )
