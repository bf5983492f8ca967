# SPDX-License-Identifier: Apache-2.0
"""Requests that a service recorded: a folder of Parquet files, and of journals that have not become one yet.

A row is a request of a service of any kind. A journal has a line of JSON per row. It grows until it is written as a
Parquet file of the same name; where both are there, that file has all.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.core.named_files import PARQUET
from edgegen.envs.core.paths import reason_of

if TYPE_CHECKING:
    import pyarrow

FORMAT = "edgegen-record-1"
JOURNAL = ".jsonl"
SERVED, LATE, REFUSED, FAILED, GONE = OUTCOMES = ("served", "late", "refused", "failed", "gone")
"""What became of a request: answered in time or not, refused, accepted in vain, or its client went away."""
RESIDENT, HOST, DISK = "resident", "host", "disk"
"""Where the model of a request was when its turn came."""
_TYPES = {
    "arrival_s": "float64",
    "request_id": "string",
    "account": "string",
    "model": "string",
    "home": "string",
    "edge": "string",
    "pictures": "int32",
    "steps": "int32",
    "least_steps": "int32",
    "steps_done": "int32",
    "width": "int32",
    "height": "int32",
    "deadline_s": "float64",
    "weight": "float64",
    "priority": "string",
    "work_gcycles": "float64",
    "size_mbit": "float64",
    "result_mbit": "float64",
    "queue_s": "float64",
    "load_s": "float64",
    "generation_s": "float64",
    "decision_s": "float64",
    "total_s": "float64",
    "load_source": "string",
    "outcome": "string",
    "reason": "string",
    "policy": "string",
    "canary": "bool",
    "fallback": "string",
    "prompt": "string",
}
COLUMNS = tuple(_TYPES)
"""Columns of a row; docs/learn-back.md says what each means."""


def schema() -> pyarrow.Schema:
    """Columns and types of a recording."""
    import pyarrow

    fields = [pyarrow.field(name, pyarrow.type_for_alias(kind)) for name, kind in _TYPES.items()]
    return pyarrow.schema(fields, metadata={"edgegen": json.dumps({"format": FORMAT})})


def read_journal(data: bytes) -> pyarrow.Table:
    """Rows of a journal; a last line that was cut off, and lines that are no rows, are left out.

    Args:
        data: Its content.
    """
    import pyarrow
    import pyarrow.json

    whole = data[: data.rfind(b"\n") + 1]
    if not whole:
        return schema().empty_table()
    options = pyarrow.json.ParseOptions(explicit_schema=schema(), unexpected_field_behavior="ignore")
    try:
        table = pyarrow.json.read_json(io.BytesIO(whole), parse_options=options)
    except pyarrow.ArrowException:  # a machine that lost its power leaves anything
        return pyarrow.Table.from_pylist([row for line in whole.splitlines() if (row := _row(line))], schema())
    return table.select(COLUMNS).replace_schema_metadata(schema().metadata)


def _row(line: bytes) -> dict[str, Any] | None:
    import pyarrow

    try:
        row = json.loads(line)
        pyarrow.Table.from_pylist([row], schema())
    except (ValueError, TypeError, AttributeError, pyarrow.ArrowException):
        return None
    return row if isinstance(row, dict) and "arrival_s" in row else None


def is_recording(path: str | Path) -> bool:
    """Whether a path is a folder, as recordings are."""
    return Path(path).expanduser().is_dir()


def read_records(folder: Path) -> pyarrow.Table:
    """All rows of a folder in the order of arrival, whoever wrote them.

    Args:
        folder: The folder; a service may go on writing to it meanwhile.

    Raises:
        InputError: If there is nothing recorded in it, or a file can not be read.
    """
    import pyarrow

    what = f"Recording '{folder}'"
    try:
        tables = [_read(path, what) for path in _files(folder)]
    except FileNotFoundError:  # a journal became a Parquet file meanwhile
        tables = [_read(path, what) for path in _files(folder)]
    except OSError as error:
        raise InputError(f"{what} can not be read: {reason_of(error)}.") from None
    table = pyarrow.concat_tables(tables) if tables else schema().empty_table()
    if not len(table):
        raise InputError(
            f"{what} holds no recorded request; a service whose config says record.folder writes {PARQUET[0]} and "
            f"{JOURNAL} files there."
        )
    return table.sort_by("arrival_s")


def _files(folder: Path) -> list[Path]:
    whole = sorted(folder.glob(f"*{PARQUET[0]}"))
    done = {path.stem for path in whole}
    return [*whole, *(path for path in sorted(folder.glob(f"*{JOURNAL}")) if path.stem not in done)]


def _read(path: Path, what: str) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    if path.suffix == JOURNAL:
        return read_journal(path.read_bytes())
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{what}: '{path.name}' is no Parquet file that can be read: {first_line(error).rstrip('.')}."
        ) from None
    if FORMAT not in (table.schema.metadata or {}).get(b"edgegen", b"").decode(errors="replace"):
        raise InputError(f"{what}: '{path.name}' was not recorded by a service; a folder holds recorded files only.")
    return table.select(COLUMNS).cast(schema())
