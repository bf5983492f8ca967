# SPDX-License-Identifier: Apache-2.0
"""Where a request stands that is under way, as the books have it."""

from __future__ import annotations

from dataclasses import dataclass

from edgegen.serve.control.books import OUTSIDE, Server


@dataclass(frozen=True)
class Standing:
    """Where a request stands.

    Attributes:
        edge: The edge that has it; None while it waits at the gateway for its turn.
        ahead: Requests on the edge that are before it, the one in work included; None if nobody knows.
        wait_s: Expected time until it is begun, s; None if nobody knows.
    """

    edge: str | None = None
    ahead: int | None = None
    wait_s: float | None = None


def standing_of(server: Server, job_id: str, now: float) -> Standing:
    """Return where a job stands that is on an edge.

    Args:
        server: The books of the edge.
        job_id: The job.
        now: Clock reading, s.
    """
    reported = () if server.report is None else server.report.remaining_gcycles
    names = [name for name, _ in reported]
    if job_id in names:
        before = reported[: names.index(job_id)]
        work_gcycles = sum(work for _, work in before) - server.capacity_gcycles_s * (now - server.updated_at)
        ahead = sum(not name.startswith(OUTSIDE) for name, _ in before)
    else:  # it is on its way
        work_gcycles = server.backlog_gcycles(now) - server.remaining_gcycles.get(job_id, 0.0)
        ahead = server.jobs - (job_id in server.remaining_gcycles)
    return Standing(server.name, ahead, max(work_gcycles, 0.0) / server.capacity_gcycles_s if ahead else 0.0)
