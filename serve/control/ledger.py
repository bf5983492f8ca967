# SPDX-License-Identifier: Apache-2.0
"""The ledger of all edges: what views are made of, as arrays with a row per edge and a column per model.

The books of each edge write it (:mod:`edgegen.serve.control.books`), so that a view needs no loop over edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgegen.serve.control.books import Server

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FORGETTING = 0.5
"""What of a frame's demand still counts in the next one, as in the fleet world."""


class Ledger:
    """What is known of S edges and M models.

    Between reports it goes on as the fleet world does: an edge is done when it said so, and later by what has been
    placed there since; a model that is brought in drives out what is not wanted, and was asked for longest ago.

    Args:
        servers: The books, in the order of the rows; they write here from now on.
        models: Names of the models, in the order of the columns.
        size_gb: Memory that each model takes, GB.
        load_s: Time to load each model where no edge has said so yet, s.

    Attributes:
        servers: The books.
        models: Names of the models.
        size_gb: Memory that each model takes ``[M]``, GB.
        memory_gb: Memory of each edge ``[S]``, GB.
        allowed: Whether an edge may hold a model ``[S, M]``.
        capacity_gcycles_s: Computing capacity ``[S]``, Gcycle/s.
        healthy: Whether an edge may get work ``[S]``.
        heard_at: Clock reading of its latest report ``[S]``, s; minus infinity before the first.
        done_at: Clock reading at which it has done all that is known to be placed there ``[S]``, s.
        resident: Whether a model will be in memory when the edge's queue is done ``[S, M]``.
        wanted: Whether the cacher wants it there ``[S, M]``.
        used_at: Clock reading at which it was last asked for there ``[S, M]``, s.
        load_s: Expected time to load it there ``[S, M]``, s.
        demand: Requests of an edge's users for it, older frames counting less ``[S, M]``.
        asked: The same of this frame alone ``[S, M]``.
        frame: Frames that are over.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        models: Sequence[str],
        size_gb: Sequence[float] | None = None,
        load_s: Sequence[float] | None = None,
    ) -> None:
        self.servers, self.models = tuple(servers), tuple(models)
        self.rows = {server.name: row for row, server in enumerate(servers)}
        self.columns = {name: column for column, name in enumerate(models)}
        edges, shape = len(servers), (len(servers), len(models))
        self.size_gb = np.zeros(len(models)) if size_gb is None else np.array(size_gb, dtype=np.float64)
        self.memory_gb = np.array([server.memory_gb for server in servers])
        self.allowed: Flags = np.array([[model in server.models for model in models] for server in servers])
        self.capacity_gcycles_s = np.array([server.capacity_gcycles_s for server in servers])
        self.healthy: Flags = np.zeros(edges, dtype=np.bool_)
        self.heard_at = np.full(edges, -math.inf)
        self.done_at = np.full(edges, -math.inf)
        self.resident: Flags = np.zeros(shape, dtype=np.bool_)
        self.wanted: Flags = np.zeros(shape, dtype=np.bool_)
        self.used_at = np.full(shape, -math.inf)
        self.load_s = np.broadcast_to(0.0 if load_s is None else np.array(load_s), shape).copy()
        self.demand, self.asked = np.zeros(shape), np.zeros(shape)
        self.frame = 0
        self._edges: Flags = np.array([not server.cloud for server in servers])
        self._jobs: list[dict[str, int]] = [{} for _ in servers]  # columns of the models of placed jobs
        for row, server in enumerate(servers):
            server.ledger, server.row = self, row

    def backlog_s(self, now: float) -> Floats:
        """What each edge has still to do ``[S]``, s."""
        return np.maximum(self.done_at - now, 0.0)

    def mean_backlog_s(self, now: float) -> float:
        """Mean of what all edges but the cloud have still to do, s."""
        return float(self.backlog_s(now)[self._edges].mean())

    def count(self, home: str, model: str) -> None:
        """Count a request of an edge's users."""
        row, column = self.rows[home], self.columns[model]
        self.demand[row, column] += 1.0
        self.asked[row, column] += 1.0

    def keep(self, row: int, wanted: Flags) -> None:
        """Take over what a cacher wants of an edge ``[M]``; the edge's next report says what its loads take.

        What does not fit is left out, what is least demanded first.
        """
        wanted = wanted & self.allowed[row]
        while self.size_gb[wanted].sum() > self.memory_gb[row]:
            kept = np.flatnonzero(wanted)
            # Of equals the last goes, as in the fleet world.
            wanted[kept[::-1][np.argmin(self.demand[row, kept[::-1]])]] = False
        self.wanted[row] = wanted
        for column in np.flatnonzero(wanted & ~self.resident[row]):
            self._bring(row, int(column))

    def next_frame(self) -> None:
        """Begin a frame: what was asked for before counts less."""
        self.demand *= FORGETTING
        self.asked[:] = 0.0
        self.frame += 1

    def admitted(self, row: int, job: str, model: str, work_gcycles: float, now: float) -> None:
        """Add a job, and the load of its model if that is not there, to what an edge has to do."""
        load_s, column = 0.0, self.columns.get(model)
        if column is not None:
            self._jobs[row][job] = column
            if not self.resident[row, column]:
                load_s = self.load_s[row, column]
                self._bring(row, column)
            self.used_at[row, column] = now
        work_s = work_gcycles / self.capacity_gcycles_s[row]
        self.done_at[row] = max(self.done_at[row], now) + load_s + work_s

    def dropped(self, row: int, job: str, left_gcycles: float) -> None:
        """Take what a job had still left, if anything, off what an edge has to do."""
        self._jobs[row].pop(job, None)
        self.done_at[row] -= left_gcycles / self.capacity_gcycles_s[row]

    def heard(self, row: int, now: float) -> None:
        """Take over the latest report of an edge, which is in its books."""
        server = self.servers[row]
        report = server.report
        assert report is not None
        self.healthy[row], self.heard_at[row] = True, now
        self.capacity_gcycles_s[row] = report.capacity_gcycles_s
        work_gcycles = sum(work for _, work in report.remaining_gcycles)
        # Jobs that the edge had not got yet when it wrote the report are in the books alone.
        unseen = set(server.remaining_gcycles) - {job for job, _ in report.remaining_gcycles}
        work_gcycles += sum(server.remaining_gcycles[job] for job in unseen)
        for model, load_s in report.load_s:
            if (known := self.columns.get(model)) is not None:
                self.load_s[row, known] = load_s
        busy_s = work_gcycles / report.capacity_gcycles_s
        there = server.resident if report.expected is None else report.expected
        self.resident[row] = [model in there for model in self.models]
        for job, column in self._jobs[row].items():
            if (report.expected is None or job in unseen) and not self.resident[row, column]:
                busy_s += self.load_s[row, column] if job in unseen else 0.0
                self._bring(row, column)
        self.done_at[row] = now + busy_s

    def lost(self, row: int) -> None:
        """Note that an edge may get no work."""
        self.healthy[row] = False

    def _bring(self, row: int, column: int) -> None:
        """Bring a model in, and drive others out for it until it fits."""
        resident, wanted, used = self.resident[row], self.wanted[row], self.used_at[row]
        resident[column] = True
        while self.size_gb[resident].sum() > self.memory_gb[row]:
            others = [other for other in np.flatnonzero(resident) if other != column]
            if not others:
                return
            resident[min(others, key=lambda other: (wanted[other], used[other]))] = False
