# SPDX-License-Identifier: Apache-2.0
"""Edges that share a process: those that only wait, for a service elsewhere or for an emulated device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgegen.serve.control.jobs import FIRST, EdgeReport, Glimpse, Job, Kept, Lease, Pictures, Sending
from edgegen.serve.edge.kept import KeepingEdge
from edgegen.serve.edge.steps import DecideSteps


class EdgeHouse:
    """One or more edges of a process; each call names the edge that it is for.

    Args:
        edges: Arguments of :class:`KeepingEdge`, those by place and those by name, of each edge by its name.
    """

    def __init__(self, edges: Mapping[str, tuple[Sequence[Any], Mapping[str, Any]]]) -> None:
        self._edges = {name: KeepingEdge(*places, **names) for name, (places, names) in edges.items()}

    async def generate(self, edge: str, job: Job) -> Pictures:
        """See :meth:`KeepingEdge.generate`."""
        return await self._edges[edge].generate(job)

    async def find(self, edge: str, name: str, sending: Sending = FIRST) -> Kept | None:
        """See :meth:`KeepingEdge.find`."""
        return await self._edges[edge].find(name, sending)

    async def watch(self, edge: str, name: str, seen: int, wait_s: float) -> Glimpse:
        """See :meth:`EdgeServer.watch`."""
        return await self._edges[edge].watch(name, seen, wait_s)

    async def lease(self, edge: str, job: Job) -> Lease:
        """See :meth:`LeasingEdge.lease`."""
        return await self._edges[edge].lease(job)

    async def release(self, edge: str, name: str, generation_s: float | None = None) -> bool:
        """See :meth:`LeasingEdge.release`."""
        return await self._edges[edge].release(name, generation_s)

    async def keep(self, edge: str, wanted: Sequence[str], scores: Mapping[str, float] | None = None) -> None:
        """See :meth:`EdgeServer.keep`."""
        await self._edges[edge].keep(wanted, scores)

    async def choose_steps_by(self, edge: str, decide_steps: DecideSteps | None) -> None:
        """See :meth:`EdgeServer.choose_steps_by`."""
        await self._edges[edge].choose_steps_by(decide_steps)

    async def report(self, edge: str) -> EdgeReport:
        """See :meth:`EdgeServer.report`."""
        return await self._edges[edge].report()

    async def check_health(self) -> None:
        """Raise if one of the edges is stuck; Serve then replaces them all.

        Raises:
            RuntimeError: As :meth:`EdgeServer.check_health`.
        """
        for edge in self._edges.values():
            await edge.check_health()
