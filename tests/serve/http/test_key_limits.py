# SPDX-License-Identifier: Apache-2.0
"""What a key may ask for in a minute, over HTTP and by hand."""

from __future__ import annotations

import pytest

from edgegen.serve.http.key_file import new_key
from edgegen.serve.http.limits import PICTURES, REQUESTS, WORK, LimitError, Limits, in_words
from tests.serve.fake_edges import URL, check_error, serve
from tests.serve.http.keyed import BODY, Keys, bearer


@pytest.fixture
def key_file(tmp_path):
    return Keys(tmp_path / "keys.json")


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
