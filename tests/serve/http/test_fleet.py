# SPDX-License-Identifier: Apache-2.0
"""A gateway whose policies see a fleet: requests are routed, and edges are told what to keep."""

from __future__ import annotations

import asyncio

import pytest

from edgegen.serve.config import build_config
from tests.serve.fake_edges import URL, serve

MODELS = {
    "a": {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "default_steps": 10, "size_gb": 2, "load_s": 1},
    "b": {"cycles_per_step_gcycles": 0.2, "sizes": ["16x16"], "default_steps": 10, "size_gb": 3, "load_s": 2},
}
EDGES = [
    {"name": "edge-a", "models": ["a", "b"], "capacity_gcycles_s": 4, "memory_gb": 5},
    {"name": "edge-b", "models": ["a", "b"], "capacity_gcycles_s": 2, "memory_gb": 3},
    {
        "name": "far",
        "models": ["a", "b"],
        "capacity_gcycles_s": 2,
        "engine": "remote",
        "url": "http://far",
        "cloud": {"price": 0.9},
    },
]


def config(policy="price-greedy", **fields):
    return build_config({"kind": "fleet", "models": MODELS, "edges": EDGES, "policy": policy, **fields})


@pytest.mark.parametrize("policy", ["price-greedy", "router=earliest cacher=price-greedy"])
def test_requests_are_routed_and_edges_told_what_to_keep(policy):
    async def scenario(client, edges, gateway):
        answers = [(await client.post(URL, json={"prompt": "x", "model": m})).json()["edgegen"] for m in "abab"]
        assert [answer["fallback"] for answer in answers] == [None] * 4
        assert {answer["server"] for answer in answers} <= {"edge-a", "edge-b"}
        assert {answer["home"] for answer in answers} == {"edge-a", "edge-b"}  # nobody arrives in the cloud
        await asyncio.sleep(0.5)
        told = {name: edge.kept[-1][0] for name, edge in edges.items() if edge.kept}
        assert told["edge-a"] == ("a", "b")
        assert len(told["edge-b"]) == 1  # 3 GB
        assert "far" not in told
        health = (await client.get("/healthz")).json()
        assert health["policy"]["failures"] == 0
        router = "earliest" if policy.startswith("router") else "price-greedy"
        policies = (await client.get("/v1/edges")).json()["policies"]
        assert policies == {"router": router, "cacher": "price-greedy", "allocator": "price-greedy"}

    serve(scenario, config(policy, frame_s=0.2))


def test_a_request_that_nobody_else_can_take_goes_to_the_cloud():
    async def scenario(client, edges, gateway):
        for name in ("edge-a", "edge-b"):
            gateway.scheduler.lose(name, "gone")
        answer = (await client.post(URL, json={"prompt": "x"})).json()["edgegen"]
        assert (answer["server"], answer["fallback"]) == ("far", None)

    serve(scenario, config(report_period_s=30))


def test_without_a_policy_of_the_fleet_edges_see_to_their_memory_themselves():
    async def scenario(client, edges, gateway):
        assert (await client.post(URL, json={"prompt": "x"})).status_code == 200
        await asyncio.sleep(0.3)
        assert not any(edge.kept for edge in edges.values())
        policies = (await client.get("/v1/edges")).json()["policies"]
        assert policies == {"router": "least-delay", "cacher": None, "allocator": None}

    serve(scenario, config("least-delay", kind="offloading", frame_s=0.1))


def test_a_new_policy_decides_at_the_edges_too():
    async def scenario(client, edges, gateway):
        assert await gateway.obey({"policy": "router=earliest allocator=price-greedy"}) is None
        assert {edge.chooser.policy.name for edge in edges.values()} == {"price-greedy"}
        assert await gateway.obey({"policy": "nonsense"}) is not None
        assert {edge.chooser.policy.name for edge in edges.values()} == {"price-greedy"}

    serve(scenario, config("earliest"))


def test_a_request_is_taken_if_its_fewest_steps_are_in_time():
    models = {name: {**model, "least_steps": 2, "cycles_per_step_gcycles": 10} for name, model in MODELS.items()}

    async def scenario(client, edges, gateway):
        # All ten steps take 25 s on the faster edge, the fewest two 5 s; fake edges take none.
        asked = {"prompt": "x", "model": "a", "edge": "edge-a", "deadline_s": 15}
        assert (await client.post(URL, json=asked)).status_code == 200
        job = (edges["edge-a"].jobs or edges["edge-b"].jobs)[-1]
        assert (job.steps, job.least_steps) == (10, 2)
        refused = await client.post(URL, json={**asked, "num_inference_steps": 10})
        assert refused.status_code == 400
        assert "leaves 15 s, but the request takes 25 s" in refused.json()["error"]["message"]

    serve(scenario, config(models=models, report_period_s=30))
