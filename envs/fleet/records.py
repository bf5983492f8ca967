# SPDX-License-Identifier: Apache-2.0
"""The requests that a service recorded, as a trace of the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgegen.envs.core.records import read_records
from edgegen.envs.fleet.traces import Trace

if TYPE_CHECKING:
    import pyarrow


def trace_of(records: pyarrow.Table, what: str) -> Trace:
    """The requests of a recording as a trace: when they came, and the models, pictures and steps that they asked for.

    Args:
        records: The rows, in the order of arrival.
        what: What they are from, to begin a sentence with.

    Raises:
        InputError: If there are fewer than two.
    """
    columns = {name: records.column(name).to_numpy() for name in ("arrival_s", "pictures", "steps")}
    names = np.array(records.column("model").to_pylist(), dtype=object)
    return Trace.of({**columns, "model": names}, what, lambda row: f"request {row + 1}")


def read_trace(folder: Path) -> Trace:
    """The requests of a folder as a trace.

    Raises:
        InputError: If there are none, or they can not be read.
    """
    return trace_of(read_records(folder), f"Recording '{folder}'")
