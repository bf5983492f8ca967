# SPDX-License-Identifier: Apache-2.0
"""Edges in other processes, reached through Ray Serve handles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from edgegen.serve.control.jobs import (
    FIRST,
    EdgeFullError,
    EdgeLostError,
    EdgeReport,
    GenerationError,
    Glimpse,
    Job,
    Kept,
    KeyReusedError,
    Lease,
    OvertakenError,
    Pictures,
    Sending,
)
from edgegen.serve.edge.steps import DecideSteps

SENTENCES = (EdgeFullError, GenerationError, KeyReusedError, OvertakenError)
"""What an edge says itself."""


class EdgeHandle:
    """An edge behind a Serve handle; turns Ray's many failures into those of :mod:`edgegen.serve.control.jobs`.

    Args:
        handle: Handle of the deployment that it lives in.
        name: The edge.
    """

    def __init__(self, handle: DeploymentHandle, name: str) -> None:
        self._handle = handle
        self._name = name

    async def generate(self, job: Job) -> Pictures:
        """See :meth:`EdgeServer.generate`."""
        try:
            pictures: Pictures = await self._handle.generate.remote(self._name, job)
        except SENTENCES as error:
            # The remote class carries a traceback in its text; its cause is the edge's own sentence.
            cause = error.cause if isinstance(error, RayTaskError) else error
            kind = next(kind for kind in SENTENCES if isinstance(error, kind))
            raise kind(str(cause)) from None
        except BackPressureError as error:
            raise EdgeFullError(str(error)) from None
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return pictures

    async def find(self, name: str, sending: Sending = FIRST) -> Kept | None:
        """See :meth:`KeepingEdge.find`."""
        try:
            kept: Kept | None = await self._handle.find.remote(self._name, name, sending)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return kept

    async def watch(self, name: str, seen: int, wait_s: float) -> Glimpse:
        """See :meth:`EdgeServer.watch`."""
        try:
            glimpse: Glimpse = await self._handle.watch.remote(self._name, name, seen, wait_s)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return glimpse

    async def lease(self, job: Job) -> Lease:
        """See :meth:`LeasingEdge.lease`."""
        try:
            lease: Lease = await self._handle.lease.remote(self._name, job)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return lease

    async def release(self, name: str, generation_s: float | None = None) -> bool:
        """See :meth:`LeasingEdge.release`."""
        try:
            found: bool = await self._handle.release.remote(self._name, name, generation_s)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return found

    async def keep(self, wanted: Sequence[str], scores: Mapping[str, float] | None = None) -> None:
        """See :meth:`EdgeServer.keep`."""
        try:
            await self._handle.keep.remote(self._name, wanted, scores)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None

    async def choose_steps_by(self, decide_steps: DecideSteps | None) -> None:
        """See :meth:`EdgeServer.choose_steps_by`."""
        try:
            await self._handle.choose_steps_by.remote(self._name, decide_steps)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None

    async def report(self) -> EdgeReport:
        """See :meth:`EdgeServer.report`."""
        try:
            report: EdgeReport = await self._handle.report.remote(self._name)
        except (RayError, RayServeException) as error:
            raise EdgeLostError(_sentence(error)) from None
        return report


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
