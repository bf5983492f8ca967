# SPDX-License-Identifier: Apache-2.0
"""An edge server with a real, tiny pipeline, without Ray."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import replace

import pytest
from PIL import Image

from edgegen.serve.control.jobs import EdgeFullError, GenerationError, Job
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig


def job(name="1", steps=3, seeds=(7,), **fields):
    return Job(
        **{
            "id": name,
            "prompt": "a red circle",
            "negative_prompt": None,
            "steps": steps,
            "guidance_scale": 3.0,
            "width": 16,
            "height": 16,
            "seeds": seeds,
            "workload_gcycles": 0.1 * steps * len(seeds),
            **fields,
        }
    )


@pytest.fixture(scope="module")
def make_edge(tiny_pipeline, make_config):
    cards = make_config(tiny_pipeline).cards()

    def make(max_queue=8, **fields):
        return EdgeServer(EdgeConfig(name="edge-a", model=tiny_pipeline, **fields), cards, max_queue, 2, 0.05)

    return make


@pytest.fixture(scope="module")
def run_async():
    """One event loop for all tests, as an edge has in service."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def edge(make_edge):
    return make_edge()


def test_equal_jobs_give_equal_pictures_and_seeds_differ(edge, run_async):
    async def run():
        pair = await edge.generate(job("1", seeds=(7, 8)))
        again = await edge.generate(job("2", seeds=(8,)))
        return pair, again

    pair, again = run_async(run())
    assert pair.png[0] != pair.png[1]
    assert pair.png[1] == again.png[0]
    picture = Image.open(io.BytesIO(pair.png[0]))
    assert (picture.format, picture.size) == ("PNG", (16, 16))


def test_first_come_first_served_one_at_a_time(edge, run_async):
    finished = []

    async def one(name):
        pictures = await edge.generate(job(name))
        finished.append(name)
        return pictures

    async def run():
        return await asyncio.gather(*(one(str(number)) for number in range(5)))

    results = run_async(run())
    assert finished == ["0", "1", "2", "3", "4"]
    waits = [result.queue_s for result in results]
    assert waits == sorted(waits)
    assert waits[4] >= sum(result.generation_s for result in results[:4]) * 0.9


def test_report_counts_steps_down(edge, run_async):
    async def run():
        before = await edge.report()
        work = asyncio.gather(edge.generate(job("1", steps=30)), edge.generate(job("2", steps=10)))
        seen = []
        while not work.done():
            await asyncio.sleep(0.01)
            seen.append(await edge.report())
        await work
        return before, seen, await edge.report()

    before, seen, after = run_async(run())
    middle = [dict(report.remaining_gcycles) for report in seen if len(report.remaining_gcycles) == 2]
    left = [remaining["1"] for remaining in middle]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    assert all(remaining["2"] == pytest.approx(1.0) for remaining in middle)
    assert after.remaining_gcycles == ()
    assert after.pictures == before.pictures + 2
    assert after.capacity_gcycles_s == pytest.approx(0.1 / after.step_s)


def test_full_queue_is_refused(make_edge, run_async):
    edge = make_edge(max_queue=1)

    async def run():
        return await asyncio.gather(*(edge.generate(job(str(n))) for n in range(3)), return_exceptions=True)

    first, second, third = run_async(run())
    assert isinstance(third, EdgeFullError)
    assert first.png
    assert second.png


def test_configured_capacity_is_reported(make_edge, run_async):
    assert run_async(make_edge(capacity_gcycles_s=5).report()).capacity_gcycles_s == 5


def test_pipeline_failure_is_told_and_survived(edge, run_async):
    async def run():
        with pytest.raises(GenerationError, match="width"):
            await edge.generate(job("1", width=15))
        return await edge.generate(job("2")), await edge.report()

    pictures, report = run_async(run())
    assert pictures.png
    assert "width" in report.last_error


def test_cancelled_work_makes_room(edge, run_async):
    async def run():
        long = asyncio.create_task(edge.generate(job("long", steps=500)))
        waiting = asyncio.create_task(edge.generate(job("waiting")))
        await asyncio.sleep(0.1)
        last = asyncio.create_task(edge.generate(job("last")))
        await asyncio.sleep(0)
        waiting.cancel()
        long.cancel()
        pictures = await asyncio.wait_for(last, 5)
        return pictures, long.cancelled(), (await edge.report()).remaining_gcycles

    pictures, cancelled, remaining = run_async(run())
    assert cancelled
    assert pictures.png
    assert remaining == ()


def test_slowdown_stretches_generation(make_edge, edge, run_async):
    slow = make_edge(slowdown=4)

    def generation_s(server, number):
        return run_async(server.generate(job(str(number), steps=5))).generation_s

    # In turn, and the best of each, so that a busy moment of the machine does not hit one alone.
    rounds = [(generation_s(slow, n), generation_s(edge, n)) for n in range(5)]
    slowest, fastest = (min(times) for times in zip(*rounds, strict=True))
    assert slowest > 1.5 * fastest


def test_stalled_pipeline_fails_the_health_check(make_edge, run_async):
    edge = make_edge()
    ((model, loaded),) = edge._engine._resident.items()

    class Stuck:
        def __call__(self, **arguments):
            time.sleep(0.3)
            return loaded.pipeline(**arguments)

    async def run():
        await edge.check_health()
        edge._engine._resident[model] = replace(loaded, pipeline=Stuck())
        work = asyncio.create_task(edge.generate(job()))
        await asyncio.sleep(0.15)
        with pytest.raises(RuntimeError, match="no progress"):
            await edge.check_health()
        assert 0.1 < (await edge.report()).stalled_s < 0.3
        await work
        await edge.check_health()
        assert (await edge.report()).stalled_s == 0

    run_async(run())
