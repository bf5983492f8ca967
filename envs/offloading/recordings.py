# SPDX-License-Identifier: Apache-2.0
"""Recorded traffic: how many tasks came where and when, from a file.

A recording is a CSV file with the columns ``slot`` and ``edge`` and a row per task, as a trace has them
(:mod:`edgegen.envs.offloading.trace`); or, with a column ``tasks``, a row per slot and edge with the number of tasks.
Other columns are ignored. Files in ``envs/recording_files/`` have names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_serializer, model_validator

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import Frozen
from edgegen.envs.core.named_files import CSV, find_file
from edgegen.envs.core.tables import MAX_INTEGER, numbers, read_table

RECORDING_FOLDER = Path(__file__).parents[1] / "recording_files"
MAX_SLOTS, MAX_EDGES, MAX_CELLS, MAX_TASKS = 100_000, 10_000, 1_000_000, 10**9
MOST_FACTORS = 10 * MAX_CELLS
"""Most slots times servers of a world."""
MAX_DIGITS = len(str(MAX_INTEGER))

MOST_TIMES = 1000.0
"""Most that a slot of an edge may have over the mean; also what other factors on traffic may be."""

Tasks = Annotated[int, Field(ge=0, le=MAX_INTEGER, strict=True)]


def _row(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    words = value.split()
    if not all(word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS for word in words):
        raise ValueError("must be numbers of tasks between spaces")
    return [int(word) for word in words]


class Recording(Frozen):
    """Tasks that were recorded, by slot and edge.

    An episode plays a window that begins at a slot drawn at random, and goes on with slot 0 after the last one. Server
    b gets what edge b got; where there are more servers than edges, edges are used again from the first on.

    Attributes:
        source: Name or path of the file.
        counts: Number of tasks ``[S, K]`` of each slot and edge. As plain data a row is a text, numbers between spaces.
    """

    source: str = ""
    counts: Annotated[tuple[Annotated[tuple[Tasks, ...], BeforeValidator(_row)], ...], Field(min_length=1)]

    @field_serializer("counts")
    def _rows(self, counts: tuple[tuple[int, ...], ...]) -> list[str]:
        return [" ".join(map(str, row)) for row in counts]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len({len(row) for row in self.counts}) != 1 or not self.counts[0]:
            raise ValueError("counts needs rows of the same length, with a number for every edge")
        return self

    def factors(self, servers: int) -> NDArray[np.float64]:
        """Tasks of each slot and server over their mean ``[S, B]``.

        Raises:
            ValueError: If there are no tasks at the edges that these servers are given, or a peak is too high.
        """
        if len(self.counts) * servers > MOST_FACTORS:
            raise ValueError(
                f"the recording '{self.source}' has {len(self.counts)} slots, for {servers} servers, but the product "
                f"may be at most {MOST_FACTORS}"
            )
        counts = self._of_servers(servers)
        if not counts.any():
            raise ValueError(f"the recording '{self.source}' has no tasks at its first {counts.shape[1]} edges")
        factors: NDArray[np.float64] = counts / counts.mean()
        if factors.max() > MOST_TIMES:
            raise ValueError(
                f"the peak of the recording '{self.source}', {counts.max():.0f} in a slot of an edge, is "
                f"{factors.max():.6g} times the mean of all slots and edges, but may be at most {MOST_TIMES:g} times "
                "the mean; record with longer slots, or leave silence out"
            )
        return factors

    def longest_silence(self, servers: int) -> int:
        """Most slots in a row in which these servers get nothing; slot 0 follows on the last one."""
        slots = np.flatnonzero(self._of_servers(servers).any(1))
        return int(np.diff(slots, append=slots[:1] + len(self.counts)).max() - 1) if slots.size else len(self.counts)

    def _of_servers(self, servers: int) -> NDArray[np.float64]:
        """Tasks of each slot and server ``[S, B]``."""
        counts = np.array(self.counts, dtype=np.float64)
        return counts[:, np.arange(servers) % counts.shape[1]]

    def draw(self, rngs: list[np.random.Generator], slots: int, servers: int) -> NDArray[np.float64]:
        """Draw windows of the factors ``[E, slots, B]``."""
        factors = self.factors(servers)
        begin = np.array([rng.integers(len(factors)) for rng in rngs])
        return factors[(begin[:, None] + np.arange(slots)) % len(factors)]


def read_recording(name_or_path: str) -> Recording:
    """Read a recording that is shipped, by name, or any, by the path of a ``.csv`` file.

    Raises:
        InputError: If there is no such file, it lacks a column, or it holds a value that is not allowed.
    """
    path = find_file(name_or_path, RECORDING_FOLDER, "recording", endings=CSV)
    rows = read_table(path, "Recording", ("slot", "edge"))
    slot = numbers(path, "Recording", rows, "slot", MAX_SLOTS - 1)
    edge = numbers(path, "Recording", rows, "edge", MAX_EDGES - 1)
    counted = "tasks" in rows.columns
    tasks = numbers(path, "Recording", rows, "tasks", MAX_TASKS) if counted else np.ones(len(rows), np.int64)
    if not tasks.any():
        raise InputError(f"Recording '{path}' has no tasks, but needs at least one.")
    shape = (int(slot.max()) + 1, int(edge.max()) + 1)
    if shape[0] * shape[1] > MAX_CELLS:
        raise InputError(
            f"Recording '{path}' has {shape[0]} slots and {shape[1]} edges, but their product must be at most "
            f"{MAX_CELLS}."
        )
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (slot, edge), tasks)
    return Recording(source=name_or_path, counts=tuple(map(tuple, counts.tolist())))


def _read_if_named(value: Any) -> Any:
    if not isinstance(value, str | dict | Recording):
        raise ValueError("must be the name of a recording, or the path of a .csv file")
    return read_recording(value) if isinstance(value, str) else value


NamedRecording = Annotated[Recording, BeforeValidator(_read_if_named)]
"""A recording, or its name or path; it is read at once, so that a scenario that is saved stands alone."""
