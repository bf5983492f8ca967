# SPDX-License-Identifier: Apache-2.0
"""CSV files that people and other programs write: read as text, checked cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgegen.envs.core.errors import InputError, did_you_mean, shortened
from edgegen.envs.core.fields import MOST

if TYPE_CHECKING:
    import pandas as pd

MAX_INTEGER = 2**53
"""Whole numbers up to here are exact in float64."""
MAX_HEADER = 10_000
"""Characters of a header that are looked at to tell what separates its cells."""
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What other programs write between cells."""


def read_table(path: str | Path, what: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read all cells as text; cells missing at the end of a row are empty.

    Args:
        path: A CSV file with a header.
        what: What it is, to begin a sentence with, for example ``Trace``.
        columns: Columns that it must have.

    Raises:
        InputError: If it can not be read, lacks a column or names one twice.
    """
    import pandas as pd  # scenarios are read where nothing heavy is loaded, and few of them have a table

    try:
        # The header is read as a row, so that repeated names are seen instead of being renamed.
        cells = pd.read_csv(path, header=None, dtype=str, na_filter=False, encoding="utf-8-sig", compression=None)
    except pd.errors.EmptyDataError:
        raise InputError(f"{what} '{path}' is empty; it needs the header {','.join(columns)}.") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            f"{what} '{path}' can not be read: {' '.join(reason.split()).rstrip('.')}{_separator_hint(path, columns)}."
        ) from None
    names = cells.iloc[0].tolist()
    repeated = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if repeated is not None:
        raise InputError(f"{what} '{path}' has the column '{repeated}' twice, but names may occur only once.")
    rows = cells.iloc[1:].reset_index(drop=True)
    rows.columns = names
    for column in columns:
        if column not in names:
            hint = _separator_hint(path, columns)
            suggestion = "" if hint else did_you_mean(column, set(names) - set(columns))
            raise InputError(
                f"{what} '{path}' has no column '{column}'; it needs {', '.join(columns)}, and has "
                f"{shortened(', '.join(names), 200)}{hint}.{suggestion}"
            )
    return rows


def _separator_hint(path: str | Path, columns: Sequence[str]) -> str:
    """What to say of a file whose header would be right if something else than commas stood between its cells."""
    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(MAX_HEADER)
    except OSError:
        return ""
    wanted = {column.casefold() for column in columns}
    for separator, name in SEPARATORS.items():
        cells = [cell.strip().strip("\"'").casefold() for cell in header.split(separator)]
        if len(cells) > 1 and wanted & set(cells):
            return f"; its cells are separated by {name}, but must be separated by commas, with points in decimals"
    return ""


def numbers(
    path: str | Path, what: str, rows: pd.DataFrame, column: str, highest: int | None = None, why: str = ""
) -> np.ndarray:
    """Parse a column.

    Args:
        path: Where the rows are from.
        what: What that is, to begin a sentence with.
        rows: All rows, as text ``[M, columns]``.
        column: Name of the column.
        highest: Largest whole number allowed; fractions are too if None, and numbers up to :data:`MOST`.
        why: What the limit is, for the sentence.

    Returns:
        ``[M]``: int64 from 0 to ``highest``, or float64.

    Raises:
        InputError: If a cell is not allowed.
    """
    text = rows[column].to_numpy(dtype=object)
    values: np.ndarray
    try:
        values = text.astype(np.float64)
    except ValueError:
        values = np.array([_number(cell) for cell in text])
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(values) & (values >= 0) & (values <= (MOST if highest is None else highest)))
        if highest is not None:
            wrong |= values % 1 != 0
    wrong |= rows[column].str.contains("_", regex=False).to_numpy(dtype=bool)  # Python reads 1_000 as a number
    if wrong.any():
        at = int(wrong.argmax())
        any_number = f"a finite number of at least 0 and at most {MOST:g}"
        allowed = any_number if highest is None else f"a whole number from 0 to {highest}"
        shown = shortened(text[at], 40)
        raise InputError(
            f"{what} '{path}', row {at + 1}: the column '{column}' is '{shown}', but must be {allowed}{why}."
        )
    return values if highest is None else values.astype(np.int64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
