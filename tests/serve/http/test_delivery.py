# SPDX-License-Identifier: Apache-2.0
"""What a client gets, and how: formats, addresses, grades of quality, names of models, and what is not served."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from edgegen.envs.core.errors import InputError
from edgegen.serve.http.errors import FailedError, ForbiddenError, GoneError
from edgegen.serve.http.links import Link, Links, url_key
from edgegen.serve.http.pictures import recoded
from edgegen.serve.model_config import ModelConfig, card_of
from tests.serve.emulated_service import MODEL, emulated_config, serve_emulated
from tests.serve.fake_edges import URL, check_error

STEPS = {"low": (4, 10), "medium": (10, 20), "high": (20, 40), "xhigh": (40, 50), "max": (50, 50)}
"""Grades of a model with at least 4, usually 20 and at most 50 steps, by hand."""


def picture_of(content):
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return picture


@pytest.fixture(scope="module")
def photo():
    """A picture that compression can make smaller."""
    written = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGBA").save(written, format="PNG")
    return written.getvalue()


def test_pictures_come_in_the_format_that_is_asked_for(photo):
    assert recoded(photo, "png", 0) is photo
    for output_format in ("jpeg", "webp"):
        small, good = (recoded(photo, output_format, compression) for compression in (0, 100))
        assert len(small) < len(good) / 2
        for content in (small, good):
            picture = picture_of(content)
            assert (picture.format, picture.size, picture.mode) == (output_format.upper(), (64, 48), "RGB")
    with pytest.raises(FailedError, match="no picture"):
        recoded(b"nothing", "jpeg", 90)


def test_answers_have_pictures_in_the_format_and_its_size_in_tokens():
    async def scenario(edges, client):
        for output_format in ("png", "jpeg", "webp"):
            body = {"prompt": "a red circle, left", "output_format": output_format, "output_compression": 50, "n": 2}
            answer = (await client.post(URL, json=body)).json()
            pictures = [picture_of(base64.b64decode(one["b64_json"])) for one in answer["data"]]
            assert [picture.format for picture in pictures] == 2 * [output_format.upper()]
            told = (answer["output_format"], answer["size"], answer["background"], answer["quality"])
            assert told == (output_format, "64x64", "opaque", "medium")
            assert answer["edgegen"]["ignored"] == (["output_compression"] if output_format == "png" else [])
            # a, red, circle, a comma, left; two pictures of 4 × 4 patches
            assert answer["usage"] == {
                "input_tokens": 5,
                "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
                "output_tokens": 32,
                "output_tokens_details": {"image_tokens": 32, "text_tokens": 0},
                "total_tokens": 37,
            }

    serve_emulated(scenario, emulated_config())


def test_addresses_are_answered_by_any_gateway_while_pictures_are_kept():
    async def scenario(edges, client, other):
        body = {"prompt": "x", "n": 2, "response_format": "url", "output_format": "webp", "seed": 3}
        answer = (await client.post(URL, json=body, headers={"x-request-id": "me"})).json()
        assert [list(one) for one in answer["data"]] == [["url"], ["url"]]
        found = []
        for number, one in enumerate(answer["data"]):
            assert re.fullmatch(
                rf"http://test/v1/pictures/[0-9a-f]+/{number}\.webp\?expires=\d+&signature=\w+", one["url"]
            )
            for asked in (client, other):
                got = await asked.get(one["url"])
                assert (got.status_code, got.headers["content-type"]) == (200, "image/webp")
                found.append(picture_of(got.content).getpixel((0, 0)))
        assert found[0] == found[1] != found[2] == found[3]
        again = (await other.get("/v1/images/me")).json()
        paths = [[one["url"].partition("?")[0] for one in it["data"]] for it in (answer, again)]
        assert paths[0] == paths[1]
        url = answer["data"][0]["url"]
        for changed in (
            *(
                url.replace("/0.webp", "/1.webp"),
                url.replace("/0.webp", "/0.png"),
                url.replace("expires=", "expires=9"),
            ),
            *(
                url[:-1],
                url.partition("?")[0],
                url.replace("/0.webp", "/0.svg"),
                url.replace("signature=", "signature=ü"),
            ),
        ):
            check_error(await other.get(changed), 403, "invalid_request_error", "not signed")

    serve_emulated(scenario, emulated_config(), gateways=2)


def test_addresses_of_pictures_that_are_gone_say_so():
    async def scenario(edges, client):
        body = {"prompt": "x", "response_format": "url"}
        url = (await client.post(URL, json=body)).json()["data"][0]["url"]
        check_error(await client.get(url), 404, "invalid_request_error", "not kept any more")

    serve_emulated(scenario, emulated_config(keep_mb=0))


def test_addresses_are_good_until_they_expire():
    now = [1000.0]
    links = Links(b"key", 60, lambda: now[0])
    link = Link("abc", 0, "png")
    address = links.address("https://paint.example/api/", link)
    signature = address.partition("signature=")[2]
    assert address == f"https://paint.example/api/v1/pictures/abc/0.png?expires=1060&signature={signature}"
    assert links.check("abc", "0.png", "1060", signature) == link
    now[0] = 1060.5
    with pytest.raises(GoneError, match="good for 60 s"):
        links.check("abc", "0.png", "1060", signature)
    for parts in (("abd", "0.png", "1060"), ("abc", "00.png", "1060"), ("abc", "0.png", "2060"), ("abc", "0.png", "")):
        with pytest.raises(ForbiddenError):
            links.check(*parts, signature)
    with pytest.raises(ForbiddenError):
        Links(b"other", 60, lambda: 1000.0).check("abc", "0.png", "1060", signature)


def test_the_key_of_addresses_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PAINT_KEY", " sixteen letters. ")
    assert url_key(emulated_config(url_key_env="PAINT_KEY")) == b"sixteen letters."
    monkeypatch.setenv("PAINT_KEY", "short")
    with pytest.raises(InputError, match="PAINT_KEY, but the key there has 5 characters"):
        url_key(emulated_config(url_key_env="PAINT_KEY"))
    monkeypatch.delenv("PAINT_KEY")
    with pytest.raises(InputError, match="has no such"):
        url_key(emulated_config(url_key_env="PAINT_KEY"))
    assert url_key(emulated_config()) != url_key(emulated_config())


def test_grades_of_quality_are_ranges_of_steps():
    config = ModelConfig(cycles_per_step_gcycles=1, default_steps=20, least_steps=4)
    card = card_of("some/model", config)
    assert card.qualities == STEPS
    assert [card.quality_of(steps) for steps in (1, 10, 11, 20, 40, 41, 50)] == [
        *("low", "low", "medium", "medium", "high", "xhigh", "xhigh"),
    ]
    own = card_of("some/model", config.model_copy(update={"qualities": {"low": (1, 2)}}))
    assert own.qualities == {**STEPS, "low": (1, 2)}
    for steps in ((3, 2), (10, 51)):
        with pytest.raises(ValueError, match=r"qualities\.low is"):
            ModelConfig(cycles_per_step_gcycles=1, qualities={"low": steps})


def test_quality_leaves_the_steps_to_the_edge_within_its_range():
    async def scenario(edges, client):
        async def ask(**fields):
            answer = (await client.post(URL, json={"prompt": "x", **fields})).json()
            part = answer["edgegen"]
            return answer["quality"], part["least_steps"], part["steps"], part["most_steps"], part["ignored"]

        (model,) = (await client.get("/v1/models")).json()["data"]
        ranges = model["edgegen"]["qualities"]
        least, default = model["edgegen"]["least_steps"], model["edgegen"]["default_steps"]
        for quality, (fewest, most) in ranges.items():
            assert await ask(quality=quality) == (quality, fewest, most, most, [])
        assert await ask(quality="hd") == await ask(quality="high")
        assert await ask(quality="standard") == await ask(quality="medium")
        assert await ask() == await ask(quality="auto") == ("medium", least, default, default, [])
        assert await ask(quality="low", num_inference_steps=7) == ("low", 7, 7, 7, ["quality"])
        # As many as there is time for: about four fifths of the most, which are twice the fewest.
        served = (await client.post(URL, json={"prompt": "x", "quality": "high"})).json()["edgegen"]
        _, fewest, steps, most, _ = await ask(quality="high", deadline_s=0.8 * served["generation_s"])
        assert (fewest, most) == tuple(ranges["high"])
        assert fewest < steps < most

    serve_emulated(scenario, emulated_config())


def test_models_have_other_names():
    config = emulated_config((MODEL, "digits-64"), model_aliases={"gpt-image-1": "digits-64", "dall-e-3": MODEL})

    async def scenario(edges, client):
        listed = (await client.get("/v1/models")).json()["data"]
        named = [(model["id"], model["edgegen"]["alias_of"]) for model in listed]
        assert named == [(MODEL, None), ("digits-64", None), ("gpt-image-1", "digits-64"), ("dall-e-3", MODEL)]
        assert (await client.get("/v1/models/gpt-image-1")).json() == listed[2]
        for name, meant in (("gpt-image-1", "digits-64"), ("dall-e-3", MODEL), (None, MODEL)):
            answer = (await client.post(URL, json={"prompt": "x", "model": name})).json()
            assert answer["edgegen"]["model"] == meant
        wrong = await client.post(URL, json={"prompt": "x", "model": "gpt-image-2"})
        check_error(wrong, 400, "invalid_request_error", "gpt-image-1", "Did you mean", param="model")

    serve_emulated(scenario, config)


@pytest.mark.parametrize(
    ("aliases", "words"), [({MODEL: MODEL}, "a model of its own"), ({"other": "no-model"}, "only describes shapes-64")]
)
def test_other_names_must_mean_something_else(aliases, words):
    with pytest.raises(InputError, match=words):
        emulated_config(model_aliases=aliases)


@pytest.mark.parametrize("route", ["edits", "variations"])
def test_work_on_pictures_is_refused_whatever_is_sent(route):
    async def scenario(edges, client):
        path, kind = f"/v1/images/{route}", "invalid_request_error"
        files = {"image": ("a.png", b"\x89PNG" * 10**5, "image/png")}
        for sent in ({"files": files, "data": {"prompt": "x"}}, {"json": {"prompt": "x"}}, {"content": b""}):
            check_error(await client.post(path, **sent), 400, kind, path, "from a prompt alone", URL)

    serve_emulated(scenario, emulated_config())


def test_ready_is_who_can_be_sent_requests():
    async def scenario(edges, client):
        got = await client.get("/readyz")
        assert (got.status_code, got.json()) == (200, {"status": "ready"})
        took = int((await client.get("/v1/edges")).headers["openai-processing-ms"])
        assert 0 <= took < 60_000

    serve_emulated(scenario, emulated_config())
