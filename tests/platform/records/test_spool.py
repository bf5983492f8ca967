# SPDX-License-Identifier: Apache-2.0
"""What is written down is sent, whatever happens in between; nothing is sent that was granted."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from edgegen.envs.core.errors import InputError
from edgegen.platform.records import sending
from edgegen.platform.records.sending import RECORD, Sender, _first_batch, new_name
from edgegen.platform.records.spool import REFUSED_FILE, Request, Spool

ABOUT = {"uri": "http://here"}


def rows(step):
    return [[step, {"m": float(step)}]]


def test_what_a_killed_process_left_comes_in_order_and_once(tmp_path):
    first = Spool(tmp_path, ABOUT)
    for step in range(5):
        first.append("r", "metrics", rows=rows(step), at=step)
    first.granted(first.pending(2)[:2])
    first.close()
    (torn,) = (tmp_path / ".tracking").glob("0*.jsonl")
    with torn.open("a") as file:
        file.write('{"n": 5, "ru')  # killed in the middle of a line
    second = Spool(tmp_path, ABOUT)
    assert second.begun_before
    second.append("r", "metrics", rows=rows(7), at=7)
    assert [request.data["at"] for request in second.pending(100)] == [2, 3, 4, 7]
    assert second.left == 4
    second.granted(second.pending(100))
    second.close()
    assert not (tmp_path / ".tracking").exists()


def test_files_are_removed_as_they_are_done_with(tmp_path, monkeypatch):
    monkeypatch.setattr("edgegen.platform.records.spool._SEGMENT_BYTES", 300)
    spool = Spool(tmp_path, ABOUT)
    seen = []
    for step in range(60):
        spool.append("r", "metrics", rows=rows(step), at=step)
        if step % 7 == 6:
            now = spool.pending(5)
            seen += [request.data["at"] for request in now]
            spool.granted(now)
    assert spool.left == 60 - len(seen)
    segments = len(list(spool.folder.glob("0*.jsonl")))
    assert 1 < segments < 10  # 60 lines of more than 70 bytes: 15 or more
    while now := spool.pending(9):
        seen += [request.data["at"] for request in now]
        spool.granted(now)
    assert seen == list(range(60))
    spool.append("r", "metrics", rows=rows(1), at=99)
    assert [request.data["at"] for request in spool.pending(9)] == [99]


def test_a_file_is_stored_as_it_was(tmp_path):
    file, large = tmp_path / "file.txt", tmp_path / "folder" / "large.bin"
    large.parent.mkdir()
    large.write_bytes(b"x" * 2_000_000)
    file.write_text("then")
    spool = Spool(tmp_path, ABOUT)
    spool.append_file("r", file, None)
    spool.append_file("r", large.parent, "policy")
    file.write_text("now")
    large.unlink()
    one, other = spool.pending(9)
    assert (one.what, other.what) == ("file", "folder")
    kept = spool.folder / one.data["kept"]
    assert kept.name == "file.txt"
    assert kept.read_text() == "then"
    assert (spool.folder / other.data["kept"] / "large.bin").stat().st_size == 2_000_000
    spool.granted([one])
    assert not kept.exists()
    spool.append_file("r", tmp_path, "run")  # the spool lies in it
    *_, whole = spool.pending(9)
    assert [path.name for path in sorted((spool.folder / whole.data["kept"]).iterdir())] == ["file.txt", "folder"]


def test_records_for_another_store_are_not_sent_to_this_one(tmp_path):
    first = Spool(tmp_path, ABOUT)
    first.append("r", "tags", values={})
    with pytest.raises(InputError, match="Another process is working on the record"):
        Spool(tmp_path, ABOUT)
    first.close()
    with pytest.raises(InputError, match="wait for MLflow at 'http://here', but it is 'http://there' now"):
        Spool(tmp_path, {"uri": "http://there"})


def test_a_disk_that_is_full_costs_records_and_no_more(tmp_path, caplog):
    (tmp_path / ".tracking").write_text("in the way")
    spool = Spool(tmp_path, ABOUT)
    for _ in range(3):
        spool.append("r", "tags", values={})
    assert (spool.left, spool.lost) == (0, 3)
    assert caplog.text.count("are lost") == 1


class Server:
    """A tracking store that can be away, lose answers, and refuse."""

    def __init__(self) -> None:
        self.away = False
        self.loses_answers = False
        self.calls: list[tuple[str, Any]] = []
        self.runs: dict[str, dict[str, str]] = {}

    def _call(self, what: str, argument: Any) -> None:
        if self.away:
            raise ConnectionError("away")
        self.calls.append((what, argument))

    def get_experiment(self, experiment_id):
        if self.away:
            raise ConnectionError("away")

    def create_run(self, experiment_id, at, tags, run_name):
        self._call("make", run_name)
        run_id = f"id-{len(self.runs)}"
        self.runs[run_id] = tags
        if self.loses_answers:
            raise ConnectionError("lost")
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def search_runs(self, experiments, filter_string):
        found = [run for run, tags in self.runs.items() if f"'{tags[RECORD]}'" in filter_string]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in found]

    def log_batch(self, run, metrics, params, tags):
        if run == "gone":
            raise MlflowException("no such run", error_code=1)  # INTERNAL_ERROR
        if run == "deleted":
            from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

            raise MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST)
        self._call("batch", (run, [(metric.step, metric.value, metric.timestamp) for metric in metrics]))

    def set_terminated(self, run, status, at):
        self._call("ended", (run, status))

    def log_artifact(self, run, path, folder):
        self._call("file", (run, folder))


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A spool, the server that it is sent to, and a sender that is told when to try."""
    server, spool = Server(), Spool(tmp_path, ABOUT)
    monkeypatch.setattr(Sender, "_wake", lambda self: None)
    return server, spool, Sender(server, "0", spool)


def test_an_outage_costs_nothing_and_a_lost_answer_makes_no_second_run(sent):
    server, spool, sender = sent
    name = new_name()
    spool.append(name, "make", name="child", tags={}, at=1)
    for step in range(3):
        spool.append(name, "metrics", rows=rows(step), at=10 + step)
    spool.append(name, "ended", status="FINISHED", at=20)
    server.away = True
    assert sender._pass()
    assert server.calls == []
    server.away, server.loses_answers = False, True
    assert sender._pass()
    server.loses_answers = False
    assert not sender._pass()
    batch = ("batch", ("id-0", [(0, 0.0, 10), (1, 1.0, 11), (2, 2.0, 12)]))
    assert server.calls == [("make", "child"), batch, ("ended", ("id-0", "FINISHED"))]
    assert spool.left == 0
    assert sender.id_of(name) == "id-0"


def test_a_run_that_can_not_be_recorded_does_not_hold_up_others(sent, caplog):
    server, spool, sender = sent
    for run in ("gone", "fine", "deleted", "also fine"):
        spool.append(run, "metrics", rows=rows(1), at=1)
    for _ in range(sending._CLEAR_REFUSALS + 1):
        assert sender._pass()
    assert [argument[0] for _, argument in server.calls] == ["fine", "also fine"]
    assert [request.run for request in spool.pending(9)] == ["gone"]
    refused = json.loads((spool.folder / REFUSED_FILE).read_text())
    assert (refused["run"], refused["rows"]) == ("deleted", rows(1))
    assert caplog.text.count("put aside") == 1


def test_requests_stay_within_what_a_store_takes():
    def request(number, what, size):
        data = {"rows": [[0, dict.fromkeys(map(str, range(size)), 0.0)]]} if what == "metrics" else {
            "values": dict.fromkeys(map(str, range(size)), "")
        }  # fmt: skip
        return Request(number, "r", what, data, 0)

    line = [request(0, "parameters", 90), request(1, "metrics", 800), request(2, "metrics", 110)]
    assert _first_batch(line) == line
    assert _first_batch([*line, request(3, "metrics", 1)]) == line
    assert _first_batch([line[0], request(1, "parameters", 11)]) == line[:1]
    assert _first_batch([request(0, "metrics", 1), request(1, "ended", 0)]) == [request(0, "metrics", 1)]
    assert _first_batch([request(0, "ended", 0), *line]) == [request(0, "ended", 0)]
