# SPDX-License-Identifier: Apache-2.0
"""Traces of real requests in one form, whatever recorded them: a Parquet file with a row per request.

The column ``arrival_s`` is there always; ``model`` (a name), ``pictures``, ``steps`` and ``work`` where they are known.
``work`` is how much a request takes beside the others, in any unit: only ratios matter.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.errors import InputError, first_line, shortened
from edgegen.envs.core.fields import LEAST, MOST

if TYPE_CHECKING:
    import pyarrow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT = "edgegen-trace-1"
COLUMNS = ("model", "pictures", "steps", "work")
"""What a trace may say of a request beside when it came."""
LIMITS = {"arrival_s": (0.0, MOST), "pictures": (1, 1000), "steps": (1, 10_000), "work": (LEAST, MOST)}
"""Least and most of the numbers of a request."""
WHOLE = ("pictures", "steps")
MOST_REQUESTS = 5_000_000


@dataclass(frozen=True)
class Trace:
    """N requests in the order of arrival.

    Attributes:
        arrival_s: When they came, s since the first one.
        rank: Model of each, numbered by how often it is asked for, the most popular first; None if not recorded.
        names: Names of the models in that order.
        pictures: Pictures; None if not recorded.
        steps: Steps asked for; None if not recorded.
        work: How much each takes beside the others; None if not recorded.
    """

    arrival_s: Floats
    rank: Ints | None = None
    names: tuple[str, ...] = ()
    pictures: Floats | None = None
    steps: Floats | None = None
    work: Floats | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def columns(self) -> tuple[str, ...]:
        """What it says of a request beside when it came."""
        values = (self.rank, self.pictures, self.steps, self.work)
        return tuple(name for name, own in zip(COLUMNS, values, strict=True) if own is not None)

    @cached_property
    def factor(self) -> Floats | None:
        """Work of each request over that of the mean one; None if not recorded."""
        return None if self.work is None else np.asarray(self.work / self.work.mean())

    @cached_property
    def period_s(self) -> float:
        """After how long it begins again where it is played on: a mean gap after the last request, s."""
        last_s = float(self.arrival_s[-1])
        return last_s + last_s / (len(self) - 1)

    def before(self, time_s: Any) -> Any:
        """Requests that came before some times, where it is played again and again."""
        turns = np.floor(np.asarray(time_s) / self.period_s)
        within = np.asarray(time_s) - turns * self.period_s
        return turns.astype(np.int64) * len(self) + np.searchsorted(self.arrival_s, within)

    def window(self, begin_s: float, length_s: float) -> tuple[Ints, Floats]:
        """Numbers of the requests of a window, and when each comes, s after its begin."""
        count = np.arange(self.before(begin_s), self.before(begin_s + length_s))
        turn, number = np.divmod(count, len(self))
        time_s = self.arrival_s[number] + turn * self.period_s - begin_s
        return number, np.maximum(time_s, 0.0)  # rounding

    def most_in(self, length_s: float) -> int:
        """Most requests of a window, wherever it begins."""
        return int((self.before(self.arrival_s + length_s) - np.arange(len(self))).max())

    @classmethod
    def of(cls, columns: dict[str, NDArray[Any]], what: str, place: Callable[[int], str]) -> Trace:
        """The trace of some columns.

        Args:
            columns: Values of each column ``[N]``, numbers but for the names of models.
            what: What they are from, to begin a sentence with.
            place: Says where a row stands in it, for example ``line 7``.

        Raises:
            InputError: If a column is missing or unknown, a value is not allowed, or a request comes before the one
                in front of it.
        """
        check_columns(tuple(columns), ("arrival_s",), COLUMNS, what)
        arrival_s = columns["arrival_s"]
        for name, (least, most) in LIMITS.items():
            if name in columns:
                _check_numbers(columns[name], name, (least, most), what, place)
        check_order(arrival_s, arrival_s, what, place)
        if len(arrival_s) < 2 or arrival_s[-1] == arrival_s[0]:
            raise InputError(
                f"{what} has {len(arrival_s)} requests at one time, but needs requests at two times or more."
            )
        if len(arrival_s) > MOST_REQUESTS:
            raise InputError(f"{what} has {len(arrival_s)} requests, but may have at most {MOST_REQUESTS}.")
        rank, names = _ranked(columns["model"], what, place) if "model" in columns else (None, ())
        given = {name: columns[name].astype(np.float64) for name in ("pictures", "steps", "work") if name in columns}
        return cls(arrival_s.astype(np.float64) - arrival_s[0], rank, names, **given)

    @classmethod
    def from_parquet(cls, data: bytes, what: str) -> Trace:
        """Read a trace.

        Args:
            data: Content of a Parquet file.
            what: What it is, to begin a sentence with.

        Raises:
            InputError: If it is none, or holds what :meth:`of` refuses.
        """
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(io.BytesIO(data))
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{what} is no Parquet file that can be read: {first_line(error).rstrip('.')}.") from None
        names = table.column_names
        if len(set(names)) < len(names):
            raise InputError(f"{what} has a column twice, but names may occur only once: {', '.join(names)}.")
        check_columns(tuple(names), ("arrival_s",), COLUMNS, what)
        return cls.of({name: _values(table, name, what) for name in names}, what, lambda row: f"row {row + 1}")

    def to_parquet(self, about: dict[str, str]) -> bytes:
        """Content of a Parquet file, the same for the same trace.

        Args:
            about: What else is to be known of it, such as its source.
        """
        import pyarrow
        import pyarrow.parquet

        columns: dict[str, Any] = {"arrival_s": pyarrow.array(self.arrival_s)}
        if self.rank is not None:
            model = pyarrow.DictionaryArray.from_arrays(self.rank.astype(np.int32), pyarrow.array(self.names))
            columns["model"] = model
        for name in ("pictures", "steps", "work"):
            values = getattr(self, name)
            if values is not None:
                whole = values.astype(np.int32) if name in WHOLE else values.astype(np.float32)
                columns[name] = pyarrow.array(whole)
        table = pyarrow.table(columns).replace_schema_metadata({"edgegen": json.dumps({"format": FORMAT, **about})})
        file = io.BytesIO()
        split = [name for name in ("arrival_s",) if name in columns]
        whole_or_named = [name for name in columns if name not in split]
        pyarrow.parquet.write_table(
            table, file, compression="zstd", compression_level=19, use_dictionary=whole_or_named,
            use_byte_stream_split=split, store_schema=False,
        )  # fmt: skip
        return file.getvalue()


def check_columns(names: tuple[str, ...], needed: tuple[str, ...], others: tuple[str, ...], what: str) -> None:
    """Refuse columns that are missing or unknown.

    Raises:
        InputError: It names them, and what is expected.
    """
    expected = f"{', '.join(needed)}" + (f", and may have {', '.join(others)}" if others else "")
    for words, wrong in (
        ("lacks the", [name for name in needed if name not in names]),
        ("has the unknown", [name for name in names if name not in (*needed, *others)]),
    ):
        if wrong:
            many = "column" if len(wrong) == 1 else "columns"
            shown = shortened(", ".join(f"'{name}'" for name in wrong), 200)
            raise InputError(f"{what} {words} {many} {shown}; it needs {expected}.")


def check_order(time: NDArray[Any], shown: Any, what: str, place: Callable[[int], str]) -> None:
    """Refuse a clock that runs backwards.

    Args:
        time: Times ``[N]``.
        shown: How each stands in the file ``[N]``.
        what: What they are from, to begin a sentence with.
        place: Says where a row stands in it.

    Raises:
        InputError: If a request comes before the one in front of it.
    """
    back = time[1:] < time[:-1]
    if back.any():
        at = int(back.argmax()) + 1
        raise InputError(
            f"{what}, {place(at)}: the clock runs backwards, from {shown[at - 1]} to {shown[at]}; requests must stand "
            "in the order of arrival."
        )


def _check_numbers(
    values: NDArray[Any], name: str, limits: tuple[float, float], what: str, place: Callable[[int], str]
) -> None:
    if values.dtype.kind not in "iuf":
        raise InputError(f"{what}: the column '{name}' holds {values.dtype}, but must hold numbers.")
    wrong = ~((values >= limits[0]) & (values <= limits[1]))  # not a number is neither
    if name in WHOLE:
        wrong |= values % 1 != 0
    if wrong.any():
        at = int(wrong.argmax())
        kind = "a whole number" if name in WHOLE else "a number"
        raise InputError(
            f"{what}, {place(at)}: the column '{name}' is {values[at]:g}, but must be {kind} from {limits[0]:g} to "
            f"{limits[1]:g}."
        )


def _ranked(names: NDArray[Any], what: str, place: Callable[[int], str]) -> tuple[Ints, tuple[str, ...]]:
    """Rank of each request's model, and the names by rank: the most popular first, then by name."""
    text = np.array([str(name) for name in names], dtype=object)
    empty = text == ""
    if empty.any():
        raise InputError(f"{what}, {place(int(empty.argmax()))}: the column 'model' is empty, but must be a name.")
    known, index, count = np.unique(text, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return np.argsort(order)[index], tuple(known[order].tolist())


def _values(table: pyarrow.Table, name: str, what: str) -> NDArray[Any]:
    """A column of a table as an array."""
    column = table.column(name)
    if column.null_count:
        raise InputError(f"{what}: the column '{name}' has {column.null_count} missing values, but must have none.")
    values: NDArray[Any] = column.to_numpy()
    return values
