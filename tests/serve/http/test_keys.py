# SPDX-License-Identifier: Apache-2.0
"""Who may ask a service: keys that are missing, wrong or expired, over HTTP and without Ray."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from edgegen.serve.http.keys import KeyRing, UnknownKeyError
from tests.serve.fake_edges import URL, check_error, held, serve
from tests.serve.http.keyed import BODY, KIND, Keys, bearer


@pytest.fixture
def key_file(tmp_path):
    return Keys(tmp_path / "keys.json")


def test_requests_need_a_key_that_counts(make_config, key_file, caplog, capsys):
    good = key_file.add("studio")
    old = key_file.add("old", expires=datetime.now(UTC) - timedelta(seconds=1))
    caplog.set_level(logging.DEBUG)

    async def scenario(client, edges, gateway):
        missing = await client.post(URL, json=BODY)
        check_error(missing, 401, KIND, "no API key", "Bearer")
        assert (missing.json()["error"]["code"], missing.headers["www-authenticate"]) == ("missing_api_key", "Bearer")
        almost = good[:-1] + ("A" if good[-1] != "A" else "B")
        wrong = (almost, "sk-anything", "eg-00000000-" + "a" * 43, "x" * 5000, good + " ", f"{good} {good}")
        for text in wrong[:4]:
            answer = await client.post(URL, json=BODY, headers=bearer(text))
            check_error(answer, 401, KIND, "API key")
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert text not in answer.text
        check_error(await client.post(URL, json=BODY, headers=bearer(wrong[5])), 401, KIND)
        check_error(await client.post(URL, json=BODY, headers={"authorization": f"Basic {good}"}), 401, KIND)
        expired = await client.post(URL, json=BODY, headers=bearer(old))
        check_error(expired, 401, KIND, "expired")
        assert expired.json()["error"]["code"] == "expired_api_key"
        assert not any(edge.jobs for edge in edges.values())
        for headers in (bearer(good), {"authorization": f"bearer  {good}"}, bearer(wrong[4])):
            assert (await client.post(URL, json=BODY, headers=headers)).status_code == 200

    serve(scenario, make_config(keys=str(key_file.path)))
    told = caplog.text + "".join(capsys.readouterr())
    assert good not in told
    assert good[12:] not in told


def test_what_is_open_and_what_it_tells(make_config, key_file):
    good = key_file.add("studio")

    async def scenario(client, edges, gateway):
        for path in ("/v1/models", "/v1/edges", "/v1/models/tiny", "/v1/images/abc", "/docs", "/metrics", "/nowhere"):
            assert (await client.get(path)).status_code == 401, path
            assert (await client.head(path)).status_code == 401, path
        assert (await client.get("/v1/models", headers=bearer(good))).status_code == 200
        assert (await client.post("/healthz")).status_code == 401
        health = await client.get("/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "stopping": False})
        assert (await client.get("/healthz", headers=bearer("wrong"))).json() == health.json()
        whole = (await client.get("/healthz", headers=bearer(good))).json()
        assert whole["keys"] == {"count": 1, "error": None}
        assert set(whole["edges"]) == {"edge-a", "edge-b", "edge-c"}
        schema = (await client.get("/openapi.json")).json()
        assert schema["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
        post = schema["paths"][URL]["post"]
        assert post["security"] == [{"apiKey": []}]
        assert {"401", "403", "429"} <= set(post["responses"])
        assert "security" not in schema["paths"]["/healthz"]["get"]

    serve(scenario, make_config(keys=str(key_file.path)))


def test_a_service_without_keys_is_open(make_config):
    async def scenario(client, edges, gateway):
        assert (await client.post(URL, json=BODY)).status_code == 200
        answer = await client.post(URL, json=BODY, headers=bearer("any"))
        assert answer.status_code == 200
        assert not any(name.startswith("x-ratelimit") for name in answer.headers)
        assert "securitySchemes" not in (await client.get("/openapi.json")).json()["components"]

    serve(scenario, make_config())


def test_a_key_may_be_for_certain_models(make_config, key_file):
    limited, free = key_file.add("limited", models=("other",)), key_file.add("free", models=("tiny", "other"))

    async def scenario(client, edges, gateway):
        refused = await client.post(URL, json=BODY, headers=bearer(limited))
        check_error(refused, 403, KIND, "'tiny'", "other", param="model")
        assert refused.json()["error"]["code"] == "model_not_allowed"
        assert (await client.post(URL, json=BODY, headers=bearer(free))).status_code == 200

    serve(scenario, make_config(keys=str(key_file.path)))


def two_models(make_config, key_file):
    """A service where one edge holds ``tiny``, one ``other``, and one both; ``painter`` is another name of ``tiny``."""
    size = {"cycles_per_step_gcycles": 0.5, "max_steps": 50, "sizes": ["64x64"], "size_gb": 1, "load_s": 1}
    held = {"one": ["tiny"], "two": ["other"], "both": ["tiny", "other"]}
    return make_config(
        keys=str(key_file.path),
        models={"tiny": size, "other": size},
        model_aliases={"painter": "tiny"},
        edges=[{"name": name, "models": models, "capacity_gcycles_s": 2.0} for name, models in held.items()],
    )


def test_a_key_sees_the_models_and_edges_that_it_may_use(make_config, key_file):
    """By whatever name the key has its models; the others are not told, and asking for one says why."""
    limited, free = key_file.add("limited", models=("painter",)), key_file.add("free")

    async def seen(client, key):
        models = (await client.get("/v1/models", headers=bearer(key))).json()["data"]
        edges = (await client.get("/v1/edges", headers=bearer(key))).json()["data"]
        named = {edge["name"]: (edge["models"], edge["resident"]) for edge in edges}
        return [model["id"] for model in models], named

    async def scenario(client, edges, gateway):
        models, named = await seen(client, limited)
        assert models == ["tiny", "painter"]
        assert named == {"one": (["tiny"], ["tiny"]), "both": (["tiny"], ["tiny"])}
        models, named = await seen(client, free)
        assert models == ["tiny", "other", "painter"]
        assert list(named) == ["one", "two", "both"]
        assert named["both"][0] == ["tiny", "other"]
        for name in ("tiny", "painter"):
            answer = await client.get(f"/v1/models/{name}", headers=bearer(limited))
            assert (answer.status_code, answer.json()["id"]) == (200, name)
            body = {**BODY, "model": name}
            assert (await client.post(URL, json=body, headers=bearer(limited))).status_code == 200
        refused = await client.get("/v1/models/other", headers=bearer(limited))
        check_error(refused, 403, KIND, "'other'", "tiny", param="model")
        unknown = await client.get("/v1/models/ohter", headers=bearer(limited))
        check_error(unknown, 404, KIND, "'ohter'", "tiny", param="model")
        assert "'other'" not in unknown.text
        schema = (await client.get("/openapi.json")).json()
        assert "403" in schema["paths"]["/v1/models/{model}"]["get"]["responses"]

    serve(scenario, two_models(make_config, key_file))


def test_an_unknown_id_is_compared_like_a_known_one(key_file, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    text = key_file.add("studio")
    ring = KeyRing(key_file.path)
    assert ring.find(f"Bearer {text}").name == "studio"
    for wrong in ("eg-ffffffff-" + "a" * 43, text[:12] + "a" * 43):
        with pytest.raises(UnknownKeyError):
            ring.find(f"Bearer {wrong}")
    assert compared == [(32, 32)] * 3


def test_the_name_of_a_key_is_whose_turn_it_is(make_config, key_file):
    """Two keys flood a full service; ``big`` weighs three times as much as ``small``, whatever users they name."""
    big, small = key_file.add("big", weight=3), key_file.add("small")

    async def scenario(client, edges, gateway):
        under_way = await held(client, edges.values(), 0)
        served = []

        async def ask(name, text, user):
            await client.post(URL, json={**BODY, "edge": "edge-a", "user": user}, headers=bearer(text))
            served.append(name)

        for number in range(12):
            for name, text in (("big", big), ("small", small)):
                under_way.append(asyncio.create_task(ask(name, text, f"{name}-{number}")))
        await asyncio.sleep(0.2)
        tenants = gateway._dispatcher.admission._queue._tenants
        assert {name: tenant.weight for name, tenant in tenants.items()} == {"big": 3, "small": 1}
        for edge in edges.values():
            edge.hold.set()
        await asyncio.gather(*under_way)
        queued = served[-19:]  # the first few were on the edges before anybody had to wait
        assert queued[:8].count("big") >= 5
        assert served.count("big") == served.count("small") == 12

    serve(scenario, make_config(keys=str(key_file.path), max_queue=0, ahead_s=0.01))


def test_what_one_has_named_another_can_not_fetch(make_config, key_file):
    one, other = key_file.add("one"), key_file.add("other")

    async def scenario(client, edges, gateway):
        under_way = await held(client, edges.values(), 0)
        named = {**bearer(one), "idempotency-key": "mine"}
        under_way.append(asyncio.create_task(client.post(URL, json=BODY, headers=named)))
        await asyncio.sleep(0.1)
        assert (await client.get("/v1/images/mine", headers=bearer(one))).status_code == 202
        assert (await client.get("/v1/images/mine", headers=bearer(other))).status_code == 404
        for edge in edges.values():
            edge.hold.set()
        await asyncio.gather(*under_way)

    serve(scenario, make_config(keys=str(key_file.path)))
