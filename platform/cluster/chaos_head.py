# SPDX-License-Identifier: Apache-2.0
"""The fault of a head: it dies under a live service and comes back, while clients go on asking.

The cluster is one whose tables are in Redis. All of the service is on a worker node, whose proxy the clients ask. Every
request must be answered with pictures, or refused in the service's own words; before, during and after the outage.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgegen.envs.core.errors import InputError
from edgegen.platform.cluster.with_redis import RedisCluster

BEFORE, AWAY, AFTER = "before", "while the head was away", "after it was back"
"""When a request was sent."""
REFUSALS = {429, 503, 504}
"""Answers of the gateway that say it will not do what was asked; see docs/serving.md."""
ANSWER_TIMEOUT_S = 120.0
PHASE_TIMEOUT_S = 240.0
SERVICE = {
    "models": {"shapes-64": {"cycles_per_step_gcycles": 0.03, "max_steps": 50}},
    "edges": [
        {"name": name, "model": "shapes-64", "capacity_gcycles_s": 2.0, "num_cpus": 0.5}
        for name in ("edge-a", "edge-b")
    ],
    "policy": "least-delay",
    "seed": 0,
}
"""Two edges with the embedded model."""


@dataclass(frozen=True)
class HeadPlan:
    """What is asked of the service while its head dies.

    Attributes:
        folder: Where the logs go.
        requests: Requests to wait for: of those sent before the head dies, while it is away, and after it is back.
        clients: Clients that ask at the same time, each one request after the other.
        steps: Denoising steps of a request.
    """

    folder: Path
    requests: int = 30
    clients: int = 4
    steps: int = 10


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        sent: When it was sent: ``BEFORE``, ``AWAY`` or ``AFTER``.
        ended: When it was answered, likewise.
        status: Status of the answer; 0 if there was none.
        text: What the answer said, unless it was pictures.
        seconds: How long it took, s.
    """

    sent: str
    ended: str
    status: int
    text: str
    seconds: float

    @property
    def kind(self) -> str:
        """Whether it was answered, refused or lost."""
        if self.status == 200:
            return "answered"
        return "refused" if self.status in REFUSALS and self.text.startswith('{"error"') else "lost"


class Clients:
    """Ask a service without pause, until the end of the block.

    Args:
        url: Its base URL.
        plan: How many ask, and for what.

    Attributes:
        phase: What time it is: ``BEFORE``, ``AWAY`` or ``AFTER``.
        answers: What came of the requests.
    """

    def __init__(self, url: str, plan: HeadPlan) -> None:
        self.phase = BEFORE
        self.answers: list[Answer] = []
        self._url = url
        self._plan = plan
        self._under_way = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(plan.clients)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, number: int) -> None:
        """Wait until so many requests that were sent in this phase have ended, however.

        Raises:
            InputError: If that takes too long.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._ended_in_phase() >= number, PHASE_TIMEOUT_S)
        if not done:
            raise InputError(
                f"Only {self._ended_in_phase()} of {number} requests sent {self.phase} had ended after "
                f"{PHASE_TIMEOUT_S:g} s."
            )

    def wait_for_work(self) -> int:
        """Wait until there are requests under way; returns how many."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way, PHASE_TIMEOUT_S)
            return self._under_way

    def _ended_in_phase(self) -> int:
        return sum(answer.sent == self.phase for answer in self.answers)

    def _ask(self, number: int) -> None:
        import httpx

        from edgegen.serve.connection import connect

        body = {"prompt": "a large red circle", "num_inference_steps": self._plan.steps, "seed": number}
        with connect(self._url).client(timeout=ANSWER_TIMEOUT_S) as client:
            while not self._stopping.is_set():
                with self._changed:
                    sent = self.phase
                    self._under_way += 1
                    self._changed.notify_all()
                begun = time.monotonic()
                try:
                    response = client.post("/v1/images/generations", json=body)
                    status, text = response.status_code, "" if response.status_code == 200 else response.text[:300]
                except httpx.HTTPError as error:
                    status, text = 0, repr(error)
                with self._changed:
                    self._under_way -= 1
                    self.answers.append(Answer(sent, self.phase, status, text, time.monotonic() - begun))
                    self._changed.notify_all()
                self._stopping.wait(0.05)


@dataclass(frozen=True)
class HeadOutcome:
    """What came of restarting the head.

    Attributes:
        done: What was done.
        counts: By phase in which they were sent, how many requests were answered, refused and lost.
        across: Requests that were under way when the head died.
        slowest_s: The longest that an answer took, s.
        lost: What the requests that were lost got instead of an answer.
        unhealthy: Edges that were not healthy in the end.
        application: What Serve's new controller says of the application.
        seconds: How long all of it took, s.
    """

    done: str
    counts: dict[str, dict[str, int]]
    across: int
    slowest_s: float
    lost: tuple[str, ...]
    unhealthy: tuple[str, ...]
    application: str
    seconds: float
    fault: str = "head"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def verdict(self) -> tuple[bool, str]:
        """Whether the service came through, and why that can be said."""
        silent = [phase for phase, counts in self.counts.items() if not counts.get("answered")]
        total = sum((Counter(counts) for counts in self.counts.values()), Counter())
        if self.lost:
            return False, f"{len(self.lost)} requests were lost, the first with {self.lost[0]}"
        if silent:
            return False, f"no request was answered that was sent {silent[0]}"
        if self.unhealthy:
            return False, f"not healthy in the end: {', '.join(self.unhealthy)}"
        if self.application != "RUNNING":
            return False, f"the new controller calls the application {self.application}"
        parts = ", ".join(f"{counts['answered']} {phase}" for phase, counts in self.counts.items())
        return True, (
            f"{total['answered']} requests answered ({parts}), {total['refused']} refused, none lost; the slowest "
            f"took {self.slowest_s:.1f} s"
        )


def restart_head(plan: HeadPlan) -> HeadOutcome:
    """Serve, kill the head with all its processes, start it again, and ask all the time.

    Raises:
        InputError: If there is no ``redis-server``, or a node or the service does not start.
    """
    from edgegen.serve.connection import connect

    begun = time.monotonic()
    with RedisCluster(plan.folder) as cluster:
        _run(cluster, "deploy", cluster.address, cluster.head_port)
        url = f"http://127.0.0.1:{cluster.worker_port}"
        with Clients(url, plan) as clients:
            clients.wait_for_answers(plan.requests)
            across = clients.wait_for_work()
            killed = cluster.kill_head()
            died = time.monotonic()
            clients.phase = AWAY
            clients.wait_for_answers(plan.requests)
            cluster.restart_head()
            away_s = time.monotonic() - died
            clients.phase = AFTER
            application = str(json.loads(_run(cluster, "application_status", cluster.address)))
            clients.wait_for_answers(plan.requests)
        with connect(url).client(timeout=ANSWER_TIMEOUT_S) as client:
            edges = client.get("/v1/edges").json()["data"]
    counts: dict[str, dict[str, int]] = {phase: {} for phase in (BEFORE, AWAY, AFTER)}
    for answer in clients.answers:
        counts[answer.sent][answer.kind] = counts[answer.sent].get(answer.kind, 0) + 1
    return HeadOutcome(
        done=f"killed {len(killed)} processes of the head ({', '.join(sorted({'gcs_server', 'raylet'} & {*killed}))} "
        f"among them) with {across} requests under way; the head was back after {away_s:.0f} s",
        counts=counts,
        across=across,
        slowest_s=max(answer.seconds for answer in clients.answers),
        lost=tuple(f"{answer.status} {answer.text}" for answer in clients.answers if answer.kind == "lost"),
        unhealthy=tuple(edge["name"] for edge in edges if not edge["healthy"]),
        application=application,
        seconds=time.monotonic() - begun,
    )


def _run(cluster: RedisCluster, function: str, *arguments: object) -> str:
    """Call a function of this module in a process that joins the cluster, and return what it printed."""
    script = f"import json, sys; from {__name__} import {function}; {function}(*json.loads(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=2 * PHASE_TIMEOUT_S,
        check=False,
    )
    if ran.returncode:
        reason = ran.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        raise InputError(f"The service can not be reached or started: {reason[0]}")
    return ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ""


def deploy(address: str, port: int) -> None:
    """Put the service on the worker node of a cluster, with a proxy on every node that carries a part of it.

    Args:
        address: The cluster.
        port: Port of the head's proxy; the worker's is in its environment.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation
    from ray.serve.schema import LoggingConfig

    from edgegen.algorithms.rllib.ray_session import ray_session
    from edgegen.serve.app import APP_NAME, app

    with ray_session(address):
        serve.start(
            proxy_location=ProxyLocation.EveryNode,
            http_options=HTTPOptions(host="127.0.0.1", port=port),
            logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        )
        serve.run(app(SERVICE), name=APP_NAME, route_prefix="/")


def application_status(address: str) -> None:
    """Print what Serve's controller says of the service, once it says anything."""
    from ray import serve
    from ray.exceptions import RayError

    from edgegen.algorithms.rllib.ray_session import ray_session

    deadline, status = time.monotonic() + PHASE_TIMEOUT_S, "unknown"
    with ray_session(address):
        while status != "RUNNING" and time.monotonic() < deadline:
            try:
                (application,) = serve.status().applications.values()
                status = str(application.status.value)
            except (RayError, ValueError):  # the controller is being started again
                status = "unknown"
            time.sleep(0.2)
    sys.stdout.write(json.dumps(status) + "\n")
