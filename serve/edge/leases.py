# SPDX-License-Identifier: Apache-2.0
"""Work that somebody else does on the device of an edge, because a schedule has sent it there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgegen.serve.control.jobs import EdgeReport, Job, Lease
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge.turn import Entry

LATE_S = 30.0
"""How long after its expected end a lease that nobody has given back is kept, s."""


@dataclass(frozen=True)
class _Held:
    """A lease, and the work that it stands for.

    Attributes:
        entry: The job with the steps that were chosen.
        begins_s: When it is expected to begin, s.
        ends_s: When it is expected to end, s.
    """

    entry: Entry
    begins_s: float
    ends_s: float

    def left_gcycles(self, now_s: float) -> float:
        """Work that is left by the clock, Gcycle."""
        share = (self.ends_s - now_s) / max(self.ends_s - self.begins_s, 1e-9)
        return self.entry.work_gcycles * min(max(share, 0.0), 1.0)


class LeasingEdge(EdgeServer):
    """An edge server that counts work which is done beside its queue.

    Args:
        arguments: Those of :class:`EdgeServer`.
        options: Likewise.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._held: dict[str, _Held] = {}
        super().__init__(*arguments, **options)

    async def lease(self, job: Job) -> Lease:
        """Count the work of a job that somebody else does, and choose its steps as if it came here.

        The lease weighs what is left of the work by the clock. It ends when it is given back, or some time after it
        should have been.
        """
        now = self._clock()
        self._drop_old(now)
        model = job.model or next(iter(self._cards))
        entry = Entry(job, model, now, asyncio.get_running_loop().create_future(), job.steps, job.workload_gcycles)
        wait_s = self._backlog_s()
        load_s = 0.0 if model in self._queue.end.resident else self._pace.load_s(model, model in self._queue.end.host)
        self._steps.choose(entry, now, backlog_s=wait_s, load_s=load_s)
        work_s = self._pace.work_s(model, entry.work_gcycles)
        begins_s = now + wait_s
        held = _Held(entry, begins_s, begins_s + load_s + work_s)
        self._held[job.id] = held
        return Lease(entry.steps, wait_s, load_s, work_s, held.ends_s + LATE_S - now)

    async def release(self, name: str, generation_s: float | None = None) -> bool:
        """Take a lease back; whether there was one.

        Args:
            name: Id of its job.
            generation_s: How long the work took, s, where that is known: the edge's pace follows.
        """
        now = self._clock()
        self._drop_old(now)
        held = self._held.pop(name, None)
        if held is None:
            return False
        if generation_s is not None:
            entry, job = held.entry, held.entry.job
            area = self._cards[entry.model].relative_area(f"{job.width}x{job.height}")
            steps = max(entry.steps * len(job.seeds) * area, 1e-9)
            self._pace.worked(entry.model, entry.work_gcycles, steps, generation_s)
        return True

    async def report(self) -> EdgeReport:
        """Return the state of the server; leases come last."""
        report = await super().report()
        leases = self._left()
        if not leases:
            return report
        return replace(report, remaining_gcycles=(*report.remaining_gcycles, *leases))

    def _left(self) -> Sequence[tuple[str, float]]:
        now = self._clock()
        self._drop_old(now)
        return [(name, held.left_gcycles(now) / self._engine.concurrency) for name, held in self._held.items()]

    def _backlog_s(self) -> float:
        return super()._backlog_s() + sum(work for _, work in self._left()) / self._capacity_gcycles_s

    def _drop_old(self, now: float) -> None:
        for name in [name for name, held in self._held.items() if held.ends_s + LATE_S <= now]:
            del self._held[name]
