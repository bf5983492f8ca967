# SPDX-License-Identifier: Apache-2.0
"""Steps that an edge chooses: what it knows then, what the plain rule takes, and what the books say."""

from __future__ import annotations

import asyncio
import math

import pytest

from edgegen.serve.edge.steps import StepsState, all_in_time, within_limits
from tests.serve.edge.fake_engine import edge_with, job, send


def state(**changes):
    values = {"backlog_s": 3.0, "load_s": 2.0, "behind_s": 0.0, "step_s": 0.5, "fixed_s": 1.0, "left_s": 10.0}
    return StepsState(capacity_gcycles_s=2.0, **{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"left_s": 10.5}, 8),  # 10 s and a twentieth: 3 s, 2 s, 1 s, and 8 times half a second
        ({"left_s": 10.4}, 7),
        ({"left_s": 100.0}, 20),
        ({"left_s": math.inf}, 20),
        ({"left_s": 1.0}, 5),
    ],
)
def test_all_steps_that_the_deadline_allows(changes, steps):
    assert all_in_time(job("1", steps=20, least_steps=5), state(**changes)) == steps


def test_a_job_without_a_choice_gets_what_it_asks_for():
    assert all_in_time(job("1", steps=20), state(left_s=0.0)) == 20
    assert within_limits(job("1", steps=3, least_steps=5), 1) == 3
    assert within_limits(job("1", steps=20, least_steps=5), math.nan) == 20


def test_steps_follow_the_deadline_and_the_books_the_steps(run_virtually):
    async def run():
        edge, _ = edge_with(fixed_gcycles=1.0)
        # 2 Gcycle/s: the first takes 8 s, so 6.5 s are left for the second: 4 s of load, .5 s beside the steps.
        # Of all times a twentieth is headroom.
        first = job("1", steps=16)
        second = job("2", "d", steps=20, least_steps=2, left_s=14.5 * 1.05)
        third = job("3", "d", steps=20, least_steps=2, left_s=15.0 * 1.05)
        under_way = send(edge, first, second, third)
        await asyncio.sleep(0)
        left = dict((await edge.report()).remaining_gcycles)
        assert left["2"] == pytest.approx(8 + (1 + 4) * 20 / 21)
        assert left["3"] == pytest.approx((1 + 2) * 20 / 21)
        one, two, three = await asyncio.gather(*under_way)
        # At the start some of the headroom has not been needed. What can not be in time gets the fewest.
        assert (one.steps, two.steps, three.steps) == (16, 5, 2)

    run_virtually(run())


def test_a_policy_decides_when_a_job_joins_and_may_fail(run_virtually):
    seen = []

    def decide(job, state):
        if not job.id:  # asked once before there are jobs
            return job.steps
        seen.append(state)
        if len(seen) == 3:
            raise ZeroDivisionError
        return 99 if len(seen) == 2 else 3

    async def run():
        edge, _ = edge_with(decide_steps=decide)
        jobs = (job(str(number), "d", steps=8, least_steps=2, left_s=12.0 * 1.05) for number in range(3))
        pictures = await asyncio.gather(*send(edge, *jobs), *send(edge, job("4")))
        assert [made.steps for made in pictures] == [3, 8, 5, 4]
        first, second, third = seen
        assert (first.backlog_s, first.load_s, first.step_s, first.fixed_s, first.left_s) == pytest.approx(
            (0, 4, 0.5, 0, 12.6)
        )
        assert (second.backlog_s, second.load_s) == (5.5, 0)
        assert third.backlog_s == 9.5

    run_virtually(run())


def test_another_policy_takes_over_for_the_jobs_to_come_and_is_tried_before(run_virtually):
    asked = []

    def fewest(job, state):
        asked.append(job.id)
        return 2

    def broken(job, state):
        raise ZeroDivisionError

    async def run():
        edge, _ = edge_with()
        before = asyncio.ensure_future(edge.generate(job("1", "a", steps=8, least_steps=2)))
        await asyncio.sleep(0)
        await edge.choose_steps_by(fewest)
        assert asked == [""]
        after = await edge.generate(job("2", "a", steps=8, least_steps=2))
        assert ((await before).steps, after.steps, asked) == (8, 2, ["", "2"])
        await edge.choose_steps_by(broken)  # the plain rule stands in for it
        assert (await edge.generate(job("3", "a", steps=8, least_steps=2))).steps == 8
        await edge.choose_steps_by(None)
        assert (await edge.generate(job("4", "a", steps=8, least_steps=2))).steps == 8

    run_virtually(run())
