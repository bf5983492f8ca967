# SPDX-License-Identifier: Apache-2.0
"""An edge with several models, with an engine on a virtual clock: what is loaded when, and what the report says."""

from __future__ import annotations

import asyncio

import pytest

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeFullError, GenerationError
from tests.serve.edge import fake_engine
from tests.serve.edge.fake_engine import FakeEngine, edge_with, job, send


@pytest.fixture
def at_one(run_virtually):
    """Run a scenario from second 1 on: what was never asked for counts as asked for at second 0."""

    def run(scenario):
        async def later():
            await asyncio.sleep(1)
            await scenario()

        run_virtually(later())

    return run


def test_a_miss_loads_in_its_turn_and_evicts_what_was_asked_for_longest_ago(at_one):
    async def run():
        edge, engine = edge_with()
        assert engine.resident == {"a", "b", "c"}
        first, second, third = await asyncio.gather(*send(edge, job("1"), job("2", "d"), job("3", "a")))
        assert engine.done == [
            (3.0, "paint", "1"),
            (3.0, "unload", "b"),
            (3.0, "unload", "c"),
            (7.0, "load", "d"),
            (9.0, "paint", "2"),
            (11.0, "paint", "3"),
        ]
        assert (first.queue_s, first.load_s, first.generation_s) == pytest.approx((0, 0, 2))
        assert (second.queue_s, second.load_s, second.generation_s) == pytest.approx((2, 4, 2))
        assert (third.queue_s, third.load_s, third.generation_s) == pytest.approx((8, 0, 2))
        assert second.png == (b"2 1",)

    at_one(run)


def test_the_report_says_what_is_there_what_will_be_and_how_long_all_takes(at_one):
    async def run():
        edge, _ = edge_with()
        under_way = send(edge, job("1"), job("2", "d", steps=6), job("3", "b", seeds=(1, 2)))
        await asyncio.sleep(1.1)
        report = await edge.report()
        # 2 Gcycle/s: 1 s of job 1 is left; then 4 s of load and 3 s of work; then 3 s of load and 4 s of work.
        assert report.capacity_gcycles_s == pytest.approx(2)
        assert dict(report.remaining_gcycles) == pytest.approx({"1": 2, "2": 14, "3": 14})
        assert (report.resident, report.expected) == (("a", "b", "c"), ("b",))
        assert report.loading_s == pytest.approx(7)
        assert dict(report.load_s) == {"a": 2, "b": 3, "c": 1, "d": 4}
        assert report.steps_left == 2
        await asyncio.sleep(3)
        report = await edge.report()  # 2.1 s into the load of d
        assert dict(report.remaining_gcycles) == pytest.approx({"2": 9.8, "3": 14})
        assert report.resident == ("a", "d")
        assert report.stalled_s == 0
        await asyncio.gather(*under_way)
        report = await edge.report()
        assert (report.remaining_gcycles, report.loading_s, report.pictures) == ((), 0, 4)

    at_one(run)


def test_the_work_in_the_report_is_the_time_that_is_left(at_one):
    async def run():
        edge, engine = edge_with(max_queue=100)
        jobs = [job(str(n), "abcd"[n * 7 % 4], steps=1 + n % 5, seeds=(1,) * (1 + n % 3)) for n in range(30)]
        under_way = send(edge, *jobs)
        await asyncio.sleep(0)
        await edge.keep(["d", "c"])
        reports = []
        while not all(task.done() for task in under_way):
            report = await edge.report()
            left_s = sum(work for _, work in report.remaining_gcycles) / report.capacity_gcycles_s
            reports.append((engine.now + left_s, len(report.remaining_gcycles)))
            await asyncio.sleep(0.7)
        ends = [end for end, _ in reports]
        # Steps are done at once at their end, so a report may be as late as the longest step: half a second × 3.
        assert max(ends) - min(ends) < 1.5 + 1e-6
        assert [count for _, count in reports] == sorted((count for _, count in reports), reverse=True)

    at_one(run)


def test_the_cachers_wishes_are_loaded_at_the_end_of_the_queue_and_decide_what_goes(at_one):
    async def run():
        edge, engine = edge_with()
        first = send(edge, job("1"))
        await asyncio.sleep(0)
        await edge.keep(["a", "d"])  # a was asked for; b and c are not wanted
        report = await edge.report()
        assert dict(report.remaining_gcycles) == pytest.approx({"1": 4, "load d": 8})
        assert report.expected == ("a", "d")
        await asyncio.gather(*first, *send(edge, job("2", "d")))
        assert engine.done == [
            (3.0, "paint", "1"),
            (3.0, "unload", "b"),
            (3.0, "unload", "c"),
            (7.0, "load", "d"),
            (9.0, "paint", "2"),
        ]
        await edge.keep(["a", "d"])
        assert (await edge.report()).remaining_gcycles == ()

    at_one(run)


def test_scores_decide_what_goes(at_one):
    async def run():
        edge, engine = edge_with(memory_gb=7.0)
        await asyncio.gather(*send(edge, job("1", "b")))
        await edge.keep([], {"a": 0.9, "b": 0.1, "c": 0.5})
        await asyncio.gather(*send(edge, job("2", "d")))
        assert engine.resident == {"a", "c", "d"}  # though b was asked for last

    at_one(run)


def test_pins_are_never_dropped(at_one):
    async def run():
        edge, engine = edge_with(pinned=("b",), memory_gb=7.0)
        jobs = (job(str(number), model) for number, model in enumerate("dacdacda"))
        await asyncio.gather(*send(edge, *jobs))
        await edge.keep(["d", "a", "c"])
        assert not [what for what in engine.done if what[1:] in {("unload", "b"), ("load", "b")}]
        assert "b" in engine.resident

    at_one(run)


def test_loads_are_learned_as_a_running_mean(at_one, monkeypatch):
    async def run():
        edge, _ = edge_with()
        monkeypatch.setitem(fake_engine.LOAD_S, "d", 6.0)
        await asyncio.gather(*send(edge, job("1", "d")))
        assert dict((await edge.report()).load_s)["d"] == pytest.approx(6)  # the first one replaces what was said
        monkeypatch.setitem(fake_engine.LOAD_S, "d", 2.0)
        await asyncio.gather(*send(edge, job("2", "b"), job("3", "d")))
        assert dict((await edge.report()).load_s)["d"] == pytest.approx(0.7 * 6 + 0.3 * 2)

    at_one(run)


def test_a_load_that_fails_fails_its_job_and_no_other(at_one):
    async def run():
        edge, engine = edge_with()
        engine.broken.add("d")
        first, second, third = send(edge, job("1", "d"), job("2", "a"), job("3", "d"))
        with pytest.raises(GenerationError, match=r"^OSError: no weights of d$"):
            await first
        engine.broken.clear()
        await asyncio.gather(second, third)
        report = await edge.report()
        assert report.last_error == "OSError: no weights of d"
        assert set(report.resident) == engine.resident

    at_one(run)


def test_a_painting_that_fails_leaves_the_model(at_one):
    async def run():
        edge, engine = edge_with()
        with pytest.raises(GenerationError, match="no such colour"):
            await edge.generate(job("1", "d", prompt="fail"))
        assert "d" in engine.resident
        assert (await edge.generate(job("2", "d"))).load_s == 0

    at_one(run)


def test_a_client_that_leaves_takes_the_load_along_before_it_began_and_not_after(at_one):
    async def run():
        edge, engine = edge_with()
        first, second, third = send(edge, job("1"), job("2", "d"), job("3", "b"))
        await asyncio.sleep(1)
        second.cancel()
        await asyncio.sleep(0)
        assert (await edge.report()).expected == ("a", "b", "c")
        await asyncio.gather(first, third)
        assert [what for what in engine.done if what[1] != "paint"] == []
        gone, stays = send(edge, job("4", "d"), job("5", "d"))
        await asyncio.sleep(1)
        gone.cancel()
        assert (await stays).load_s == 0  # it was loaded for the other one
        assert [what[1:] for what in engine.done][-2:] == [("load", "d"), ("paint", "5")]

    at_one(run)


def test_running_work_for_nobody_stops_and_the_next_begins_after_it(at_one):
    async def run():
        edge, engine = edge_with()
        long, last = send(edge, job("long", steps=40), job("last"))
        await asyncio.sleep(3)
        long.cancel()
        await last
        assert engine.done == [(6.0, "paint", "last")]
        assert (await edge.report()).remaining_gcycles == ()

    at_one(run)


def test_books_count_a_load_as_work_and_not_as_a_job_that_waits(at_one):
    async def run():
        edge, _ = edge_with()
        await edge.keep(["d"])
        server = Server("edge", ("a", "b", "c", "d"), 100.0, 2.0, max_queue=0)
        server.hear(await edge.report(), 0.0)
        assert server.wait_s(0.0) == pytest.approx(4)
        assert not server.full

    at_one(run)


def test_limits_and_models_that_it_does_not_hold(at_one):
    async def run():
        edge, _ = edge_with(max_queue=1)
        one, two, three = send(edge, job("1"), job("2", "d"), job("3"))
        with pytest.raises(EdgeFullError, match="'edge' has 1 requests waiting already"):
            await three
        with pytest.raises(GenerationError, match="'edge' does not hold the model 'z'"):
            await edge.generate(job("4", "z"))
        await asyncio.gather(one, two)

    at_one(run)


def test_a_long_load_is_no_stall_but_one_without_end_is(at_one):
    async def run():
        edge, _ = edge_with()

        edge._pace.loaded("d", False, 30.0)
        fake_engine.LOAD_S["d"] = 500.0
        try:
            (task,) = send(edge, job("1", "d"))
            await asyncio.sleep(100)
            await edge.check_health()
            await asyncio.sleep(50)
            with pytest.raises(RuntimeError, match="no progress for 20 s"):
                await edge.check_health()
            task.cancel()
        finally:
            fake_engine.LOAD_S["d"] = 4.0

    at_one(run)


def test_jobs_of_a_kind_are_painted_together_in_order(at_one):
    async def run():
        edge, engine = edge_with(FakeEngine(max_pictures=3))
        jobs = (
            job("1", seeds=(1, 2)),
            job("2"),
            job("3"),  # a fourth picture
            job("4", steps=5),
            job("5"),
            job("6", guidance_scale=1.0),
            job("7", guidance_scale=1.0, negative_prompt="y"),
            job("8", "b", guidance_scale=1.0),
        )
        pictures = await asyncio.gather(*send(edge, *jobs))
        assert [what[2:] for what in engine.done] == [("1", "2"), ("3",), ("4",), ("5",), ("6",), ("7",), ("8",)]
        assert pictures[0].png == (b"1 1", b"1 2")
        assert pictures[1].png == (b"2 1",)
        assert pictures[1].generation_s == pictures[0].generation_s

    at_one(run)


def test_one_of_several_that_leaves_does_not_stop_the_others(at_one):
    async def run():
        edge, engine = edge_with(FakeEngine(max_pictures=3))
        first, second = send(edge, job("1"), job("2"))
        await asyncio.sleep(1)
        first.cancel()
        assert (await second).png == (b"2 1",)
        assert [what[2:] for what in engine.done] == [("1", "2")]

    at_one(run)


def test_several_paintings_at_a_time(at_one):
    async def run():
        edge, engine = edge_with(FakeEngine(concurrency=2), memory_gb=None)
        under_way = send(edge, *(job(str(number)) for number in range(5)))
        await asyncio.sleep(0.6)
        report = await edge.report()
        assert report.capacity_gcycles_s == pytest.approx(2)  # of one job; both are half as long in the books
        assert [work for _, work in report.remaining_gcycles] == pytest.approx([1.5, 1.5, 2, 2, 2])
        await asyncio.gather(*under_way)
        assert [at_s for at_s, *_ in engine.done] == [3.0, 3.0, 5.0, 5.0, 7.0]
        assert [what[2] for what in engine.done] == ["0", "1", "2", "3", "4"]

    at_one(run)


def test_an_idle_edge_is_timed_again_and_a_request_does_not_wait_for_that(at_one):
    async def run():
        edge, engine = edge_with(FakeEngine(is_timed=True))
        assert (await edge.report()).capacity_gcycles_s == pytest.approx(2)
        engine.step_s = 0.25  # nothing else runs on the machine any more
        await asyncio.sleep(2)
        await edge.report()
        await asyncio.sleep(2)
        await edge.report()
        await asyncio.sleep(10)
        assert [what[2] for what in engine.done] == ["warm-up"] * 3
        report = await edge.report()
        assert (report.capacity_gcycles_s, report.pictures) == (pytest.approx(4), 0)
        await asyncio.sleep(15)
        await edge.report()
        await asyncio.sleep(0.1)
        assert len(engine.done) == 3  # from now on it waits for half a minute
        await asyncio.sleep(15)
        await edge.report()
        await asyncio.sleep(0.1)
        assert (await edge.generate(job("1"))).queue_s < 1
        assert len(engine.done) == 4  # that timing was given up

    at_one(run)


def test_in_every_frame_the_first_gateway_decides_what_is_kept(at_one):
    async def run():
        edge, engine = edge_with(frame_s=20)
        await edge.keep(["d"])
        await asyncio.sleep(9)
        await edge.keep(["b", "c"])  # another gateway, in the same frame
        await asyncio.sleep(10)
        assert [name for _, what, name in engine.done if what == "load"] == ["d"]
        await edge.keep(["b", "c"])
        await asyncio.sleep(9)
        assert [name for _, what, name in engine.done if what == "load"] == ["d", "b"]  # c has never left

    at_one(run)
