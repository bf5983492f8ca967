# SPDX-License-Identifier: Apache-2.0
"""What an edge keeps: each job once by its key, for a while, within a bound of memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edgegen.serve.control.jobs import GenerationError, Job, KeyReusedError, OvertakenError, Pictures, Sending
from edgegen.serve.edge.kept import KeptPictures

JOB = Job("1", "x", None, 10, 5.0, 16, 16, (3,), 1.0, key="k", alias="r")


class Painter:
    """Paints when told to, and counts."""

    def __init__(self):
        self.begun, self.stopped, self.failure = 0, 0, None
        self.go = asyncio.Event()

    async def __call__(self, job):
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if self.failure is not None:
            raise self.failure
        return Pictures((job.id.encode() * 10,), 0.1, 0.2)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def kept(clock=None, keep_s=60.0, most_bytes=1000):
    return KeptPictures("edge-a", keep_s, most_bytes, clock or Clock())


async def begun(store, painter, *jobs):
    tasks = [asyncio.create_task(store.generate(job, painter)) for job in jobs]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def test_equal_keys_share_one_work():
    async def scenario():
        store, painter = kept(), Painter()
        tasks = await begun(store, painter, JOB, replace(JOB, id="2", left_s=5.0))
        assert store.find("k").pictures is None
        painter.go.set()
        first, second = await asyncio.gather(*tasks)
        again = await store.generate(replace(JOB, id="3"), painter)
        assert first == second == again
        assert painter.begun == 1
        for name in ("k", "r"):
            found = store.find(name)
            assert (found.server, found.job, found.pictures) == ("edge-a", JOB, first)
        assert store.find("1") is None

    asyncio.run(scenario())


def test_jobs_without_a_key_are_not_kept():
    async def scenario():
        store, painter = kept(), Painter()
        painter.go.set()
        for _ in range(2):
            await store.generate(replace(JOB, key=None), painter)
        assert (painter.begun, store.size_bytes) == (2, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("change", [{"prompt": "y"}, {"seeds": (4,)}, {"steps": 11}, {"model": "other"}])
@pytest.mark.parametrize("finished", [False, True])
def test_key_of_another_job_is_refused(change, finished):
    async def scenario():
        store, painter = kept(), Painter()
        (task,) = await begun(store, painter, JOB)
        if finished:
            painter.go.set()
            await task
        with pytest.raises(KeyReusedError):
            await store.generate(replace(JOB, **change), painter)
        painter.go.set()
        await task
        assert painter.begun == 1

    asyncio.run(scenario())


def test_job_that_comes_after_a_later_gateway_has_asked_is_refused():
    async def scenario():
        clock = Clock()
        store, painter = kept(clock), Painter()
        painter.go.set()
        late = replace(JOB, sending=Sending("p", 1))
        assert store.find("k", Sending("p", 2)) is None
        with pytest.raises(OvertakenError, match="with another gateway"):
            await store.generate(late, painter)
        other = replace(JOB, key="other", sending=Sending("q", 1))  # of a request that nobody sent again
        assert await store.generate(other, painter)
        pictures = await store.generate(replace(late, sending=Sending("p", 2)), painter)
        assert await store.generate(late, painter) == pictures  # what is there is given to everybody
        assert painter.begun == 2
        clock.now += 61
        await store.generate(late, painter)  # what was asked for is forgotten, as pictures are
        assert painter.begun == 3

    asyncio.run(scenario())


def test_job_that_came_before_a_later_gateway_asks_goes_on():
    async def scenario():
        store, painter = kept(), Painter()
        late = replace(JOB, sending=Sending("p", 1))
        (first,) = await begun(store, painter, late)
        assert store.find("k", Sending("p", 2)).job == late
        (second,) = await begun(store, painter, replace(late, sending=Sending("p", 2)))
        painter.go.set()
        assert await first == await second
        assert painter.begun == 1

    asyncio.run(scenario())


def test_work_stops_when_the_last_one_has_gone():
    async def scenario():
        store, painter = kept(), Painter()
        one, other = await begun(store, painter, JOB, replace(JOB, id="2"))
        one.cancel()
        await asyncio.sleep(0)
        assert (painter.stopped, store.find("k") is None) == (0, False)
        other.cancel()
        await asyncio.gather(one, other, return_exceptions=True)
        assert store.find("k") is None
        (again,) = await begun(store, painter, JOB)  # and does not join what is about to stop
        assert (painter.begun, painter.stopped) == (2, 1)
        painter.go.set()
        await again

    asyncio.run(scenario())


def test_failure_is_told_to_all_and_not_kept():
    async def scenario():
        store, painter = kept(), Painter()
        tasks = await begun(store, painter, JOB, JOB)
        painter.failure = GenerationError("out of memory")
        painter.go.set()
        assert await asyncio.gather(*tasks, return_exceptions=True) == [painter.failure] * 2
        assert store.find("k") is None
        painter.failure = None
        assert (await store.generate(JOB, painter)).png

    asyncio.run(scenario())


def test_pictures_are_kept_for_a_time_and_within_a_bound():
    async def scenario():
        clock = Clock()
        store, painter = kept(clock, keep_s=60, most_bytes=35), Painter()  # three pictures of 10 bytes
        painter.go.set()
        for number in range(5):
            await store.generate(replace(JOB, id=str(number), key=f"k{number}"), painter)
            clock.now += 1
            assert store.size_bytes == 10 * min(number + 1, 3)
        assert [store.find(f"k{number}") is not None for number in range(5)] == [False, False, True, True, True]
        clock.now += 57.5  # 60.5 s after the third
        assert [store.find(f"k{number}") is not None for number in range(2, 5)] == [False, True, True]
        clock.now += 60
        assert store.find("k4") is None
        assert store.size_bytes == 0

    asyncio.run(scenario())
