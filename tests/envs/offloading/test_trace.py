# SPDX-License-Identifier: Apache-2.0
"""Traces: what is read is what was written, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import replacing
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.trace import read_trace
from edgegen.envs.offloading.view import Tasks
from tests.envs.offloading.traces import write_trace

HEADER = "slot,edge,index,size_mbit,workload_gcycles,result_mbit"


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_rows_come_in_order_of_service(tmp_path) -> None:
    path = written(tmp_path, "1,0,0,1,2,3", "0,0,7,1,2,3", "0,1,2,4.50,5e0,6", "0,0,2,1,2,3")
    trace = read_trace(path, servers=2)
    assert list(zip(trace.slot, trace.index, trace.edge, strict=True)) == [(0, 2, 0), (0, 2, 1), (0, 7, 0), (1, 0, 0)]
    assert (trace.size_mbit[1], trace.workload_gcycles[1], trace.result_mbit[1]) == (4.5, 5.0, 6.0)
    assert trace.rows.iloc[1].tolist() == ["0", "1", "2", "4.50", "5e0", "6"]  # text is left as it was
    assert trace.server is None
    assert len(trace) == 4


def test_columns_may_be_anywhere_and_more_than_needed(tmp_path) -> None:
    header = "prompt,server,result_mbit,workload_gcycles,size_mbit,index,edge,slot"
    path = written(tmp_path, '"a cat, asleep",1,3,2,1,0,0,0', header=header)
    trace = read_trace(path, servers=2)
    assert trace.server is not None
    assert trace.server.tolist() == [1]
    assert trace.rows["prompt"].tolist() == ["a cat, asleep"]
    assert read_trace(path, servers=2, decisions=False).server is None


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(tmp_path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n0,0,0,1,2,3\r\n".encode())
    assert len(read_trace(path, servers=1)) == 1


def test_a_header_alone_is_an_empty_trace(tmp_path) -> None:
    trace = read_trace(written(tmp_path), servers=3)
    assert len(trace) == 0
    assert trace.slot.dtype == np.int64


def test_simulated_tasks_survive_the_file_exactly(tmp_path) -> None:
    scenario = load_scenario("demo")
    drawn = draw_episodes(scenario, 3, range(1), dtype=torch.float64)
    tasks = Tasks(*(values[0] for values in vars(drawn).values()))
    server = torch.randint(0, 5, tasks.present.shape, generator=torch.Generator().manual_seed(0))
    write_trace(tmp_path / "t.csv", tasks, server)
    trace = read_trace(tmp_path / "t.csv", servers=5)
    assert len(trace) == int(tasks.present.sum())
    cell = trace.slot, trace.edge, trace.index
    assert tasks.present.numpy()[cell].all()
    assert (tasks.size_mbit.numpy()[cell] == trace.size_mbit).all()
    assert (tasks.workload_gcycles.numpy()[cell] == trace.workload_gcycles).all()
    assert (tasks.result_mbit.numpy()[cell] == trace.result_mbit).all()
    assert trace.server is not None
    assert (server.numpy()[cell] == trace.server).all()
    write_trace(tmp_path / "undecided.csv", tasks)
    assert read_trace(tmp_path / "undecided.csv", servers=5).server is None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("0,0,0,x,2,3", "row 2: the column 'size_mbit' is 'x', but must be a finite number of at least 0"),
        ("0,0,0,,2,3", "'size_mbit' is ''"),
        ("0,0,0,nan,2,3", "'size_mbit' is 'nan'"),
        ("0,0,0,1,inf,3", "'workload_gcycles' is 'inf'"),
        ("0,0,0,1,1e999,3", "'workload_gcycles' is '1e999'"),
        ("0,0,0,1e39,2,3", "'size_mbit' is '1e39', but must be a finite number of at least 0 and at most 1e"),
        ("0,0,0,1,2,-0.5", "'result_mbit' is '-0.5'"),
        ("0,0,0,1_0,2,3", "'size_mbit' is '1_0'"),
        ("-1,0,0,1,2,3", "'slot' is '-1', but must be a whole number from 0 to 9007199254740992"),
        ("0.5,0,0,1,2,3", "'slot' is '0.5'"),
        ("1e30,0,0,1,2,3", "'slot' is '1e30'"),
        ("0,-1,0,1,2,3", "'edge' is '-1', but must be a whole number from 0 to 2, the servers of the scenario"),
        ("0,3,0,1,2,3", "'edge' is '3'"),
        ("0,1.5,0,1,2,3", "'edge' is '1.5'"),
        ("0,0,-2,1,2,3", "'index' is '-2'"),
        ("0,0,one,1,2,3", "'index' is 'one'"),
        ("0,0", "'index' is ''"),
        ("0,0,0,1,2,3,4", "can not be read: .*line 3, saw 7"),
        ("9,2,9,1,2,3", "row 2: slot 9, edge 2, index 9 is already in row 1"),
        ("0,0,0,1,2," + "3" * 400 + "x", r"'3{37}\.\.\.'"),
    ],
)
def test_wrong_rows_are_refused_in_one_sentence(tmp_path, row: str, complaint: str) -> None:
    path = written(tmp_path, "9,2,9,1,2,3", row)
    with pytest.raises(InputError, match=complaint) as refused:
        read_trace(path, servers=3)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("server", ["3", "-1", "0.5", "", "x"])
def test_wrong_decisions_are_refused_unless_they_are_not_used(tmp_path, server: str) -> None:
    path = written(tmp_path, f"0,0,0,1,2,3,{server}", header=HEADER + ",server")
    with pytest.raises(InputError, match=f"row 1: the column 'server' is '{server}', but must be .* 0 to 2"):
        read_trace(path, servers=3)
    assert len(read_trace(path, servers=3, decisions=False)) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty; it needs the header slot,edge"),
        (b"\n\n", "is empty"),
        (b"slot,edge,index,size,workload_gcycles,result_mbit\n", r"no column 'size_mbit'.*Did you mean 'size'\?"),
        (HEADER.encode() + b",slot\n", "the column 'slot' twice"),
        (b"\xff\xfe\x00\x01", "can not be read"),
        (
            HEADER.replace(",", ";").encode(),
            "no column 'slot'.*separated by semicolons, but must be separated by commas",
        ),
        (HEADER.replace(",", ";").encode() + b"\n0;0;0;1,5;2;3\n", "can not be read: .*separated by semicolons"),
        (
            HEADER.replace(",", "\t").encode() + b"\n0\t0\t0\t1\t2\t3\n",
            "separated by tabs, but must be separated by commas",
        ),
        (b'"Slot"|"Edge"\n', "separated by vertical bars"),
        (HEADER.encode() + b'\n"0,0,0,1,2,3\n', "can not be read"),
    ],
)
def test_files_that_are_no_traces_are_refused(tmp_path, content: bytes, complaint: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as refused:
        read_trace(path, servers=3)
    assert "\n" not in str(refused.value)


def test_files_that_are_not_there_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="can not be read: No such file"):
        read_trace(tmp_path / "absent.csv", servers=3)
    with pytest.raises(InputError, match="can not be read: Is a directory"):
        read_trace(tmp_path, servers=3)


def interrupted_after(_: object) -> None:
    raise KeyboardInterrupt


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with replacing(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        interrupted_after(file.write("half"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_devices_stay_what_they_are(tmp_path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real.csv")
    with replacing(link) as file:
        file.write("x")
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_text() == "x"
    with replacing("/dev/null") as file:
        file.write("x")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["no/such/folder/out.csv", ".", "trace.csv/out.csv"])
def test_places_that_can_not_be_written_are_refused(tmp_path, name: str) -> None:
    written(tmp_path)
    with pytest.raises(InputError, match="can not be written") as refused, replacing(tmp_path / name):
        pytest.fail("the file was opened")
    assert "\n" not in str(refused.value)
