# SPDX-License-Identifier: Apache-2.0
"""A local cluster whose head may die and come back, because its tables are in Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from edgegen.envs.core.errors import InputError
from edgegen.platform.cluster.host import (
    FEW_PROCESSES,
    FEW_PROCESSES_OF_HEAD,
    STORE_BYTES,
    RayHost,
    cluster_environment,
)
from edgegen.platform.ports import free_ports

REDIS_SERVER = "redis-server"
REDIS_TIMEOUT_S = 30.0
RECONNECT_TIMEOUT_S = 600
"""How long a worker node goes on without the head, s; Ray's own 60 are few for a busy machine."""


def find_redis() -> str | None:
    """Path of the Redis server's program, if there is one."""
    return shutil.which(REDIS_SERVER)


class RedisCluster:
    """A head that carries no work and keeps its tables in a Redis server of its own, and one worker node.

    Both are processes of this machine, started with ``ray start``. This process does not join the cluster: as a part of
    the head's machine, it would die with it.

    Args:
        logs: Folder for what the nodes say.
        cpus: CPUs that the worker node offers, whatever the machine has.

    Raises:
        InputError: If there is no ``redis-server``, or a node does not start.
    """

    def __init__(self, logs: Path, cpus: int = 2) -> None:
        program = find_redis()
        if program is None:
            raise InputError(
                f"A head that can be restarted needs the program '{REDIS_SERVER}' (Debian, Ubuntu: apt-get install "
                f"{REDIS_SERVER})."
            )
        self._redis_program = program
        self._logs = logs
        self._cpus = cpus
        self._redis: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        import ray

        from edgegen.serve.running import SERVE_VARIABLES

        # Ray appends long names of sockets to this, and their paths must not exceed 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="edgegen-"))
        self._logs.mkdir(parents=True, exist_ok=True)
        address = ray.util.get_node_ip_address()
        redis_port, gcs_port, self.head_port, self.worker_port, client_port, *agents = free_ports(13)
        self.address = f"{address}:{gcs_port}"
        self.environment = {
            **cluster_environment(),
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_TIMEOUT_S),
            # Both nodes have the same address, so their proxies need different ports.
            "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(self.worker_port),
            **SERVE_VARIABLES,
        }
        tables = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{redis_port}", "RAY_external_storage_namespace": "edgegen"}
        common = ["--node-ip-address", address, "--object-store-memory", str(STORE_BYTES), *FEW_PROCESSES, "--temp-dir"]
        self.head = RayHost(
            "head",
            [
                *("--head", "--port", str(gcs_port), "--num-cpus", "0", *FEW_PROCESSES_OF_HEAD),
                *("--ray-client-server-port", str(client_port)),
                *common,
                str(self._folder),
                *_agent_ports(agents[:4]),
            ],
            {**self.environment, **tables},
            self._logs / "head.txt",
        )
        self.worker = RayHost(
            "worker",
            [
                *("--address", self.address, "--num-cpus", str(self._cpus)),
                *common,
                str(self._folder),
                *_agent_ports(agents[4:]),
            ],
            self.environment,
            self._logs / "worker.txt",
        )
        try:
            self._start_redis(redis_port)
            self.head.start()
            self.worker.start()
        except BaseException:
            self._keep_logs()
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._keep_logs()
        self._stop()

    def kill_head(self) -> list[str]:
        """Kill the head with everything on it; returns the names of the processes."""
        return self.head.kill()

    def restart_head(self) -> None:
        """Start the head again, at the same address and with the same Redis.

        Raises:
            InputError: If it does not come up.
        """
        # A note that a cluster is at this address. A machine that was replaced would not have it.
        (self._folder / "ray_current_cluster").unlink(missing_ok=True)
        self.head.start()

    def _start_redis(self, port: int) -> None:
        command = [self._redis_program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._logs / "redis.txt").open("wb") as log:
            self._redis = subprocess.Popen(
                [*command, "--save", "", "--appendonly", "no"], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + REDIS_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._redis.poll() is not None or time.monotonic() > deadline:
                    raise InputError(f"{REDIS_SERVER} did not start; see '{self._logs / 'redis.txt'}'.") from None
                time.sleep(0.05)

    def _keep_logs(self) -> None:
        """Copy what Ray's processes wrote: it says why a node did not start."""
        if (written := self._folder / "session_latest" / "logs").is_dir():
            shutil.copytree(written, self._logs / "session", dirs_exist_ok=True)

    def _stop(self) -> None:
        self.worker.kill()
        self.head.kill()
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _agent_ports(ports: list[int]) -> list[str]:
    """Ports of a node's agents: where Ray chooses them itself, it gives up if they take more than 15 s to start."""
    names = (
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "runtime-env-agent-port",
        "metrics-export-port",
    )
    return [argument for name, port in zip(names, ports, strict=True) for argument in (f"--{name}", str(port))]
