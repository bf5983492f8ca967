# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of several nodes on one machine, to train on and to break."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from edgegen.algorithms.rllib.private_core import actors
from edgegen.algorithms.rllib.ray_session import start_patiently
from edgegen.platform.cluster.host import STORE_BYTES


@dataclass(frozen=True)
class Process:
    """A process of a training.

    Attributes:
        kind: Name of the class that runs in it.
        pid: Its process id.
        node: Id of the node it is on.
    """

    kind: str
    pid: int
    node: str


class LocalCluster:
    """A head that carries no work, and some worker nodes; this process is connected to the head inside the block.

    Args:
        workers: Number of worker nodes.
        cpus: CPUs that each of them offers, whatever the machine has.
    """

    def __init__(self, workers: int = 2, cpus: int = 3) -> None:
        self._workers = workers
        self._cpus = cpus
        self._cluster: Any = None
        self._nodes: dict[str, Any] = {}

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        start_patiently(self._start)
        return self

    def _start(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._nodes = {}
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(self._workers):
                self.add_worker(wait=False)
            self._cluster.wait_for_nodes()
            ray.init(address=self.address, logging_level=logging.ERROR, log_to_driver=False)
        except BaseException:
            self._cluster.shutdown()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return str(self._cluster.address)

    @property
    def workers(self) -> list[str]:
        """Ids of the worker nodes that are there."""
        return list(self._nodes)

    def add_worker(self, wait: bool = True) -> str:
        """Add a worker node; returns its id."""
        node = self._cluster.add_node(num_cpus=self._cpus, object_store_memory=STORE_BYTES, wait=wait)
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def processes(self) -> list[Process]:
        """Env runners and learners that are alive, in order of their kinds."""
        found = [
            Process(actor["ActorClassName"], actor["Pid"], actor["Address"]["NodeID"])
            for actor in actors()
            if actor["State"] == "ALIVE"
        ]
        return sorted(found, key=lambda process: (process.kind, process.pid))

    def runners(self) -> list[Process]:
        """Env runners that are alive."""
        return [process for process in self.processes() if process.kind.endswith("Runner")]

    def learners(self) -> list[Process]:
        """Remote learners that are alive; Ray Train wraps their class."""
        return [process for process in self.processes() if "Executable" in process.kind]

    def kill(self, process: Process) -> None:
        """Kill a process as the kernel would, without a word."""
        os.kill(process.pid, signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """Kill a worker node with everything on it."""
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=False)
