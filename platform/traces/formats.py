# SPDX-License-Identifier: Apache-2.0
"""Forms in which others record requests, and what of them is a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.named_files import PARQUET
from edgegen.envs.core.paths import reason_of
from edgegen.envs.fleet.records import read_trace
from edgegen.envs.fleet.traces import COLUMNS, Trace
from edgegen.platform.traces.cells import Cells

GAP = 100
"""Silences of more than so many mean gaps are counted."""
TITLES = {
    "requests": "requests",
    "length_s": "from the first to the last, s",
    "columns": "columns",
    "models": "models",
    "left_out": "left out, without model, pictures and steps",
    "duplicates": "kept, though the same as another",
    "gaps": f"gaps of more than {GAP} mean ones",
    "longest_gap_s": "longest gap, s",
}
"""Facts of an imported trace, for people."""


@dataclass(frozen=True)
class Imported:
    """A trace, and what was noticed about its file.

    Attributes:
        trace: The trace.
        left_out: Rows without model, pictures and steps, which are left out.
        duplicates: Rows that are the same as an earlier one in every column; they are kept, because clocks are coarse
            and people ask twice.
    """

    trace: Trace
    left_out: int = 0
    duplicates: int = 0

    @property
    def facts(self) -> dict[str, int | float | list[str]]:
        """What there is to say of it, machine-readable."""
        trace, gap_s = self.trace, np.diff(self.trace.arrival_s)
        return {
            "requests": len(trace),
            "length_s": float(trace.arrival_s[-1]),
            "columns": ["arrival_s", *trace.columns],
            "models": len(trace.names),
            "left_out": self.left_out,
            "duplicates": self.duplicates,
            "gaps": int((gap_s > GAP * gap_s.mean()).sum()),
            "longest_gap_s": float(gap_s.max()),
        }


def _gentd26(path: Path) -> Imported:
    cells = Cells(
        path,
        ("gmt_create", "num_images_per_prompt", "num_inference_steps", "checkpoint_model_version_id"),
        (
            *("predict_type", "predict_status", "exec_time_seconds", "groupId", "prompt_length"),
            *("negative_prompt_length", "num_lora"),
        ),
    )
    cells.times_s("gmt_create")  # before any row is left out, so that no wrong one is overlooked
    duplicates = cells.duplicates
    asked = ["num_images_per_prompt", "num_inference_steps", "checkpoint_model_version_id"]
    known = ~(cells.rows[asked] == "").all(axis=1).to_numpy()
    left_out = int((~known).sum())
    cells.keep(known)
    if not len(cells):
        raise InputError(f"{cells.what} says of no request which model, pictures and steps it is for.")
    columns = {
        "arrival_s": cells.times_s("gmt_create"),
        "model": cells.names("checkpoint_model_version_id"),
        "pictures": cells.numbers("num_images_per_prompt", "pictures"),
        "steps": cells.numbers("num_inference_steps", "steps"),
    }
    return Imported(Trace.of(columns, cells.what, cells.place), left_out, duplicates)


def _azure_llm_2023(path: Path) -> Imported:
    cells = Cells(path, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
    # Tokens are generated one after the other, those of the context are read at once.
    columns = {"arrival_s": cells.times_s("TIMESTAMP"), "work": cells.numbers("GeneratedTokens", "work")}
    cells.numbers("ContextTokens", "arrival_s")
    return Imported(Trace.of(columns, cells.what, cells.place), duplicates=cells.duplicates)


def _edgegen(path: Path) -> Imported:
    if path.is_dir():
        return Imported(read_trace(path))
    if path.suffix in PARQUET:
        try:
            return Imported(Trace.from_parquet(path.read_bytes(), f"Trace '{path}'"))
        except OSError as error:
            raise InputError(f"Trace '{path}' can not be read: {reason_of(error)}.") from None
    cells = Cells(path, ("arrival_s",), COLUMNS)
    columns = {"arrival_s": cells.numbers("arrival_s", "arrival_s")}
    for name in COLUMNS:
        if name in cells.rows.columns:
            columns[name] = cells.names(name) if name == "model" else cells.numbers(name, name)
    return Imported(Trace.of(columns, cells.what, cells.place), duplicates=cells.duplicates)


FORMATS: dict[str, Callable[[Path], Imported]] = {
    "gentd26": _gentd26,
    "azure-llm-2023": _azure_llm_2023,
    "edgegen": _edgegen,
}
"""Who reads a file of each form."""


def read_format(path: Path, form: str) -> Imported:
    """Read a file that others wrote.

    Args:
        path: The file.
        form: Its form, a key of :data:`FORMATS`.

    Raises:
        InputError: If there is no such form, or the file is not in it.
    """
    if path.is_dir() and form != "edgegen":
        raise InputError(f"'{path}' is a folder; of the formats, only edgegen is one of folders.")
    if form not in FORMATS:
        raise InputError(
            f"There is no format '{form}'; --format must be one of {', '.join(FORMATS)}.{did_you_mean(form, FORMATS)}"
        )
    return FORMATS[form](path)
