# SPDX-License-Identifier: Apache-2.0
"""The books of one edge server: what it holds, what it still has to do, and whether it may get more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgegen.serve.control.jobs import LEASE, LOAD, EdgeReport

if TYPE_CHECKING:
    from edgegen.serve.control.ledger import Ledger
    from edgegen.serve.control.live_world import Task

OUTSIDE = (LOAD, LEASE)
"""Beginnings of names in reports that are no jobs of the queue."""


@dataclass(eq=False)  # a server is itself and no other, however alike
class Server:
    """What the scheduler knows of one edge server.

    Attributes:
        name: The edge.
        models: The models it may hold.
        rate_mbit_s: Transmission rate towards it, Mbit/s.
        capacity_gcycles_s: Computing capacity, Gcycle/s.
        max_queue: Jobs that may wait besides the one in work.
        healthy: Whether it may get work; not before its first report.
        reason: Why it is not healthy.
        silent: Whether its latest report is missing. While others report, it gets no work.
        refused: Whether it has said since its latest report that it is full, because of other gateways' jobs.
        remaining_gcycles: Work left of each admitted job, in order of service, as of ``updated_at``.
        elsewhere_gcycles: Work on the edge that is not in these books, as of ``updated_at``: another gateway's, or a
            client's that left, until the edge has dropped it.
        elsewhere_jobs: Jobs with that work.
        updated_at: Clock reading of the last change of the job in front, s.
        report: Its latest report.
        resident: Models in its memory, as of the latest report.
        load_s: Expected time to load a model, by name, s.
        memory_gb: Memory for models, GB.
        cloud: Whether it is the cloud.
        ledger: Where it is written down beside all others, if anybody keeps a ledger.
        row: Its row there.
    """

    name: str
    models: tuple[str, ...]
    rate_mbit_s: float
    capacity_gcycles_s: float
    max_queue: int
    healthy: bool = False
    reason: str | None = "no report yet"
    silent: bool = False
    refused: bool = False
    remaining_gcycles: dict[str, float] = field(default_factory=dict)
    elsewhere_gcycles: float = 0.0
    elsewhere_jobs: int = 0
    updated_at: float = 0.0
    report: EdgeReport | None = None
    resident: frozenset[str] = frozenset()
    load_s: dict[str, float] = field(default_factory=dict)
    memory_gb: float = math.inf
    cloud: bool = False
    ledger: Ledger | None = None
    row: int = 0

    @property
    def jobs(self) -> int:
        """Jobs on the edge, the one in work included."""
        return len(self.remaining_gcycles) + self.elsewhere_jobs

    @property
    def full(self) -> bool:
        """Whether another job would exceed the queue."""
        return self.refused or self.jobs > self.max_queue

    @property
    def in_work(self) -> str | None:
        """The admitted job that the edge should be working on; None if that is a job of somebody else."""
        first = next((job for job in self.remaining_gcycles if not job.startswith(LEASE)), None)
        if self.report is None or not self.elsewhere_jobs:
            return first
        front = self.report.remaining_gcycles[0][0]
        return front if front in self.remaining_gcycles else None

    def wait_s(self, now: float) -> float:
        """Time until the edge could begin another job, s."""
        return self.backlog_gcycles(now) / self.capacity_gcycles_s

    def done_s(self, task: Task, now: float) -> float:
        """Time until a request that joins now would be done with its fewest steps, s."""
        return self.done_after_s(self.wait_s(now), task)

    def done_after_s(self, wait_s: float, task: Task) -> float:
        """Time until a request is done with its fewest steps if it has to wait for so long, s."""
        return wait_s + self.expected_load_s(task.model) + task.sure_gcycles / self.capacity_gcycles_s

    def expected_load_s(self, model: str) -> float:
        """Time to load a model, as far as that is known; 0 if it is in memory, s."""
        return 0.0 if model in self.resident else self.load_s.get(model, 0.0)

    def backlog_gcycles(self, now: float) -> float:
        """Work admitted and not finished, Gcycle; between reports the job in front shrinks with the capacity."""
        if not self.remaining_gcycles and not self.elsewhere_gcycles:
            return 0.0  # of hundreds of edges most are idle, and all are looked at for every request
        done = self.capacity_gcycles_s * (now - self.updated_at)
        in_work = self.in_work
        # Only the job in front: the next one starts when the edge says so.
        shrinking = self.elsewhere_gcycles if in_work is None else self.remaining_gcycles[in_work]
        return sum(self.remaining_gcycles.values()) + self.elsewhere_gcycles - min(done, shrinking)

    def settle(self, now: float) -> None:
        """Write down the work done since the last change."""
        done = self.capacity_gcycles_s * (now - self.updated_at)
        if (in_work := self.in_work) is None:
            self.elsewhere_gcycles = max(self.elsewhere_gcycles - done, 0.0)
        else:
            self.remaining_gcycles[in_work] = max(self.remaining_gcycles[in_work] - done, 0.0)
        self.updated_at = now

    def admit(self, job: str, workload_gcycles: float, now: float, model: str = "") -> None:
        """Add a job, and the model that it needs, at the end of the queue."""
        self.settle(now)
        self.remaining_gcycles[job] = workload_gcycles
        if self.ledger is not None:
            self.ledger.admitted(self.row, job, model or self.models[0], workload_gcycles, now)

    def drop(self, job: str, now: float) -> None:
        """Take a job, done or failed, off the books."""
        self.settle(now)
        left_gcycles = self.remaining_gcycles.pop(job, None)
        if self.ledger is not None and left_gcycles is not None:
            self.ledger.dropped(self.row, job, left_gcycles)

    def hear(self, report: EdgeReport, now: float) -> None:
        """Take over what the edge reports: it is alive, its capacity, and the work left of its jobs."""
        self.settle(now)
        self.report, self.healthy, self.reason, self.silent, self.refused = report, True, None, False, False
        self.capacity_gcycles_s = report.capacity_gcycles_s
        self.resident = frozenset(self.models if report.resident is None else report.resident)
        self.load_s.update(report.load_s)
        self.elsewhere_gcycles, self.elsewhere_jobs = 0.0, 0
        for job, work in report.remaining_gcycles:
            if job in self.remaining_gcycles:
                self.remaining_gcycles[job] = work
            else:
                self.elsewhere_gcycles += work
                self.elsewhere_jobs += not job.startswith(OUTSIDE)  # which wait, but in no place of the queue
        if leases := [job for job in self.remaining_gcycles if job.startswith(LEASE)]:
            for job in set(leases) - {job for job, _ in report.remaining_gcycles}:
                self.drop(job, now)  # given back, perhaps through another gateway, or forgotten
        if self.ledger is not None:
            self.ledger.heard(self.row, now)

    def lose(self, reason: str) -> None:
        """Mark it as unhealthy until its next report."""
        self.healthy, self.reason, self.refused = False, reason, False
        self.elsewhere_gcycles, self.elsewhere_jobs = 0.0, 0
        if self.ledger is not None:
            self.ledger.lost(self.row)


def working(servers: Iterable[Server], model: str | None = None) -> list[Server]:
    """Return the healthy servers that report, or if none does, as when this process was busy, all healthy ones.

    Args:
        servers: The books.
        model: Only servers that may hold this model.
    """
    healthy = [server for server in servers if server.healthy and (model is None or model in server.models)]
    return [server for server in healthy if not server.silent] or healthy
