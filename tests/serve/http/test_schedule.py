# SPDX-License-Identifier: Apache-2.0
"""Decisions about work that somebody else does: what they say, and how the books and the edges count it."""

from __future__ import annotations

import asyncio

import pytest

from edgegen.serve.config import build_config
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import LEASE, EdgeLostError, EdgeReport
from edgegen.serve.edge.leases import LATE_S
from tests.serve.emulated_service import MODEL, emulated_config, serve_emulated
from tests.serve.fake_edges import URL, check_error

SCHEDULE = "/v1/schedule"
STEPS = {"num_inference_steps": 50}


async def decided(client, *tasks):
    answer = await client.post(SCHEDULE, json={"tasks": list(tasks)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "list"
    return answer.json()["data"]


async def backlog_s(client):
    """Work on every edge, s, once the edges have reported."""
    await asyncio.sleep(0.6)
    edges = (await client.get("/v1/edges")).json()["data"]
    return {edge["name"]: edge["backlog_gcycles"] / edge["capacity_gcycles_s"] for edge in edges}


def test_decisions_know_of_each_other_and_do_nothing():
    async def scenario(edges, client):
        tasks = await decided(client, *({**STEPS, "tag": f"{n}", "edge": "edge-a"} for n in range(4)))
        assert [one["tag"] for one in tasks] == list("0123")
        assert sorted(one["server"] for one in tasks) == ["edge-a", "edge-a", "edge-b", "edge-b"]
        work_s = tasks[0]["generation_s"]
        assert work_s > 5
        for one in tasks:
            assert (one["model"], one["steps"], one["address"], one["load_s"]) == (MODEL, 50, None, 0.0)
            assert one["lease"].startswith(one["server"] + ".")
        waits = {name: [one["wait_s"] for one in tasks if one["server"] == name] for name in edges}
        for first, second in waits.values():
            assert (first, second) == (0.0, pytest.approx(work_s, abs=0.01))
        assert (await backlog_s(client))["edge-a"] == pytest.approx(2 * work_s - 0.6, abs=0.6)
        assert all(edge["pictures"] == 0 for edge in (await client.get("/v1/edges")).json()["data"])

    serve_emulated(scenario, emulated_config(speed=0.1))


def test_what_is_scheduled_counts_for_requests_and_for_other_gateways():
    async def scenario(edges, client, other):
        (one,) = await decided(client, STEPS)
        free = ({"edge-a", "edge-b"} - {one["server"]}).pop()
        await backlog_s(other)
        for asked in (client, other):
            (next_one,) = await decided(asked, {"num_inference_steps": 1})
            assert next_one["server"] == free
            assert (await other.delete(f"{SCHEDULE}/{next_one['lease']}")).status_code == 200
            await backlog_s(other)
        answer = (await other.post(URL, json={"prompt": "x", "num_inference_steps": 1})).json()
        assert answer["edgegen"]["server"] == free

    serve_emulated(scenario, emulated_config(speed=0.1), gateways=2)


def test_leases_end_when_they_are_given_back_at_any_gateway():
    async def scenario(edges, client, other):
        (one,) = await decided(client, STEPS)
        assert (await backlog_s(other))[one["server"]] > 5
        released = await other.delete(f"{SCHEDULE}/{one['lease']}")
        assert (released.status_code, released.json()) == (200, {"lease": one["lease"], "released": True})
        for asked in (client, other):
            assert (await backlog_s(asked))[one["server"]] == 0
            again = await asked.delete(f"{SCHEDULE}/{one['lease']}")
            check_error(again, 404, "invalid_request_error", "given back", param="lease")
        nowhere = await client.delete(f"{SCHEDULE}/nowhere.1")
        check_error(nowhere, 404, "invalid_request_error", "nowhere.1", param="lease")

    serve_emulated(scenario, emulated_config(speed=0.1), gateways=2)


def test_leases_weigh_what_is_left_by_the_clock_and_are_forgotten_in_the_end():
    async def scenario(edges, client):
        (one,) = await decided(client, STEPS)
        edge, work_s = edges[one["server"]], one["generation_s"]
        report = await edge.report()
        ((name, work),) = report.remaining_gcycles
        assert name.startswith(LEASE)
        await asyncio.sleep(work_s / 2)
        ((_, half),) = (await edge.report()).remaining_gcycles
        assert half == pytest.approx(work / 2, rel=0.01)
        await asyncio.sleep(work_s / 2 + LATE_S - 0.1)
        assert (await edge.report()).remaining_gcycles == ((name, 0.0),)
        await asyncio.sleep(0.2)
        assert (await edge.report()).remaining_gcycles == ()
        assert (await client.delete(f"{SCHEDULE}/{one['lease']}")).status_code == 404

    serve_emulated(scenario, emulated_config(speed=0.1))


def test_edges_learn_from_the_times_that_are_told():
    async def scenario(edges, client):
        before = (await client.get("/v1/edges")).json()["data"][0]["capacity_gcycles_s"]
        for _ in range(20):
            (one,) = await decided(client, {**STEPS, "edge": "edge-a"})
            twice = 2 * 50 * 0.016 / before
            params = {"generation_s": twice}
            assert (await client.delete(f"{SCHEDULE}/{one['lease']}", params=params)).status_code == 200
        await backlog_s(client)
        after = (await client.get("/v1/edges")).json()["data"][0]["capacity_gcycles_s"]
        work = 50 * 0.016 + (await client.get("/v1/models")).json()["data"][0]["edgegen"]["fixed_gcycles"]
        assert after == pytest.approx(work / twice, rel=0.01)
        wrong = await client.delete(f"{SCHEDULE}/{one['lease']}", params={"generation_s": "soon"})
        check_error(wrong, 400, "invalid_request_error", "'soon'", "a number from 0.001", param="generation_s")

    serve_emulated(scenario, emulated_config(edges=1))


def test_steps_are_those_that_the_deadline_allows():
    async def scenario(edges, client):
        (full,) = await decided(client, {"quality": "high"})
        least, most = full["least_steps"], full["most_steps"]
        assert (full["steps"], full["in_time"]) == (most, True)
        await client.delete(f"{SCHEDULE}/{full['lease']}")
        (short,) = await decided(client, {"quality": "high", "deadline_s": 0.8 * full["generation_s"]})
        assert (least <= short["steps"] < most, short["in_time"]) == (True, True)
        (late,) = await decided(client, {"quality": "high", "deadline_s": 0.1 * full["generation_s"]})
        assert (late["steps"], late["in_time"]) == (least, False)

    serve_emulated(scenario, emulated_config(edges=1, speed=0.1))


def test_requests_behind_a_lease_are_not_taken_for_waiting_when_they_are_in_work():
    async def scenario(edges, client):
        (one,) = await decided(client, STEPS)
        answer = await client.post(URL, json={"prompt": "x", "deadline_s": 2.5 * one["generation_s"], **STEPS})
        assert answer.status_code == 200, answer.text

    serve_emulated(scenario, emulated_config(edges=1, speed=0.1))


def test_tasks_without_a_place_are_refused_one_by_one():
    async def scenario(edges, client):
        found = await decided(client, *({**STEPS, "tag": f"{n}"} for n in range(5)))
        assert [set(one) == {"tag", "error"} for one in found] == [False, False, False, True, True]
        error = found[3]["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "queues_full")

    serve_emulated(scenario, emulated_config(edges=1, speed=0.1, max_queue=2))


def test_edges_that_do_not_answer_are_told_and_taken_off_the_books():
    async def scenario(edges, client):
        async def lost(*_):
            raise EdgeLostError("process died")

        edges["edge-a"].lease = edges["edge-a"].release = lost
        (one,) = await decided(client, STEPS)
        assert one["error"]["code"] == "no_server"
        assert (await client.get("/v1/edges")).json()["data"][0]["backlog_gcycles"] == 0
        failed = await client.delete(f"{SCHEDULE}/edge-a.1")
        check_error(failed, 503, "service_unavailable_error", "does not answer")

    serve_emulated(scenario, emulated_config(edges=1))


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "tasks", ["tasks is missing"]),
        ({"tasks": []}, "tasks", ["has 0 entries", "1 to 100"]),
        ({"tasks": "all"}, "tasks", ["'all'", "1 to 100"]),
        ({"tasks": [{}], "task": 1}, "task", ["unknown field 'task'"]),
        ({"tasks": [{}, 5]}, "tasks.1", ["Task 1", "int"]),
        ({"tasks": [{}, {"modle": "x"}]}, "tasks.1.modle", ["Task 1", "Did you mean 'model'"]),
        ({"tasks": [{"prompt": "x"}]}, "tasks.0.prompt", ["Task 0", "prompt"]),
        ({"tasks": [{"n": 11}]}, "tasks.0.n", ["1 to 10"]),
        ({"tasks": [{"tag": "x" * 201}]}, "tasks.0.tag", ["0 to 200 characters"]),
        ({"tasks": [{"model": "shapes-65"}]}, "tasks.0.model", ["Did you mean 'shapes-64'"]),
    ],
)
def test_bad_tasks_are_refused_before_anything_is_decided(body, param, words):
    async def scenario(edges, client):
        check_error(await client.post(SCHEDULE, json=body), 400, "invalid_request_error", *words, param=param)
        assert set((await backlog_s(client)).values()) == {0}

    serve_emulated(scenario, emulated_config())


def test_services_elsewhere_are_named_with_what_they_call_the_model():
    remote = {"url": "http://user:secret@gpu-1:8000/v1", "model_names": {MODEL: "org/model"}, "concurrency": 4}
    config = build_config(
        {
            "models": {MODEL: {"cycles_per_step_gcycles": 0.016}},
            "edges": [{"name": "gpu-1", "model": MODEL, "engine": "remote", **remote}],
        }
    )

    async def scenario(edges, client):
        first, second = await decided(client, {}, {})
        assert first["address"]["model"] == "org/model"
        assert first["address"]["url"].startswith("http://")
        assert "gpu-1:8000" in first["address"]["url"]
        assert "secret" not in first["address"]["url"]
        assert second["wait_s"] == pytest.approx(first["generation_s"] / 4)  # four are done side by side

    serve_emulated(scenario, config)


def test_leases_of_others_are_no_jobs_of_the_queue():
    server = Server("edge", ("m",), 1.0, 1.0, 2)
    server.admit("lease one", 5.0, 0.0)
    server.admit("job", 4.0, 0.0)
    assert server.in_work == "job"
    reported = (("job", 3.0), ("lease one", 4.0), ("lease two", 2.0))
    server.hear(EdgeReport("edge", 1, reported, 0, 0.0, 1.0, 0.1, 0, None), 1.0)
    assert (server.elsewhere_jobs, server.jobs, server.in_work) == (0, 2, "job")
    assert server.backlog_gcycles(1.0) == 9.0
    server.hear(EdgeReport("edge", 1, (("job", 2.0),), 0, 0.0, 1.0, 0.1, 0, None), 2.0)
    assert server.remaining_gcycles == {"job": 2.0}
