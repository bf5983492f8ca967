# SPDX-License-Identifier: Apache-2.0
"""Traces in their one form: what they hold, windows of them by hand, and files that are none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.fleet.traces import Trace

COLUMNS = {
    "arrival_s": np.array([10.0, 11.0, 14.0, 19.0]),
    "model": np.array(["b", "a", "c", "a"], dtype=object),
    "pictures": np.array([1.0, 2.0, 4.0, 1.0]),
    "steps": np.array([20.0, 30.0, 30.0, 25.0]),
    "work": np.array([1.0, 2.0, 3.0, 2.0]),
}


def trace_of(**columns: Any) -> Trace:
    return Trace.of(columns, "Trace", lambda row: f"row {row + 1}")


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def test_models_are_ranked_by_popularity_then_name_and_time_begins_with_the_first_request() -> None:
    trace = trace_of(**COLUMNS)
    assert trace.names == ("a", "b", "c")
    assert trace.rank is not None
    assert trace.rank.tolist() == [1, 0, 2, 0]
    assert trace.arrival_s.tolist() == [0, 1, 4, 9]
    assert trace.factor is not None
    assert trace.factor.tolist() == [0.5, 1, 1.5, 1]
    assert trace.period_s == 12  # the mean gap is 3 s


@pytest.mark.parametrize("kept", [["arrival_s"], ["arrival_s", "work"], list(COLUMNS)])
def test_a_file_brings_back_what_was_written(kept: list[str]) -> None:
    trace = trace_of(**{name: COLUMNS[name] for name in kept})
    data = trace.to_parquet({"imported_from": "edgegen"})
    again = Trace.from_parquet(data, "Trace")
    assert again.names == trace.names
    assert again.columns == trace.columns == tuple(kept[1:])
    for name in ("arrival_s", "rank", "pictures", "steps", "work"):
        np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))
    assert again.to_parquet({"imported_from": "edgegen"}) == data


def test_windows_go_on_with_the_first_request() -> None:
    trace = trace_of(arrival_s=COLUMNS["arrival_s"])
    number, time_s = trace.window(3.0, 12.0)  # 4, 9, and after 12 s again 0 and 1
    assert number.tolist() == [2, 3, 0, 1]
    assert time_s.tolist() == [1, 6, 9, 10]
    number, time_s = trace.window(8.5, 30.0)
    assert number.tolist() == [3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert time_s.tolist() == [0.5, 3.5, 4.5, 7.5, 12.5, 15.5, 16.5, 19.5, 24.5, 27.5, 28.5]
    assert trace.window(4.5, 4.0)[0].size == 0
    assert trace.most_in(1.5) == 2
    assert trace.most_in(4.5) == 3  # from 9 to 13.5: 9, 12 and 13
    assert trace.most_in(24.0) == 8


@pytest.mark.parametrize("length_s", [0.7, 5.0, 40.0])
def test_no_window_has_more_than_the_most(length_s: float) -> None:
    rng = np.random.default_rng(3)
    trace = trace_of(arrival_s=np.sort(rng.random(50) * 30))
    sizes = [len(trace.window(begin_s, length_s)[0]) for begin_s in rng.random(300) * trace.period_s]
    assert max(sizes) <= trace.most_in(length_s) <= max(sizes) + 2
    assert np.mean(sizes) == pytest.approx(50 * length_s / trace.period_s, rel=0.2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"arrival_s\n1\n2\n", "is no Parquet file that can be read"),
        (parquet(time=[1.0]), "lacks the column 'arrival_s'; it needs arrival_s, and may have model, pictures"),
        (parquet(arrival_s=[1.0, 2.0], day=[1, 2], hour=[1, 2]), "has the unknown columns 'day', 'hour'; it needs"),
        (parquet(arrival_s=[1.0, 3.0, 2.0]), "row 3: the clock runs backwards, from 3.0 to 2.0"),
        (parquet(arrival_s=[1.0, None]), "the column 'arrival_s' has 1 missing values"),
        (parquet(arrival_s=["1", "2"]), "the column 'arrival_s' holds object, but must hold numbers"),
        (parquet(arrival_s=[1.0, float("nan")]), "row 2: the column 'arrival_s' is nan, but must be a number from 0"),
        (parquet(arrival_s=[1.0, 2.0], steps=[1, 0]), "row 2: the column 'steps' is 0, but must be a whole number"),
        (parquet(arrival_s=[1.0, 2.0], pictures=[1.5, 1]), "row 1: the column 'pictures' is 1.5, but must be a whole"),
        (parquet(arrival_s=[1.0, 2.0], work=[1, 0]), "row 2: the column 'work' is 0, but must be a number from 1e-12"),
        (parquet(arrival_s=[1.0, 2.0], model=["a", ""]), "row 2: the column 'model' is empty"),
        (parquet(arrival_s=[1.0]), "needs requests at two times or more"),
        (parquet(arrival_s=[2.0, 2.0]), "has 2 requests at one time"),
        (parquet(arrival_s=np.zeros(0)), "has 0 requests"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as refused:
        Trace.from_parquet(data, "Trace 'x'")
    assert said in str(refused.value)
    assert str(refused.value).startswith("Trace 'x'")
    assert "\n" not in str(refused.value)
