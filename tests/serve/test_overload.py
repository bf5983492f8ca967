# SPDX-License-Identifier: Apache-2.0
"""More work than can be done, in virtual time: honest refusals, answers in time, and fair turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from tests.serve.many_gateways import with_gateways

DEADLINE_S = 10.0
OFFERED_S = 120.0
CAPACITY = 7.0  # Gcycle/s of the three edges
GENERATIONS = {"num_inference_steps": 20}  # 2 Gcycle: 0.5 s, 1 s and 2 s on the edges


async def offered(fleet, load, users=("",), seconds=OFFERED_S, steps=20, **fields):
    """Answers and times of requests that come at a load, relative to all capacity, from several users in turn."""
    period_s = 0.1 * steps / CAPACITY / load
    asked = []

    async def one(number):
        user = users[number % len(users)]
        begun = fleet.clock()
        answer = await fleet.ask(seed=number, num_inference_steps=steps, user=user, **fields)
        return user, answer, fleet.clock() - begun, fleet.clock()

    for number in range(round(seconds / period_s)):
        await fleet.until(number * period_s)
        asked.append(asyncio.ensure_future(one(number)))
    return await asyncio.gather(*asked)


def goodput(answers, seconds=OFFERED_S, deadline_s=DEADLINE_S):
    """Answers in time, per second."""
    good = [end for _, answer, took_s, end in answers if answer.status_code == 200 and took_s <= deadline_s + 0.1]
    return sum(end <= seconds for end in good) / seconds


def check_honest(answers, deadline_s=DEADLINE_S):
    """Answered in time, or refused with a reason and a time to come back; returns how many of each."""
    codes = Counter[str]()
    for _, answer, took_s, _ in answers:
        code = "ok" if answer.status_code == 200 else answer.json()["error"]["code"]
        if code == "ok" and took_s > deadline_s + 0.1:
            code = "late"
        codes[code] += 1
        if answer.status_code != 200:
            assert int(answer.headers["retry-after"]) >= 1
            assert took_s <= deadline_s
    assert set(codes) <= {"ok", "late", "too_late", "queues_full", "deadline_missed"}
    accepted = codes["ok"] + codes["late"] + codes["deadline_missed"]
    assert codes["ok"] >= 0.95 * accepted
    return codes


@pytest.mark.parametrize("gateways", [1, 3])
def test_three_times_the_capacity_for_two_minutes(make_config, gateways):
    rates = {}
    for load in (1.0, 3.0):

        async def scenario(fleet, load=load):
            answers = await offered(fleet, load, deadline_s=DEADLINE_S)
            codes = check_honest(answers)
            rates[load] = goodput(answers)
            if load > 1:
                assert codes["too_late"] > 0.5 * len(answers)
                told = [int(answer.headers["retry-after"]) for _, answer, *_ in answers if answer.status_code == 429]
                assert len(set(told)) >= 4
                assert 3 <= sum(told) / len(told) <= 2 * DEADLINE_S

        with_gateways(scenario, make_config(gateways=gateways, max_queue=100, deadline_s=DEADLINE_S), gateways)
    assert rates[3.0] >= 0.95 * rates[1.0]


def test_flood_of_one_user_leaves_others_their_share(make_config):
    async def scenario(fleet):
        loud = asyncio.ensure_future(offered(fleet, 3.0, ("loud",), deadline_s=DEADLINE_S))
        quiet = await offered(fleet, 0.3, ("quiet",), deadline_s=DEADLINE_S)
        check_honest([*quiet, *await loud])
        done = sum(answer.status_code == 200 for _, answer, *_ in quiet)
        assert done >= 0.98 * len(quiet)

    with_gateways(scenario, make_config(max_queue=100, ahead_s=1.0), 1)


def test_shares_are_as_the_config_says(make_config):
    async def scenario(fleet):
        answers = await offered(fleet, 4.0, ("a", "b"), deadline_s=DEADLINE_S)
        check_honest(answers)
        done = Counter(user for user, answer, *_ in answers if answer.status_code == 200)
        assert done["a"] / done["b"] == pytest.approx(3, rel=0.2)

    with_gateways(scenario, make_config(max_queue=100, ahead_s=1.0, tenant_weights={"a": 3.0}), 1)


def test_high_priorities_go_first(make_config):
    async def scenario(fleet):
        flood = [fleet.ask(num_inference_steps=50) for _ in range(40)]  # 200 Gcycle: 29 s
        await fleet.until(0.5)
        one = {level: fleet.ask(num_inference_steps=5, priority=level) for level in ("low", "normal", "high")}
        took: dict[str, float] = {}
        for level, task in one.items():
            task.add_done_callback(lambda _, level=level: took.setdefault(level, fleet.clock()))
        answers = await asyncio.gather(*flood, *one.values())
        assert {answer.status_code for answer in answers} == {200}
        assert took["high"] < 8 < 20 < took["normal"] <= took["low"]

    with_gateways(scenario, make_config(max_queue=100, ahead_s=1.0), 1)


def test_request_that_can_not_be_in_time_any_more_is_dropped_before_work(make_config):
    async def scenario(fleet):
        first = [fleet.ask(num_inference_steps=50) for _ in range(3)]  # one on each edge: 1.25 s, 2.5 s, 5 s
        await fleet.until(0.1)
        late = fleet.ask(num_inference_steps=10, deadline_s=4.0, edge="edge-a")
        for edge in fleet.edges.values():
            edge.stopped = True
        answer = await late
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_missed")
        assert fleet.clock() < 4.1
        assert int(answer.headers["retry-after"]) >= 1
        for edge in fleet.edges.values():
            edge.stopped = False
        assert {answer.status_code for answer in await asyncio.gather(*first)} == {200}
        assert fleet.painted.total() == 3

    with_gateways(scenario, make_config(policy="local", report_timeout_s=30), 1)


def test_deadline_that_no_edge_can_keep_is_refused_at_once(make_config):
    async def scenario(fleet):
        refused = await fleet.ask(num_inference_steps=50, n=4, deadline_s=4.0)  # 5 s on the fastest edge
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "deadline_too_short", "deadline_s")
        for wrong in (0, -1, 301, "soon"):
            assert (await fleet.ask(deadline_s=wrong)).status_code == 400
        assert (await fleet.ask(num_inference_steps=50, n=4, deadline_s=6.0)).status_code == 200

    with_gateways(scenario, make_config(), 1)


def test_waiting_room_is_bounded_and_a_flood_gives_way(make_config):
    async def scenario(fleet):
        flood = [fleet.ask(num_inference_steps=50, user="loud") for _ in range(60)]
        await fleet.until(0.2)
        assert [node.gateway.health()["waiting"] for node in fleet.nodes] == [20]
        placed = fleet.begun.total()
        quiet = fleet.ask(num_inference_steps=50, user="quiet")
        answers = await asyncio.gather(*flood)
        assert (await quiet).status_code == 200
        assert Counter(answer.status_code for answer in answers) == {200: placed + 20 - 1, 429: 60 - placed - 20 + 1}

    with_gateways(scenario, make_config(max_queue=100, ahead_s=10.0, max_held=20), 1)


def test_accepted_request_waits_while_no_edge_is_there(make_config):
    async def scenario(fleet):
        asked = [fleet.ask(seed=number, num_inference_steps=50) for number in range(3)]
        await fleet.until(0.5)
        for edge in fleet.edges.values():
            edge.dead.set()
        await fleet.until(3)
        refused = await fleet.ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_server")
        await fleet.until(20)
        for edge in fleet.edges.values():
            edge.dead.clear()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    with_gateways(scenario, make_config(max_retries=5), 1)


def test_steps_of_the_wall_clock_change_nothing(make_config, monkeypatch):
    def run(jumps):
        ends: list[Any] = []

        async def scenario(fleet):
            answers = await offered(fleet, 2.0, seconds=20, deadline_s=DEADLINE_S)
            ends.extend((answer.status_code, round(took_s, 6)) for _, answer, took_s, _ in answers)

        real, calls = time.time, iter(range(10**9))
        if jumps:  # an hour back, an hour ahead, in turns
            monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(calls) * 3600)
        with_gateways(scenario, make_config(max_queue=100), 1)
        monkeypatch.undo()
        return ends

    assert run(jumps=True) == run(jumps=False)
