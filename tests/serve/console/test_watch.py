# SPDX-License-Identifier: Apache-2.0
"""What viewers see: the whole state, then what changes; bounded, made once for all, and without calls to edges."""

from __future__ import annotations

import asyncio
import json

import pytest

from edgegen.serve.console import viewers as console_viewers
from edgegen.serve.console.events import MOST, Recent
from edgegen.serve.console.history import SAMPLE_S, SAMPLES, History
from edgegen.serve.console.rows import changes, edge_row
from edgegen.serve.console.viewers import MOST_BEHIND, MOST_VIEWERS, STREAM_S, TooManyViewersError, Viewers
from edgegen.serve.console.watch import MOST_REQUESTS, PERIOD_S, Watch
from edgegen.serve.control.admission import Terms
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport, Job
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Decision
from edgegen.serve.http.errors import QueuesFullError, StoppingError
from edgegen.serve.record.config import RecordConfig
from edgegen.serve.record.recorder import Recorder
from edgegen.serve.record.row import Made


def server_of(name="edge-a", models=("tiny",)):
    return Server(name, models, 100.0, 2.0, 16)


def report_of(name="edge-a", remaining=(), resident=None, expected=None, capacity=2.0):
    return EdgeReport(name, 1, remaining, 0, 0.0, capacity, 0.1, 7, None, resident=resident, expected=expected)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Seen:
    """A watch over some edges on a clock of the test, without its own task."""

    def __init__(self, edges=1, prompts=None):
        self.clock = Clock()
        self.servers = [server_of(f"edge-{number}", ("tiny", "big")) for number in range(edges)]
        self.state: dict[str, object] = {"status": "ok"}
        self.recorder = Recorder(None if prompts is None else RecordConfig(**prompts), self.clock)
        self.watch = Watch(self.servers, self.state.copy, lambda: 3, self.recorder, self.clock, self.clock)

    def whole(self):
        self.clock.now += PERIOD_S
        return json.loads(self.watch.whole())


async def messages(stream, count):
    """The next messages as name and data."""
    read = []
    for _ in range(count):
        fields = dict(line.split(": ", 1) for line in (await anext(stream)).decode().strip().split("\n"))
        read.append((fields["event"], json.loads(fields["data"])))
    return read


def test_a_row_is_what_the_books_say():
    server = server_of(models=("tiny", "big", "far"))
    report = report_of(remaining=(("a", 4.0), ("load big", 2.0)), resident=("tiny",), expected=("big", "tiny"))
    server.admit("a", 4.0, 0.0)
    server.hear(report, 0.0)
    server.admit("b", 3.0, 0.0)
    row = edge_row(server, 1.0)
    assert (row["waiting"], row["in_work"], row["pictures"]) == (1, True, 7)
    assert row["wait_s"] == pytest.approx((4 + 2 + 3 - 2) / 2)  # two Gcycles were done in the second since the report
    assert (row["resident"], row["expected"], row["loading"]) == (["tiny"], ["big", "tiny"], ["big"])
    assert row["healthy"]
    assert changes(row, row) == {}
    server.lose(
        "it is gone",
    )
    assert changes(edge_row(server, 1.0), row).keys() >= {"name", "healthy", "reason"}


def test_recent_entries_are_numbered_and_forgotten():
    recent = Recent(wall=lambda: 5.0)
    for value in range(MOST + 10):
        recent.add(value=value)
    kept = recent.since()
    assert [entry["number"] for entry in kept] == list(range(11, MOST + 11))
    assert kept[-1] == {"number": MOST + 10, "at": 5.0, "value": MOST + 9}
    assert recent.since(MOST + 8) == kept[-2:]
    assert recent.since(recent.count) == []


def test_history_is_a_ring_of_samples():
    servers = [server_of("edge-a"), server_of("edge-b")]
    history = History(2)
    now = 0.0
    for number in range(SAMPLES + 3):
        servers[1].admit(f"job-{number}", 1.0, now)
        history.sample(servers, number, now)
        history.sample(servers, 99, now + SAMPLE_S / 2)  # too early for another one
        now += SAMPLE_S
    state = history.state(["edge-a", "edge-b"])
    assert state["step_s"] == SAMPLE_S
    assert state["edges"]["edge-a"] == [0] * SAMPLES
    assert state["edges"]["edge-b"] == list(range(4, SAMPLES + 4))
    assert state["held"] == list(range(3, SAMPLES + 3))


def test_a_viewer_gets_the_whole_state_and_then_what_changes():
    async def scenario():
        seen = Seen(edges=2)
        for server in seen.servers:
            server.hear(report_of(server.name, resident=("tiny",)), seen.clock.now)
        seen.watch._glance()
        viewer = seen.watch.join()
        stream = viewer.messages()
        ((name, whole),) = await messages(stream, 1)
        assert (name, whole["object"]) == ("fleet", "fleet")
        assert [edge["name"] for edge in whole["edges"]] == ["edge-0", "edge-1"]
        assert whole["state"] == {"status": "ok"}
        assert (whole["decisions"], whole["happenings"], whole["requests"]) == ([], [], [])

        seen.clock.now += PERIOD_S
        seen.servers[0].admit("a", 8.0, seen.clock.now)
        seen.servers[0].hear(report_of("edge-0", (("a", 8.0),), resident=("big",)), seen.clock.now)
        seen.watch.decided(Decision("edge-0", 0.002, None, 0.0, "mine", True, "edge-1"), Task("big", "edge-1", 8, 0, 0))
        seen.state["status"] = "degraded"
        seen.watch._glance()
        seen.watch._look()
        ((name, change),) = await messages(stream, 1)
        assert name == "change"
        (edge,) = change["edges"]
        assert edge["name"] == "edge-0"
        assert (edge["in_work"], edge["wait_s"], edge["resident"]) == (True, 4.0, ["big"])
        assert "capacity_gcycles_s" not in edge
        assert change["state"] == {"status": "degraded"}
        assert [(one["kind"], one["edge"], one["model"]) for one in change["happenings"]] == [
            ("loaded", "edge-0", "big"),
            ("evicted", "edge-0", "tiny"),
        ]
        (decision,) = change["decisions"]
        assert (decision["edge"], decision["home"], decision["model"]) == ("edge-0", "edge-1", "big")
        assert (decision["policy"], decision["canary"], decision["shadow"]) == ("mine", True, "edge-1")
        assert change["sequence"] == whole["sequence"] + 1

        seen.watch._look()  # nothing has changed: nothing is said
        assert seen.watch.viewers
        seen.servers[1].lose("it is gone")
        seen.watch._glance()
        seen.watch._look()
        ((_, change),) = await messages(stream, 1)
        assert (change["edges"][0]["healthy"], change["happenings"][0]["kind"]) == (False, "lost")
        viewer.leave()
        assert not seen.watch.viewers

    asyncio.run(scenario())


def test_what_happens_between_two_messages_is_bounded_and_counted():
    async def scenario():
        seen = Seen()
        viewer = seen.watch.join()
        stream = viewer.messages()
        await messages(stream, 1)
        for _ in range(1000):
            seen.watch.decided(Decision("edge-0", 0.0, None), Task("tiny", "edge-0", 1, 0, 0))
        seen.watch._look()
        ((_, change),) = await messages(stream, 1)
        assert len(change["decisions"]) == MOST
        assert change["counts"]["decisions"] == 1000

    asyncio.run(scenario())


def test_slow_viewers_are_dropped_and_others_are_not():
    async def scenario():
        seen = Seen()
        slow, quick = seen.watch.join().messages(), seen.watch.join().messages()
        await messages(slow, 1)
        await messages(quick, 1)
        for step in range(MOST_BEHIND + 2):
            seen.state["step"] = step
            seen.watch._look()
            ((_, change),) = await messages(quick, 1)
            assert change["state"]["step"] == step
        assert len(seen.watch.viewers) == 1
        assert [message async for message in slow] == []  # what waited for it is forgotten

    asyncio.run(scenario())


def test_viewers_are_so_many_at_most():
    viewers = Viewers()
    first = [viewers.join(b"x") for _ in range(MOST_VIEWERS)]
    with pytest.raises(TooManyViewersError) as refused:
        viewers.join(b"x")
    assert (refused.value.status, refused.value.code) == (503, "too_many_viewers")
    viewers.leave(first[0])
    viewers.join(b"x")
    viewers.close()
    assert not viewers
    with pytest.raises(StoppingError):
        viewers.join(b"x")


def test_a_stream_shows_that_it_lives_and_ends(run_virtually):
    async def scenario():
        loop = asyncio.get_running_loop()
        viewer = Viewers().join(b"first")
        read = [(message, loop.time()) async for message in viewer.messages()]
        assert read[0] == (b"first", 0.0)
        assert [at for _, at in read[1:]] == pytest.approx([10.0 * (n + 1) for n in range(int(STREAM_S // 10))])
        assert {message for message, _ in read[1:]} == {console_viewers._ALIVE}

    run_virtually(scenario())


def test_the_log_tells_what_became_of_requests(tmp_path):
    job = Job("1", "a secret", None, 10, 1.0, 16, 32, (7, 8), 1.0, "tiny", home="edge-0", key="the key", alias="id")
    task, terms = Task("tiny", "edge-0", 1.0, 0.0, 0.1, deadline_s=10.0), Terms(account="me", request_id="the id")
    made = Made("edge-1", 0.5, 0.25, "disk", 1.5, 6, 0.0, None, False)
    for prompts in ("none", "hash", "text"):
        seen = Seen(prompts={"folder": str(tmp_path), "prompts": prompts})
        note = seen.recorder.note
        note(task, job, terms, seen.clock.now - 2.5, "mine", made)
        note(task, job, terms, seen.clock.now - 20, "mine", made)
        note(task, job, terms, seen.clock.now, "mine", error=QueuesFullError("Full.", 1.0))
        note(task, job, terms, seen.clock.now, "mine", error=asyncio.CancelledError())
        note(task, job, terms, seen.clock.now, "mine", error=ZeroDivisionError())
        rows = seen.whole()["requests"]
        assert [(row["number"], row["outcome"], row["reason"]) for row in rows] == [
            (1, "served", None),
            (2, "late", None),
            (3, "refused", "queues_full"),
            (4, "gone", None),
            (5, "failed", "ZeroDivisionError"),
        ]
        first = rows[0]
        assert (first["edge"], first["steps"], first["size"], first["pictures"]) == ("edge-1", 6, "16x32", 2)
        assert (first["queue_s"], first["load_s"], first["generation_s"], first["total_s"]) == (0.5, 0.25, 1.5, 2.5)
        assert {row["prompt"] for row in rows} == {"a secret" if prompts == "text" else None}
        text = json.dumps(rows)
        assert not [word for word in ("the key", "the id", '"me"') if word in text]
        assert ("secret" in text) == (prompts == "text")


def test_requests_are_told_once_and_so_many_at_most():
    async def scenario():
        seen = Seen()
        stream = seen.watch.join().messages()
        await messages(stream, 1)
        job = Job("1", "x", None, 10, 1.0, 16, 16, (7,), 1.0, "tiny", home="edge-0")
        for count, told in ((3, range(1, 4)), (MOST_REQUESTS + 7, range(11, MOST_REQUESTS + 11))):
            for _ in range(count):
                seen.recorder.note(Task("tiny", "edge-0", 1.0, 0.0, 0.1), job, Terms(), seen.clock.now, "mine")
            seen.watch._look()
            ((_, change),) = await messages(stream, 1)
            assert [row["number"] for row in change["requests"]] == list(told)
        assert change["counts"]["requests"] == MOST_REQUESTS + 10

    asyncio.run(scenario())


def test_the_state_is_made_once_a_period_whoever_asks():
    seen = Seen()
    calls = []
    seen.watch._overview = lambda: calls.append(1) or {}  # type: ignore[func-returns-value]
    first = seen.watch.whole()
    assert all(seen.watch.whole() is first for _ in range(100))
    seen.clock.now += PERIOD_S
    assert seen.watch.whole() is not first
    assert len(calls) == 2


def test_two_hundred_busy_edges_fit_into_small_messages():
    async def scenario():
        seen = Seen(edges=200)
        for server in seen.servers:
            server.hear(report_of(server.name, resident=("tiny",)), seen.clock.now)
            server.admit("a", 500.0, seen.clock.now)
        for _ in range(SAMPLES):
            seen.clock.now += SAMPLE_S
            seen.watch._glance()
        viewer = seen.watch.join()
        stream = viewer.messages()
        whole = await anext(stream)
        assert len(whole) < 120_000
        seen.clock.now += 1.0
        seen.watch._look()
        change = await anext(stream)
        assert len(change) < 12_000  # of each edge its name and its waiting time

    asyncio.run(scenario())
