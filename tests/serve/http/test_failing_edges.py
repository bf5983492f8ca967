# SPDX-License-Identifier: Apache-2.0
"""The gateway over HTTP when edges fail, hang, fall silent or are fuller than it knew: retries, refusals, health."""

from __future__ import annotations

import asyncio
import base64

from edgegen.serve.control.jobs import EdgeFullError, EdgeLostError, GenerationError
from tests.serve.fake_edges import URL, check_error, held, serve


def test_lost_edge_loses_no_request(make_config):
    async def scenario(client, edges, gateway):
        under_way = await held(client, [edges["edge-a"]], 3, edge="edge-a", seed=3)
        edges["edge-a"].failure = EdgeLostError("process died")
        await asyncio.sleep(0.3)  # the next report fails, and the three are moved
        answers = [response.json() for response in await asyncio.gather(*under_way)]
        assert {answer["edgegen"]["server"] for answer in answers} <= {"edge-b", "edge-c"}
        assert all("process died" in answer["edgegen"]["fallback"] for answer in answers)
        assert all(base64.b64decode(answer["data"][0]["b64_json"]).endswith(b" 3") for answer in answers)
        assert edges["edge-a"].jobs[0].id != edges["edge-b"].jobs[0].id
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "process died" in health.json()["edges"]["edge-a"]["reason"]
        edges["edge-a"].failure = None
        edges["edge-a"].hold.set()
        await asyncio.sleep(0.2)
        assert (await client.get("/healthz")).json()["status"] == "ok"

    serve(scenario, make_config(policy="local", report_period_s=0.05))


def test_edges_fuller_than_the_books_answer_429(make_config):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.failure = EdgeFullError("it has 1 requests waiting already")
        refused = await client.post(URL, json={"prompt": "x"})
        check_error(refused, 429, "rate_limit_error", "3 edge servers")
        assert int(refused.headers["retry-after"]) >= 1
        for edge in edges.values():
            edge.failure, edge.remaining = None, (("left", 1.0), ("left too", 1.0))
        await asyncio.sleep(0.3)  # the next reports tell of jobs that nobody waits for
        check_error(await client.post(URL, json={"prompt": "x"}), 429, "rate_limit_error", "3 healthy edge servers")
        assert [len(edge.jobs) for edge in edges.values()] == [1, 1, 1]
        edges["edge-b"].remaining = (("left", 1.0),)
        await asyncio.sleep(0.3)
        answer = await client.post(URL, json={"prompt": "x"})
        assert answer.json()["edgegen"]["server"] == "edge-b"

    serve(scenario, make_config(max_queue=1, max_held=0, report_period_s=0.05))


def test_edge_that_hangs_loses_no_request(make_config):
    async def scenario(client, edges, gateway):
        (under_way,) = await held(client, [edges["edge-a"]], edge="edge-a")
        edges["edge-a"].stalled_s = 7.4
        await asyncio.sleep(0.3)
        assert (await under_way).json()["edgegen"]["server"] in ("edge-b", "edge-c")
        health = (await client.get("/healthz")).json()["edges"]["edge-a"]
        assert "no progress for 7 s" in health["reason"]
        answer = (await client.post(URL, json={"prompt": "x", "edge": "edge-a"})).json()
        assert answer["edgegen"]["server"] != "edge-a"
        edges["edge-a"].stalled_s = 4.0
        await asyncio.sleep(0.3)
        assert (await client.get("/healthz")).json()["status"] == "ok"

    serve(scenario, make_config(policy="local", report_period_s=0.05, request_timeout_s=10))


def test_silent_edge_becomes_unhealthy(make_config):
    async def scenario(client, edges, gateway):
        edges["edge-b"].silent = True
        await asyncio.sleep(0.6)
        assert "no report" in (await client.get("/healthz")).json()["edges"]["edge-b"]["reason"]

    serve(scenario, make_config(report_period_s=0.05, report_timeout_s=0.1))


def test_edge_that_can_not_be_asked_finishes_what_it_has(make_config):
    async def scenario(client, edges, gateway):
        (under_way,) = await held(client, [edges["edge-b"]], edge="edge-b")
        for edge in edges.values():
            edge.silent = True  # as when Serve is about to stop it
        await asyncio.sleep(0.6)
        assert (await client.get("/healthz")).json()["status"] == "unavailable"
        check_error(await client.post(URL, json={"prompt": "x"}), 503, "service_unavailable_error", "No healthy edge")
        assert not under_way.done()
        edges["edge-b"].hold.set()
        assert (await under_way).json()["edgegen"]["server"] == "edge-b"

    serve(scenario, make_config(policy="local", report_period_s=0.05, report_timeout_s=0.1))


def test_edge_that_is_silent_for_long_loses_no_request(make_config):
    async def scenario(client, edges, gateway):
        (under_way,) = await held(client, [edges["edge-b"]], edge="edge-b")
        edges["edge-b"].silent = True
        answer = (await under_way).json()["edgegen"]
        assert answer["server"] != "edge-b"
        assert "no report" in answer["fallback"]

    settings = {"report_period_s": 0.05, "report_timeout_s": 0.1, "request_timeout_s": 20, "stall_timeout_s": 1}
    serve(scenario, make_config(policy="local", **settings))


def test_no_edge_answers_503(make_config):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.failure = EdgeLostError("gone")
        await asyncio.sleep(0.3)
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        check_error(await client.post(URL, json={"prompt": "x"}), 503, "service_unavailable_error", "No healthy edge")

    serve(scenario, make_config(report_period_s=0.05))


def test_retries_are_bounded(make_config):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.failure = GenerationError("out of memory")
        response = await client.post(URL, json={"prompt": "x"})
        check_error(response, 502, "server_error", "3 times", "out of memory")
        assert [len(edge.jobs) for edge in edges.values()] == [1, 1, 1]
        assert all(state["backlog_gcycles"] == 0 for state in (await client.get("/v1/edges")).json()["data"])

    serve(scenario, make_config())


def test_slow_request_times_out(make_config):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.hold = asyncio.Event()
        check_error(await client.post(URL, json={"prompt": "x"}), 504, "timeout_error", "0.2 s")
        assert all(state["queue_length"] == 0 for state in (await client.get("/v1/edges")).json()["data"])

    serve(scenario, make_config(request_timeout_s=0.2))
