"""Who may ask a service: keys that are missing, wrong, expired, revoked or used up, over HTTP and without Ray."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.serve.http.key_file import KEY, KeyFile, new_key, read_keys
from edgegen.serve.http.keys import LOOK_S, KeyRing, UnknownKeyError
from edgegen.serve.http.limits import PICTURES, REQUESTS, WORK, LimitError, Limits, in_words
from tests.serve.fake_edges import URL, check_error, held, serve

BODY = {"prompt": "a red circle", "num_inference_steps": 4}
KIND = "invalid_request_error"


@pytest.fixture
def key_file(tmp_path):
    """A file that keys are added to: ``key_file.add(name, **limits)`` returns the key."""

    class Keys:
        path = tmp_path / "keys.json"
        known = KeyFile()

        def add(self, name, **limits):
            text, key = new_key(name, **limits)
            self.known = self.known.with_key(key)
            self.write()
            return text

        def revoke(self, name):
            self.known = self.known.without(name)
            self.write()

        def write(self, text=None):
            before = self.path.stat().st_mtime_ns if self.path.exists() else 0
            self.path.write_text(self.known.text() if text is None else text)
            later = max(self.path.stat().st_mtime_ns, before + 1)  # clocks of file systems are coarse
            os.utime(self.path, ns=(later, later))

    keys = Keys()
    keys.write()
    return keys


def bearer(text):
    return {"authorization": f"Bearer {text}"}


def at_once(gateway):
    """Have a gateway look at its file with every request."""
    readings = itertools.count(10**9, 10)
    gateway.keys._clock = lambda: float(next(readings))


def test_a_key_is_random_and_only_its_hash_is_kept(key_file):
    text = key_file.add("studio")
    other = key_file.add("lab")
    assert KEY.fullmatch(text)
    assert text != other
    (studio, _) = read_keys(key_file.path).keys
    assert studio.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert text.partition("-")[2].partition("-")[2] not in key_file.path.read_text()
    with pytest.raises(InputError, match="name 'studio' already"):
        key_file.add("studio")


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


def test_requests_per_minute(make_config, key_file):
    text = key_file.add("studio", requests_per_minute=3)

    async def scenario(client, edges, gateway):
        gateway.keys.limits._clock = lambda: now[0]
        left = []
        for _ in range(3):
            answer = await client.post(URL, json=BODY, headers=bearer(text))
            assert (answer.status_code, answer.headers["x-ratelimit-limit-requests"]) == (200, "3")
            left.append(
                (answer.headers["x-ratelimit-remaining-requests"], answer.headers["x-ratelimit-reset-requests"])
            )
        assert left == [("2", "20s"), ("1", "40s"), ("0", "1m0s")]
        refused = await client.post(URL, json=BODY, headers=bearer(text))
        check_error(refused, 429, "rate_limit_error", "3 requests per minute", "20s")
        assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("rate_limit_exceeded", "20")
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await client.get("/v1/models", headers=bearer(text))).status_code == 200  # reading costs nothing
        now[0] = 20.0
        assert (await client.post(URL, json=BODY, headers=bearer(text))).status_code == 200

    now = [0.0]
    serve(scenario, make_config(keys=str(key_file.path)))


def test_pictures_and_work_per_minute(make_config, key_file):
    pictures, work = key_file.add("pictures", pictures_per_minute=5), key_file.add("work", work_gcycles_per_minute=1.0)

    async def scenario(client, edges, gateway):
        gateway.keys.limits._clock = lambda: 0.0
        first = await client.post(URL, json={**BODY, "n": 4}, headers=bearer(pictures))
        assert first.status_code == 200
        refused = await client.post(URL, json={**BODY, "n": 2}, headers=bearer(pictures))
        check_error(refused, 429, "rate_limit_error", "5 pictures per minute", "12s")
        assert refused.headers["x-ratelimit-remaining-images"] == "1"
        assert (await client.post(URL, json=BODY, headers=bearer(pictures))).status_code == 200
        # 4 steps of 0.1 Gcycle: two fit, the third lacks 0.2 of 1 Gcycle.
        statuses = [(await client.post(URL, json=BODY, headers=bearer(work))).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        check_error(await client.post(URL, json=BODY, headers=bearer(work)), 429, "rate_limit_error", "Gcycle", "12s")

    serve(scenario, make_config(keys=str(key_file.path)))


def test_buckets_fill_by_and_by_and_gateways_divide_them():
    now = [0.0]
    _, key = new_key("studio", requests_per_minute=60, pictures_per_minute=30, work_gcycles_per_minute=10.0)
    half = Limits(2, lambda: now[0])
    for _ in range(30):
        half.take(key, requests=1)
    with pytest.raises(LimitError) as refused:
        half.take(key, requests=1)
    assert refused.value.headers["Retry-After"] == "2"  # a request every 2 s is half of 60 in a minute
    now[0] += 1.9
    with pytest.raises(LimitError):
        half.take(key, requests=1)
    now[0] += 0.2
    half.take(key, requests=1)
    # More than the bucket ever holds is taken from a full one, and paid for afterwards.
    half.take(key, images=40)
    with pytest.raises(LimitError) as refused:
        half.take(key, images=1)
    assert refused.value.headers["Retry-After"] == str((40 - 15 + 1) * 4)
    # From all or from none: there are pictures and no work.
    whole = Limits(1, lambda: now[0])
    whole.take(key, work=10)
    with pytest.raises(LimitError):
        whole.take(key, images=1, work=1)
    assert whole.headers(key)[f"x-ratelimit-remaining-{PICTURES}"] == "30"
    assert {REQUESTS, PICTURES, WORK} == {"requests", "images", "work"}
    # In an hour no more than an hour's worth and one bucket, however they come.
    taken = 0
    for _ in range(3600 * 4):
        now[0] += 0.25
        try:
            half.take(key, requests=1)
        except LimitError:
            continue
        taken += 1
    assert 30 * 60 <= taken <= 30 * 60 + 30
    assert [in_words(time_s) for time_s in (0.02, 1.5, 59.99, 360, 61.2)] == ["20ms", "1.5s", "60s", "6m0s", "1m2s"]
    assert in_words(0.4 * 3 * 10) == "12s"


def test_a_changed_limit_keeps_what_is_left():
    _, key = new_key("studio", requests_per_minute=60)
    limits = Limits(1, lambda: 0.0)
    for _ in range(30):
        limits.take(key, requests=1)
    assert limits.headers(key.model_copy(update={"requests_per_minute": 10}))["x-ratelimit-remaining-requests"] == "5"
    assert limits.headers(key.model_copy(update={"requests_per_minute": None})) == {}
    limits.keep([])
    assert limits.headers(key)["x-ratelimit-remaining-requests"] == "60"


def test_revoking_works_without_a_restart_and_a_broken_file_changes_nothing(make_config, key_file, caplog):
    studio, lab = key_file.add("studio"), key_file.add("lab")

    async def scenario(client, edges, gateway):
        async def status(text):
            return (await client.post(URL, json=BODY, headers=bearer(text))).status_code

        at_once(gateway)
        assert [await status(studio), await status(lab)] == [200, 200]
        key_file.revoke("lab")
        assert [await status(studio), await status(lab)] == [200, 401]
        for broken in ("{", '{"format": "edgegen-keys-1", "keys": [{"name": "x"}]}', '{"format": "other"}'):
            key_file.write(broken)
            assert [await status(studio), await status(lab)] == [200, 401]
            health = (await client.get("/healthz", headers=bearer(studio))).json()
            assert health["status"] == "degraded"
            assert str(key_file.path) in health["keys"]["error"]
        key_file.path.unlink()
        assert [await status(studio), await status(lab)] == [200, 401]
        late = key_file.add("late")
        assert [await status(studio), await status(late)] == [200, 200]
        assert (await client.get("/healthz", headers=bearer(studio))).json()["status"] == "ok"

    serve(scenario, make_config(keys=str(key_file.path)))
    assert caplog.text.count("the API keys from before still count") == 4


def test_the_file_is_looked_at_once_a_second(key_file):
    text, now = key_file.add("studio"), [0.0]
    ring = KeyRing(key_file.path, clock=lambda: now[0])
    key_file.revoke("studio")
    now[0] = LOOK_S - 0.01
    assert ring.find(f"Bearer {text}").name == "studio"
    now[0] = LOOK_S
    with pytest.raises(UnknownKeyError):
        ring.find(f"Bearer {text}")


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        (
            '{"format": "edgegen-keys-1", "keys": [{"name": "a b", "id": "00000000", "sha256": "SECRET"}]}',
            "keys.0.name",
        ),
        ('{"format": "edgegen-keys-1", "keys": [{"name": "a", "id": "00000000", "sha256": "SECRET"}]}', "sha256"),
        ('{"format": "edgegen-keys-1", "keys": [], "more": "SECRET"}', "more"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_without_its_content(make_config, tmp_path, text, words):
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        KeyRing(path)
    assert words in str(refused.value)
    assert "SECRET" not in str(refused.value)
    with pytest.raises(InputError, match="no such file"):
        KeyRing(tmp_path / "none.json")


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


def test_commands_make_list_and_revoke_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, ["keys", *arguments])
        return result.exit_code, result.stdout, result.stderr

    code, shown, notes = run("add", "studio", "--requests-per-minute", "60", "--model", "tiny", "--days", "1")
    assert code == 0, notes
    assert KEY.fullmatch(shown.strip())
    assert "can not be shown again" in notes
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    ring = KeyRing("keys.json")
    assert ring.find(f"Bearer {shown.strip()}").models == ("tiny",)
    (tmp_path / "keys.json").chmod(0o640)  # what its owner has allowed stays
    assert run("add", "lab", "--weight", "2")[0] == 0
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o640
    code, shown, _ = run("list", "--json", "list.json")
    assert code == 0
    assert "studio" in shown
    listed = json.loads((tmp_path / "list.json").read_text())
    assert [key["name"] for key in listed["keys"]] == ["studio", "lab"]
    assert "sha256" not in (tmp_path / "list.json").read_text()
    assert run("revoke", "studio")[0] == 0
    assert [key.name for key in read_keys("keys.json").keys] == ["lab"]
    for arguments, words in (
        (("revoke", "labb"), "Did you mean 'lab'"),
        (("add", "lab"), "already"),
        (("add", "a b"), "name"),
        (("add", "x", "--days", "0"), "--days"),
        (("add", "x", "--weight", "-1"), "weight"),
        (("add", "x", "--requests-per-minute", "0"), "requests_per_minute"),
        (("add", "x", "--file", "/dev/null"), "no file"),
        (("list", "--file", "none.json"), "no key file"),
    ):
        code, _, error = run(*arguments)
        assert (code, error.count("\n")) == (2, 1), error
        assert words in error
