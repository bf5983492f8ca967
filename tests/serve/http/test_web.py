# SPDX-License-Identifier: Apache-2.0
"""The gateway over HTTP with healthy edges: answers, bad requests, states, full queues, policies that break."""

from __future__ import annotations

import asyncio
import base64

import pytest

from edgegen.algorithms.rules.routing import LeastDelay
from edgegen.serve.receiving import MAX_BODY_BYTES
from tests.serve.fake_edges import URL, check_error, held, serve


def test_answer_has_the_openai_shape(make_config):
    async def scenario(client, edges, gateway):
        body = {"prompt": "a red circle", "n": 2, "seed": 5, "num_inference_steps": 4, "edge": "edge-b", "user": "me"}
        response = await client.post(URL, json=body)
        assert response.status_code == 200
        answer = response.json()
        assert set(answer) == {
            *("created", "background", "output_format", "quality", "size", "data", "usage", "edgegen"),
        }
        assert [base64.b64decode(picture["b64_json"]) for picture in answer["data"]] == [b"edge-a 5", b"edge-a 6"]
        served = answer["edgegen"]
        assert (served["server"], served["home"], served["seed"], served["steps"]) == ("edge-a", "edge-b", 5, 4)
        assert served["workload_gcycles"] == pytest.approx(0.8)
        assert (served["queue_s"], served["generation_s"], served["fallback"]) == (0.1, 0.2, None)
        assert 0 < served["decision_s"] < served["total_s"]

    serve(scenario, make_config())


def test_defaults(make_config):
    async def scenario(client, edges, gateway):
        served = [(await client.post(URL, json={"prompt": "x"})).json()["edgegen"] for _ in range(4)]
        assert [answer["home"] for answer in served] == ["edge-a", "edge-b", "edge-c", "edge-a"]
        assert len({answer["seed"] for answer in served}) == 4
        assert served[0]["steps"] == 10

    serve(scenario, make_config())


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"prompt": ""}, "prompt", ["prompt", "1 to 300"]),
        ({"prompt": "  \n"}, "prompt", ["prompt"]),
        ({"prompt": "x" * 301}, "prompt", ["301", "300"]),
        ({"prompt": 5}, "prompt", ["prompt", "5", "string"]),
        ({"negative_prompt": "x" * 301}, "negative_prompt", ["negative_prompt", "300"]),
        ({"model": "tinny"}, "model", ["tinny", "Did you mean 'tiny'"]),
        ({"size": "64x64"}, "size", ["64x64", "16x16"]),
        ({"size": "big"}, "size", ["big", "16x16"]),
        ({"num_inference_steps": 0}, "num_inference_steps", ["0", "1 to 50"]),
        ({"num_inference_steps": 51}, "num_inference_steps", ["51", "1 to 50"]),
        ({"num_inference_steps": 2.5}, "num_inference_steps", ["2.5", "integer"]),
        ({"n": 11}, "n", ["11", "1 to 10"]),
        ({"n": True}, "n", ["True", "integer"]),
        ({"seed": -1}, "seed", ["-1"]),
        ({"guidance_scale": 1000}, "guidance_scale", ["1000", "50"]),
        ({"response_format": "uri"}, "response_format", ["uri", "b64_json, url"]),
        ({"edge": "edge-d"}, "edge", ["edge-d", "edge-a, edge-b, edge-c"]),
        ({"sead": 1}, "sead", ["sead", "Did you mean 'seed'"]),
    ],
)
def test_bad_values_are_refused_in_one_sentence(make_config, change, param, words):
    async def scenario(client, edges, gateway):
        response = await client.post(URL, json={"prompt": "x", **change})
        check_error(response, 400, "invalid_request_error", *words, param=param)
        assert not any(edge.jobs for edge in edges.values())

    serve(scenario, make_config())


def test_other_bad_requests(make_config):
    async def scenario(client, edges, gateway):
        kind = "invalid_request_error"

        def post(body):
            return client.post(URL, content=body, headers={"content-type": "application/json"})

        check_error(await client.post(URL, json={}), 400, kind, "prompt", "missing", param="prompt")
        for body in (b"", b"{", b"\xff", b'{"prompt": NaN', b"[" * 100_000):
            check_error(await post(body), 400, kind, "not valid JSON")
        check_error(await post(b"[1]"), 400, kind, "JSON object", "list")
        nan = await post(b'{"prompt": "x", "guidance_scale": NaN}')
        check_error(nan, 400, kind, "nan", param="guidance_scale")
        for body in (b'{"prompt": "\\ud83d"}', b'{"prompt": "x", "\\ud800": 1}'):
            check_error(await post(body), 400, kind, "surrogate")
        whole = await post(b'{"prompt": "\\ud83d\\ude00"}')
        assert whole.status_code == 200
        padding = b" " * (MAX_BODY_BYTES - 15)
        assert (await post(b'{"prompt": "x"}' + padding)).status_code == 200
        large = await post(b'{"prompt": "x"} ' + padding)
        check_error(large, 413, kind, str(MAX_BODY_BYTES))
        check_error(await client.get("/v2/pictures"), 404, kind, "GET /v2/pictures", URL)
        wrong = await client.get(URL)
        check_error(wrong, 405, kind, "allows POST")
        assert wrong.headers["allow"] == "POST"

    serve(scenario, make_config())


def test_models_edges_and_health(make_config):
    async def scenario(client, edges, gateway):
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert (model["id"], model["object"]) == ("tiny", "model")
        assert model["edgegen"]["edges"] == ["edge-a", "edge-b", "edge-c"]
        states = (await client.get("/v1/edges")).json()["data"]
        assert [state["name"] for state in states] == ["edge-a", "edge-b", "edge-c"]
        assert [state["capacity_gcycles_s"] for state in states] == [4, 2, 1]
        assert all(state["healthy"] and state["backlog_gcycles"] == 0 for state in states)
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (200, "ok")

    serve(scenario, make_config())


def test_backlog_shows_what_is_under_way(make_config):
    async def scenario(client, edges, gateway):
        under_way = await held(client, [edges["edge-a"]], 2, edge="edge-a", num_inference_steps=50, n=4)
        state = (await client.get("/v1/edges")).json()["data"][0]
        assert (state["queue_length"], state["in_work"]) == (1, True)
        assert 30 < state["backlog_gcycles"] < 40  # 2 × 20 Gcycle, shrinking at 4 Gcycle/s
        edges["edge-a"].hold.set()
        for response in await asyncio.gather(*under_way):
            assert response.status_code == 200
        assert (await client.get("/v1/edges")).json()["data"][0]["backlog_gcycles"] == 0

    serve(scenario, make_config(policy="local"))


def test_a_burst_is_spread_by_speed(make_config):
    """Seven equal requests, speeds 4, 2 and 1: only as 4, 2 and 1 are they all done in the time of one at edge-c."""

    async def scenario(client, edges, gateway):
        under_way = await held(client, edges.values(), 7, num_inference_steps=50, n=4)  # 20 Gcycle each
        for edge in edges.values():
            edge.hold.set()
        servers = [response.json()["edgegen"]["server"] for response in await asyncio.gather(*under_way)]
        assert {name: servers.count(name) for name in edges} == {"edge-a": 4, "edge-b": 2, "edge-c": 1}

    serve(scenario, make_config(policy="least-delay"))


def test_full_queues_answer_429(make_config):
    async def scenario(client, edges, gateway):
        under_way = await held(client, edges.values(), 6)
        refused = await client.post(URL, json={"prompt": "x"})
        check_error(refused, 429, "rate_limit_error", "3 healthy edge servers", "1 waiting")
        assert int(refused.headers["retry-after"]) >= 1
        for edge in edges.values():
            edge.hold.set()
        assert [response.status_code for response in await asyncio.gather(*under_way)] == [200] * 6

    serve(scenario, make_config(max_queue=1, max_held=0))


class Broken(LeastDelay):
    name = "broken"

    def act(self, role, view, memory, explore=True):
        raise ZeroDivisionError("no weights")


def test_broken_policy_degrades_the_service(make_config):
    async def scenario(client, edges, gateway):
        answer = (await client.post(URL, json={"prompt": "x"})).json()
        assert "no weights" in answer["edgegen"]["fallback"]
        health = (await client.get("/healthz")).json()
        assert health["status"] == "degraded"
        assert health["policy"]["failures"] == 1
        assert "no weights" in health["policy"]["last_failure"]

    serve(scenario, make_config(), Broken())


def test_broken_policy_without_fallback_refuses(make_config):
    async def scenario(client, edges, gateway):
        response = await client.post(URL, json={"prompt": "x"})
        check_error(response, 503, "service_unavailable_error", "no weights", "no fallback")

    serve(scenario, make_config(fallback="none"), Broken())


def test_bug_in_the_service_is_an_error_answer_too(make_config):
    async def scenario(client, edges, gateway):
        gateway.models = None
        check_error(await client.get("/v1/models"), 500, "server_error", "TypeError")

    serve(scenario, make_config())


def test_interface_describes_itself(make_config):
    async def scenario(client, edges, gateway):
        schema = (await client.get("/openapi.json")).json()
        body = schema["paths"][URL]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"prompt", "num_inference_steps", "edge"} <= set(body["properties"])

    serve(scenario, make_config())
