# SPDX-License-Identifier: Apache-2.0
"""Traces: recorded tasks, and the decisions made about them, as CSV files.

A trace has one row per task with the columns ``slot``, ``edge`` (the server the task arrived at), ``index`` (its place
among the slot's tasks of that server), ``size_mbit``, ``workload_gcycles`` and ``result_mbit``; if the decisions were
recorded too, also ``server``. Rows may come in any order, and further columns are carried along untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.tables import MAX_INTEGER, numbers, read_table

TRACE_COLUMNS = ("slot", "edge", "index", "size_mbit", "workload_gcycles", "result_mbit")
OUTCOME_COLUMNS = ("server", "transfer_s", "wait_s", "compute_s", "return_s", "delay_s")


@dataclass(frozen=True)
class Trace:
    """M recorded tasks: by slot, then index, then edge.

    Attributes:
        rows: The rows as they were read, every value as text ``[M, columns]``.
        slot: Slot of each task ``[M]``, int64.
        edge: Server it arrived at ``[M]``, int64.
        index: Its index n ``[M]``, int64; may have gaps.
        size_mbit: Input size ``[M]``, float64, Mbit.
        workload_gcycles: Workload ``[M]``, float64, Gcycle.
        result_mbit: Result size ``[M]``, float64, Mbit.
        server: Recorded decision ``[M]``, int64; None if the trace has none.
    """

    rows: pd.DataFrame
    slot: np.ndarray
    edge: np.ndarray
    index: np.ndarray
    size_mbit: np.ndarray
    workload_gcycles: np.ndarray
    result_mbit: np.ndarray
    server: np.ndarray | None

    def __len__(self) -> int:
        return len(self.slot)


def read_trace(path: str | Path, servers: int, decisions: bool = True) -> Trace:
    """Read and check a trace.

    Args:
        path: A CSV file.
        servers: Number of servers of the scenario.
        decisions: Read the column ``server``, if there is one.

    Raises:
        InputError: If the file can not be read, lacks a column, or holds a value that is not allowed.
    """
    rows = read_table(path, "Trace", TRACE_COLUMNS)
    recorded = decisions and "server" in rows.columns
    values: dict[str, np.ndarray] = {}
    for column in (*TRACE_COLUMNS, *(["server"] if recorded else [])):
        if column in ("edge", "server"):
            values[column] = numbers(path, "Trace", rows, column, servers - 1, ", the servers of the scenario")
        elif column in ("slot", "index"):
            values[column] = numbers(path, "Trace", rows, column, MAX_INTEGER)
        else:
            values[column] = numbers(path, "Trace", rows, column)
    order = np.lexsort((values["edge"], values["index"], values["slot"]))
    _refuse_duplicates(path, order, values)
    task = {column: values[column][order] for column in TRACE_COLUMNS}
    return Trace(rows=rows.iloc[order], server=values["server"][order] if recorded else None, **task)


def _refuse_duplicates(path: str | Path, order: np.ndarray, values: dict[str, np.ndarray]) -> None:
    key = np.stack([values[column][order] for column in ("slot", "edge", "index")])  # [3, M]
    same = (key[:, 1:] == key[:, :-1]).all(axis=0)
    if same.any():
        at = int(same.argmax())
        slot, edge, index = key[:, at].tolist()
        raise InputError(
            f"Trace '{path}', row {order[at + 1] + 1}: slot {slot}, edge {edge}, index {index} is already in row "
            f"{order[at] + 1}, but every task may occur only once."
        )
