# SPDX-License-Identifier: Apache-2.0
"""A drained machine of a site, on a local cluster of several nodes: what Serve does, and what drain.sh waits for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from edgegen.platform.ports import free_ports

SCRIPT = Path(__file__).parents[2] / "k8s" / "jobs" / "scripts" / "drain.sh"
WORK_S = 12.0


@pytest.mark.e2e
@pytest.mark.soak
def test_work_under_way_is_finished_and_what_follows_goes_to_the_other_machine(monkeypatch):
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (port,) = free_ports(1)
    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, resources={"site": 1}, **memory)
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})

        class Edge:
            async def __call__(self, request):
                await asyncio.sleep(float(request.query_params["seconds"]))
                return ray.get_runtime_context().get_node_id()

        options = {"ray_actor_options": {"resources": {"site": 1}}, "graceful_shutdown_timeout_s": 60}
        serve.run(serve.deployment(**options)(Edge).bind(), name="edge")

        def ask(seconds):
            answer = httpx.get(f"http://127.0.0.1:{port}/", params={"seconds": seconds}, timeout=120)
            answer.raise_for_status()
            return answer.text

        node, answers = ask(0), list[tuple[str, float]]()
        busy = threading.Thread(target=lambda: answers.append((ask(WORK_S), time.monotonic())))
        busy.start()
        time.sleep(1)
        drain = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address]
        drain += ["--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"]
        done = subprocess.run(
            [*drain, "--deadline-remaining-seconds", "60"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        waited = subprocess.run(["bash", SCRIPT, "60", str(port)], timeout=90, check=True)
        ended = time.monotonic()
        busy.join(60)
        ((by, at),) = answers
        assert by == node  # by the machine that goes
        assert waited.returncode == 0
        assert ended > at - 1.0  # not before the answer: the script looks once a second
        assert ask(0) != node
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)
