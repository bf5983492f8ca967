# SPDX-License-Identifier: Apache-2.0
"""The page /metrics: names that others read, values worked out by hand, and no labels that people make up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgegen.serve.control.jobs import GenerationError, Pictures
from tests.serve.fake_edges import URL, held, serve

BODY = {"prompt": "a red circle", "num_inference_steps": 4}


async def samples(client, **headers):
    """All values of the page by name and labels."""
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def test_requests_are_counted_by_what_became_of_them(make_config):
    async def scenario(client, edges, gateway):
        assert (await client.post(URL, json={**BODY, "n": 2, "edge": "edge-a"})).status_code == 200
        assert (await client.post(URL, json={**BODY, "sead": 1})).status_code == 400
        for edge in edges.values():
            edge.failure = GenerationError("no")
        assert (await client.post(URL, json=BODY)).status_code == 502
        assert (await client.get("/nowhere")).status_code == 404
        await client.request("BREW", "/v1/models")
        assert (await client.head("/v1/models/tiny")).status_code == 200
        seen = await samples(client)
        duration = "gen_ai_server_request_duration_seconds_count"
        assert seen[(duration, "", "generate_content", "tiny")] == 1
        assert seen[(duration, "generate_content", "generation_failed", "tiny")] == 1
        assert seen["edgegen_promises_total", "in_time", "tiny"] == 1
        assert seen["edgegen_promises_total", "failed", "tiny"] == 1
        assert seen["edgegen_pictures_total", "edge-a"] == 2
        assert sum(value for name, value in seen.items() if name[0] == "edgegen_edge_failures_total") == 3
        assert seen["edgegen_refusals_total", "generation_failed"] == 1
        http = "http_server_request_duration_seconds_count"
        assert {tuple(name[1:]): value for name, value in seen.items() if name[0] == http} == {
            tuple(sorted(("POST", "200", URL))): 1,
            tuple(sorted(("POST", "400", URL))): 1,
            tuple(sorted(("POST", "502", URL))): 1,
            tuple(sorted(("GET", "404", "other"))): 1,
            tuple(sorted(("other", "405", "/v1/models"))): 1,
            tuple(sorted(("HEAD", "200", "/v1/models/{model:path}"))): 1,
        }
        assert seen["edgegen_queue_seconds_sum", "edge-a"] == pytest.approx(0.1)
        assert seen["edgegen_generation_seconds_sum", "edge-a"] == pytest.approx(0.2)
        assert ("process_resident_memory_bytes",) in seen

    serve(scenario, make_config(max_retries=2))


def test_late_requests_and_loads(make_config):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.generate = slowly(edge.generate)
        answer = await client.post(URL, json={**BODY, "deadline_s": 0.3})
        assert answer.status_code == 200
        seen = await samples(client)
        assert seen["edgegen_promises_total", "late", "tiny"] == 1
        assert ("edgegen_promises_total", "in_time", "tiny") not in seen
        assert sum(value for name, value in seen.items() if name[0] == "edgegen_load_seconds_sum") == 1.5

    def slowly(generate):
        async def later(job):
            pictures = await generate(job)
            await asyncio.sleep(0.35)
            return Pictures(pictures.png, 0.0, 0.1, load_s=1.5)

        return later

    serve(scenario, make_config())


def test_queued_and_running_requests_by_model(make_config):
    async def scenario(client, edges, gateway):
        under_way = await held(client, edges.values(), 9)
        seen = await samples(client)
        for name in ("edgegen_requests", "vllm:omni_num_requests", "vllm:num_requests"):
            assert (seen[f"{name}_running", "tiny"], seen[f"{name}_waiting", "tiny"]) == (3, 6), name
        for edge in edges.values():
            edge.hold.set()
        await asyncio.gather(*under_way)
        seen = await samples(client)
        for name in ("edgegen_requests", "vllm:omni_num_requests", "vllm:num_requests"):
            assert (seen[f"{name}_running", "tiny"], seen[f"{name}_waiting", "tiny"]) == (0, 0), name

    serve(scenario, make_config(max_queue=2))


def test_loads_and_evictions_are_seen_in_reports(make_config):
    async def scenario(client, edges, gateway):
        server = gateway.scheduler.servers["edge-a"]
        for resident in (("a", "b"), ("b", "c"), ("b", "c"), ("a", "b")):
            gateway.scheduler.update(replace(await edges["edge-a"].report(), resident=resident))
            gateway._meter.state(server, 0.0)
        seen = await samples(client)
        # "tiny" was there before anything was reported of what is.
        assert of_models(seen, "edgegen_model_loads_total") == {"a": 2, "b": 1, "c": 1}
        assert of_models(seen, "edgegen_model_evictions_total") == {"a": 1, "c": 1, "tiny": 1}

    def of_models(seen, metric):
        return {next(iter({*name[1:]} - {"edge-a"})): value for name, value in seen.items() if name[0] == metric}

    serve(scenario, make_config(report_period_s=60))


def test_whatever_people_send_makes_no_new_series(make_config):
    async def scenario(client, edges, gateway):
        async def odd(number):
            await client.get(f"/nowhere/{number}")
            await client.get(f"/v1/images/{number}")
            await client.get(f"/v1/models/{number}")
            await client.request(f"ODD{number}", "/v1/edges")
            headers = {"x-request-id": f"id-{number}", "idempotency-key": f"key-{number}"}
            await client.post(URL, json={**BODY, "user": f"user-{number}", "seed": number}, headers=headers)
            await client.post(URL, json={**BODY, "model": f"model-{number}"})

        await odd(0)
        await asyncio.gather(*(odd(0) for _ in range(8)))
        before = {name for name in await samples(client) if not name[0].startswith("python_")}
        await asyncio.gather(*(odd(number) for number in range(1, 40)))
        after = {name for name in await samples(client) if not name[0].startswith("python_")}
        edges_named = {name for name in after - before if not {"edge-a", "edge-b", "edge-c"} & set(name)}
        assert {name for name in edges_named if name[1:] and "/metrics" not in name} == set()

    serve(scenario, make_config())


def test_policies_and_keys(make_config, tmp_path):
    from edgegen.serve.http.key_file import KeyFile, new_key

    text, key = new_key("prometheus")
    file = tmp_path / "keys.json"
    file.write_text(KeyFile(keys=(key,)).text())

    async def scenario(client, edges, gateway):
        assert (await client.get("/metrics")).status_code == 401
        seen = await samples(client, authorization=f"Bearer {text}")
        assert seen["edgegen_policy", "charge", "least-delay"] == 1
        assert (seen[("edgegen_api_keys",)], seen[("edgegen_api_keys_sound",)]) == (1, 1)
        assert not any("prometheus" in name for name in seen)
        file.write_text("{")
        gateway.keys._looked_at = -1e9
        seen = await samples(client, authorization=f"Bearer {text}")
        assert (seen[("edgegen_api_keys",)], seen[("edgegen_api_keys_sound",)]) == (1, 0)

    serve(scenario, make_config(policy="least-delay", keys=str(file)))
