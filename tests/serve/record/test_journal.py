# SPDX-License-Identifier: Apache-2.0
"""The files of a recording: what a process that is killed leaves behind, rotation, and the bounds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.records import COLUMNS, read_journal, read_records
from edgegen.serve.config import build_config
from edgegen.serve.control.admission import Terms
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.live_world import Task
from edgegen.serve.record import recorder as recorders
from edgegen.serve.record.config import RecordConfig
from edgegen.serve.record.journal import Journal, check_folder, prune, recover
from edgegen.serve.record.recorder import Recorder
from edgegen.serve.record.row import Made, Noted

TASK = Task("m", "edge-a", 1.0, 0.1, 0.2, deadline_s=5.0)
JOB = Job("", "a cat", None, 20, 7.5, 64, 64, (1,), 1.0, "m")
MADE = Made("edge-a", 0.25, 0.0, "resident", 1.0, None, 0.001, None, False)


def row(number: int = 0) -> dict[str, Any]:
    noted = Noted(TASK, JOB, Terms(request_id=str(number)), 1000.0 + number, 1.5, "p", MADE)
    return noted.row(lambda prompt: prompt)


def note(recorder: Recorder, number: int = 0) -> None:
    recorder.note(TASK, JOB, Terms(request_id=str(number)), recorder._clock() + number, "p", MADE)


def ids(folder: Path) -> list[str]:
    return [str(one["request_id"]) for one in read_records(folder).to_pylist()]


WRITER = """
import sys, time
from tests.serve.record.test_journal import note
from edgegen.serve.record.config import RecordConfig
from edgegen.serve.record.recorder import Recorder

recorder = Recorder(RecordConfig(folder=sys.argv[1]))
recorder.start()
number = 0
while True:  # 200 a second, each of which is said once it is a second old
    note(recorder, number)
    number += 1
    if number > 220:
        print(number - 220, flush=True)
    time.sleep(0.005)
"""


def test_killed_process_loses_at_most_the_last_second(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        while said < 300:
            said = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        said = int((process.stdout.read().split() or [str(said)])[-1])
    assert process.returncode == -signal.SIGKILL
    found = [int(one) for one in ids(tmp_path)]
    assert found == list(range(len(found)))
    assert len(found) >= said
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    with next(tmp_path.iterdir()).open("ab") as journal:  # as if it had been killed within a write
        journal.write(b'{"arrival_s":17,"mod')
    assert recover(tmp_path) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    assert [int(one) for one in ids(tmp_path)] == found


def test_journal_reads_as_it_was_written() -> None:
    lines = [json.dumps(row(number)).encode() for number in range(3)]
    whole = read_journal(b"\n".join(lines) + b"\n")
    assert whole.to_pylist() == [row(number) for number in range(3)]
    assert tuple(whole.column_names) == COLUMNS
    assert read_journal(b"\n".join(lines)).to_pylist() == [row(0), row(1)]
    assert read_journal(lines[0][:-1]).to_pylist() == []
    # A machine without power may leave anything.
    torn = b"\n".join([lines[0], b"\0\0\0", b"[1]", b'{"arrival_s":"soon"}', lines[2]]) + b"\n"
    assert read_journal(torn).to_pylist() == [row(0), row(2)]


def test_journals_of_living_processes_are_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write([row(0)])
    assert recover(tmp_path) == 0
    assert ids(tmp_path) == ["0"]
    journal.write([row(1)])
    journal.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    assert ids(tmp_path) == ["0", "1"]


def test_write_that_fails_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.write([row(0)])
    whole, write = journal.path.read_bytes(), os.write
    room = iter([40])

    def full(file: int, data: memoryview) -> int:
        for most in room:
            return write(file, data[:most])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.write([row(1)])
    monkeypatch.undo()
    assert journal.path.read_bytes() == whole
    journal.write([row(2)])
    assert ids(tmp_path) == ["0", "2"]


def test_files_are_closed_when_they_are_full_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "WRITE_S", 0.02)
    recorder = Recorder(RecordConfig(folder=str(tmp_path), file_rows=10))
    recorder.start()
    for number in range(60):
        note(recorder, number)
        time.sleep(0.01)
    recorder.stop()
    files = sorted(tmp_path.iterdir())
    assert {path.suffix for path in files} == {".parquet"}
    assert len(files) >= 2
    assert sorted(map(int, ids(tmp_path))) == list(range(60))
    assert (recorder.written, recorder.lost, recorder.trouble) == (60, 0, None)
    prune(tmp_path, sum(path.stat().st_size for path in files[1:]) / 1e6)
    assert sorted(tmp_path.iterdir()) == files[1:]
    prune(tmp_path, 1e-9)
    assert sorted(tmp_path.iterdir()) == files[-1:]


def test_memory_is_bounded_and_what_is_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "MOST_WAITING", 50)
    recorder = Recorder(RecordConfig(folder=str(tmp_path)))  # nothing writes yet
    for number in range(recorders.RECENT + 100):
        note(recorder, number)
    assert recorder.lost == recorders.RECENT + 50
    recent = recorder.recent()
    assert len(recent) == recorders.RECENT
    assert recent[0]["request_id"] == str(recorders.RECENT + 99)
    recorder.start()
    recorder.stop()
    assert ids(tmp_path) == [str(number) for number in range(50)]


def test_deleted_folder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "WRITE_S", 0.02)
    folder = tmp_path / "r"
    recorder = Recorder(RecordConfig(folder=str(folder)))
    recorder.start()
    note(recorder, 0)
    while recorder.written < 1:
        time.sleep(0.01)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    note(recorder, 1)
    with contextlib.suppress(InputError):
        recorder.stop()
    assert ids(folder) == ["1"]


def test_what_a_config_may_say() -> None:
    edge = {"name": "edge-a", "model": "m"}
    good: dict[str, Any] = {"models": {"m": {"cycles_per_step_gcycles": 0.1}}, "edges": [edge]}
    assert build_config(good).record is None
    with pytest.raises(InputError, match=r"unknown field 'record.folders'.* Did you mean 'folder'\?"):
        build_config({**good, "record": {"folder": "x", "folders": "x"}})
    for wrong, words in (
        ({}, "the field 'record.folder' is missing"),
        ({"folder": ""}, "record.folder"),
        ({"folder": __file__}, "is a file"),
        ({"folder": "x", "prompts": "some"}, "'none', 'hash' or 'text'"),
        ({"folder": "x", "file_rows": 0}, "record.file_rows"),
        ({"folder": "x", "keep_mb": -1}, "record.keep_mb"),
    ):
        with pytest.raises(InputError, match=words):
            build_config({**good, "record": wrong})


def test_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^Folder of the recording '.*file/r' can not be written: not a directory\.$"):
        check_folder(str(tmp_path / "file" / "r"))
    check_folder(str(tmp_path / "new" / "r"))
    assert (tmp_path / "new" / "r").is_dir()
