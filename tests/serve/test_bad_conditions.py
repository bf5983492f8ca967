# SPDX-License-Identifier: Apache-2.0
"""Edges that fall silent, more work than can be done, and the way out: a gateway with slow edges in virtual time."""

from __future__ import annotations

import asyncio

import pytest

REPORTS = {"report_period_s": 0.5, "report_timeout_s": 2.0}
TEN_S = {"n": 4, "num_inference_steps": 50}  # 20 Gcycle: 5 s, 10 s and 20 s on the edges


def served_by(answers):
    return [answer.json()["edgegen"]["server"] for answer in answers]


def test_silent_edge_gets_no_work_after_the_first_missed_report(in_virtual_time, make_config):
    async def scenario(service):
        silent = service.edges["edge-a"]
        await service.until(1)
        silent.stopped = True
        await service.until(4.2)  # a report was due at 3.5 s at the latest
        placed = len(silent.jobs)
        asked = [service.ask(edge="edge-a") for _ in range(4)]
        await asyncio.sleep(0.1)
        assert len(silent.jobs) == placed == 0
        health = (await service.client.get("/healthz")).json()
        assert health["status"] == "ok"  # a busy machine misses one report now and then
        assert "edge-a" not in served_by(await asyncio.gather(*asked))
        silent.stopped = False
        await service.until(12)
        assert served_by([await service.ask(edge="edge-a")]) == ["edge-a"]

    in_virtual_time(scenario, make_config(policy="local", **REPORTS))


def test_waiting_work_leaves_a_silent_edge_after_the_second_missed_report(in_virtual_time, make_config):
    async def scenario(service):
        asked = [service.ask(edge="edge-a", **TEN_S) for _ in range(3)]
        await service.until(1)
        service.edges["edge-a"].stopped = True
        await service.until(4.2)
        assert len(service.edges["edge-a"].left) == 3
        await service.until(6.2)
        assert list(service.edges["edge-a"].left) == [service.edges["edge-a"].jobs[0].id]
        assert (await service.client.get("/healthz")).json()["status"] == "degraded"
        await service.until(29)
        assert not asked[0].done()  # what it was at, it may finish for stall_timeout_s
        answers = await asyncio.gather(*asked)
        assert service.loop.time() < 50
        assert "edge-a" not in served_by(answers)
        assert all("no report" in answer.json()["edgegen"]["fallback"] for answer in answers)

    in_virtual_time(scenario, make_config(policy="local", stall_timeout_s=30, **REPORTS))


def test_silent_edge_that_wakes_keeps_what_it_was_at(in_virtual_time, make_config):
    async def scenario(service):
        asked = [service.ask(edge="edge-a", **TEN_S) for _ in range(2)]
        await service.until(1)
        service.edges["edge-a"].stopped = True
        await service.until(10)
        service.edges["edge-a"].stopped = False
        assert served_by(await asyncio.gather(*asked))[0] == "edge-a"
        assert (await service.client.get("/healthz")).json()["status"] == "ok"

    in_virtual_time(scenario, make_config(policy="local", **REPORTS))


def test_requests_are_served_though_all_edges_missed_a_report(in_virtual_time, make_config):
    """As when the gateway itself was too busy to hear them."""

    async def scenario(service):
        for edge in service.edges.values():
            edge.stopped = True
        await service.until(2.7)
        assert all(server.silent for server in service.scheduler.servers.values())
        asked = service.ask()
        await asyncio.sleep(0.1)
        for edge in service.edges.values():
            edge.stopped = False
        assert (await asked).status_code == 200

    in_virtual_time(scenario, make_config(**REPORTS))


def test_nobody_waits_longer_than_is_allowed_and_refusals_say_when(in_virtual_time, make_config):
    """Three times the capacity, with places in the queues for all of it."""

    async def scenario(service):
        asked = []
        for number in range(240):
            await service.until(number / 4.2)  # 5 Gcycle each, 7 Gcycle/s in all
            asked.append(service.ask(num_inference_steps=50))
        answers = await asyncio.gather(*asked)
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        waits = [answer.json()["edgegen"]["total_s"] for answer in answers if answer.status_code == 200]
        assert max(waits) < 10 + 5 + 1  # max_wait_s, and the request itself on the slowest edge
        told = [int(answer.headers["retry-after"]) for answer in answers if answer.status_code == 429]
        assert 7 <= min(told) < max(told) <= 15  # about max_wait_s, spread by a quarter
        message = next(answer for answer in answers if answer.status_code == 429).json()["error"]["message"]
        assert "10 s are allowed" in message

    in_virtual_time(scenario, make_config(max_wait_s=10, max_queue=1000))


def test_idle_edge_takes_a_request_however_long_it_is(in_virtual_time, make_config):
    async def scenario(service):
        assert (await service.ask(**TEN_S)).status_code == 200

    in_virtual_time(scenario, make_config(max_wait_s=0.1))


@pytest.mark.parametrize(("grace_s", "codes"), [(20, [200, 200]), (7, [200, 503])])
def test_service_that_ends_finishes_what_it_can_and_refuses_the_rest(in_virtual_time, make_config, grace_s, codes):
    async def scenario(service):
        asked = [service.ask(edge=edge, **TEN_S) for edge in ("edge-a", "edge-b")]
        await service.until(1)
        drained = asyncio.ensure_future(service.gateway.drain(grace_s))
        await asyncio.sleep(0.1)
        late = await service.ask()
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "stopping"
        assert int(late.headers["retry-after"]) >= 1
        health = await service.client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        answers = await asyncio.gather(*asked)
        await drained
        assert [answer.status_code for answer in answers] == codes
        assert all("error" in answer.json() for answer in answers if answer.status_code == 503)
        assert service.loop.time() < 1 + min(grace_s, 10) + 0.5

    in_virtual_time(scenario, make_config(policy="local"))


def test_service_without_work_ends_at_once(in_virtual_time, make_config):
    async def scenario(service):
        await service.gateway.drain(100)
        assert service.loop.time() == 0

    in_virtual_time(scenario, make_config())
