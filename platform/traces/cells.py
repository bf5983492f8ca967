# SPDX-License-Identifier: Apache-2.0
"""Cells of a CSV file that another program wrote, checked one by one and named by line where they are wrong."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edgegen.envs.core.errors import InputError, shortened
from edgegen.envs.core.tables import read_table
from edgegen.envs.fleet.traces import LIMITS, WHOLE, check_columns, check_order

FIRST_YEAR, LAST_YEAR = 1971, 2200
"""Times outside are mistakes; within they are counted exactly, in ns."""


class Cells:
    """Rows of a file, as text.

    Attributes:
        path: The file.
        rows: Its cells ``[N, columns]``.
    """

    def __init__(self, path: Path, needed: Sequence[str], others: Sequence[str] = ()) -> None:
        """Read a file.

        Args:
            path: A CSV file with a header.
            needed: Columns that it must have.
            others: Columns that it may have.

        Raises:
            InputError: If it can not be read, is empty, or has other columns.
        """
        self.path, self.rows = path, read_table(path, "Trace", needed)
        check_columns(tuple(map(str, self.rows.columns)), tuple(needed), tuple(others), self.what)
        if not len(self.rows):
            raise InputError(f"{self.what} has no requests, only a header.")
        self._row = np.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def what(self) -> str:
        """What it is, to begin a sentence with."""
        return f"Trace '{self.path}'"

    @property
    def duplicates(self) -> int:
        """Rows that are the same as an earlier one in every column."""
        return int(self.rows.duplicated().sum())

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Go on with some of the rows only."""
        self.rows, self._row = self.rows[kept], self._row[kept]

    def place(self, at: int) -> str:
        """Where a row stands in the file: the line that it ends on."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            # Lines without anything are no rows.
            lines = (reader.line_num for cells in reader if len(cells) > 1 or "".join(cells).strip())
            line = next(itertools.islice(lines, int(self._row[at]) + 1, None))
        return f"line {line}"

    def text(self, column: str) -> NDArray[Any]:
        """A column as it stands in the file."""
        values: NDArray[Any] = self.rows[column].to_numpy(dtype=object)
        return values

    def names(self, column: str) -> NDArray[Any]:
        """A column of names, none of which is empty."""
        text = self.text(column)
        empty = text == ""
        if empty.any():
            raise InputError(f"{self.what}, {self.place(int(empty.argmax()))}: the column '{column}' is empty.")
        return text

    def numbers(self, column: str, meaning: str) -> NDArray[np.float64]:
        """A column of numbers.

        Args:
            column: Its name.
            meaning: The column of a trace that it becomes, which has the limits.

        Raises:
            InputError: If a cell is no number, or not an allowed one.
        """
        text = self.text(column)
        values: NDArray[np.float64] = pd.to_numeric(self.rows[column], errors="coerce").to_numpy(dtype=np.float64)
        least, most = LIMITS[meaning]
        wrong = ~((values >= least) & (values <= most))
        if meaning in WHOLE:
            wrong |= values % 1 != 0
        if wrong.any():
            at = int(wrong.argmax())
            kind = "a whole number" if meaning in WHOLE else "a number"
            raise InputError(
                f"{self.what}, {self.place(at)}: the column '{column}' is '{shortened(text[at], 40)}', but must be "
                f"{kind} from {least:g} to {most:g}."
            )
        return values

    def times_s(self, column: str) -> NDArray[np.float64]:
        """A column of dates and times, as s since the first one.

        Raises:
            InputError: If a cell is no time, or before the one above it.
        """
        text = self.text(column)
        times = pd.to_datetime(self.rows[column], format="ISO8601", errors="coerce", utc=True)
        year = times.dt.year.to_numpy(dtype=np.float64)
        wrong = ~((year >= FIRST_YEAR) & (year <= LAST_YEAR))  # not a time is neither
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError(
                f"{self.what}, {self.place(at)}: the column '{column}' is '{shortened(text[at], 40)}', but must be a "
                f"time such as 2023-11-16 18:15:46.68, of a year from {FIRST_YEAR} to {LAST_YEAR}."
            )
        ns = times.astype("datetime64[ns, UTC]").astype("int64").to_numpy()
        check_order(ns, text, self.what, self.place)
        return np.asarray((ns - ns[0]) / 1e9)
