# SPDX-License-Identifier: Apache-2.0
"""The `openai` package against a service with an embedded model: what its documentation shows for images."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
import urllib.error
import urllib.request

import httpx
import numpy as np
import openai
import pytest
from openai.types import ImagesResponse
from PIL import Image

from edgegen.serve.config import build_config
from tests.serve.loopback_service import loopback

MODEL, ALIAS = "shapes-64", "gpt-image-1.5"
PROMPT = "a large red circle in the center"


@pytest.fixture(scope="module")
def service():
    """Address of a service with one edge."""
    model = {"cycles_per_step_gcycles": 0.016, "max_steps": 50}
    edge = {"name": "edge-a", "model": MODEL, "slowdown": 1.0}
    fields = {"models": {MODEL: model}, "edges": [edge], "model_aliases": {ALIAS: MODEL}}
    with loopback(build_config(fields)) as url:
        yield url


@pytest.fixture(scope="module")
def client(service):
    with openai.OpenAI(base_url=f"{service}/v1", api_key="any", max_retries=0) as client:
        yield client


def picture_of(content, output_format="PNG"):
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == output_format
        assert picture.size == (64, 64)
        return np.asarray(picture.convert("RGB"), dtype=float)


def reddish(levels):
    """Whether the middle of a picture is red."""
    red, green, blue = levels[24:40, 24:40].mean(axis=(0, 1))
    return red > green + 60 and red > blue + 60


def test_generate(client):
    """The first example of the guide."""
    result = client.images.generate(model=ALIAS, prompt=PROMPT)
    assert reddish(picture_of(base64.b64decode(result.data[0].b64_json)))
    assert (result.size, result.output_format, result.background) == ("64x64", "png", "opaque")
    assert result.usage.total_tokens == result.usage.input_tokens + result.usage.output_tokens == 7 + 16


def test_generate_with_every_parameter(client):
    common = {"model": ALIAS, "prompt": PROMPT, "n": 2, "size": "auto", "quality": "high", "user": "me"}
    result = client.images.generate(
        **common,
        background="opaque",
        complexity="low",
        moderation="low",
        output_compression=90,
        output_format="jpeg",
        partial_images=0,
        response_format="b64_json",
        safety_identifier="someone",
        stream=False,
        style="vivid",
        extra_body={"seed": 7, "negative_prompt": "blue", "guidance_scale": 2.0, "deadline_s": 100, "priority": "high"},
        extra_headers={"Idempotency-Key": "every"},
        timeout=60,
    )
    whole = result.model_dump()
    ImagesResponse.model_validate(whole, strict=True)
    assert len(whole["data"]) == 2
    pictures = [picture_of(base64.b64decode(one["b64_json"]), "JPEG") for one in whole["data"]]
    assert all(map(reddish, pictures))
    assert np.abs(pictures[0] - pictures[1]).max() > 1
    part = whole["edgegen"]
    assert (part["seed"], part["ignored"]) == (7, ["style", "moderation", "complexity"])
    assert part["least_steps"] <= part["steps"] <= part["most_steps"]
    for quality in ("low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"):
        assert client.images.generate(**{**common, "n": 1, "quality": quality}).quality


def test_stream_with_partial_images(client):
    """As the guide shows it: partial pictures first, then the finished one, which is that of a plain request."""
    fixed = {"prompt": PROMPT, "extra_body": {"seed": 3, "num_inference_steps": 20}}
    stream = client.images.generate(model=ALIAS, stream=True, partial_images=2, **fixed)
    partial = []
    for event in stream:
        if event.type == "image_generation.partial_image":
            partial.append((event.partial_image_index, event.edgegen["step"]))
            image = picture_of(base64.b64decode(event.b64_json))
        elif event.type == "image_generation.completed":
            finished = picture_of(base64.b64decode(event.b64_json))
            usage = event.usage
    assert partial == [(0, 7), (1, 13)]
    assert reddish(image)
    assert reddish(finished)
    assert usage.output_tokens == 16
    plain = client.images.generate(model=MODEL, **fixed)
    assert (picture_of(base64.b64decode(plain.data[0].b64_json)) == finished).all()


async def _streamed(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        stream = await client.images.generate(prompt=PROMPT, stream=True, partial_images=1)
        return [event.type async for event in stream]


def test_stream_without_blocking(service):
    names = asyncio.run(_streamed(service))
    assert names == ["image_generation.partial_image", "image_generation.completed"]


def pictures_made(url):
    """Pictures that the edge has made since the start, once it has nothing to do."""
    while True:
        time.sleep(1.0)  # its reports come twice a second
        (edge,) = httpx.get(f"{url}/v1/edges").json()["data"]
        if not edge["in_work"]:
            return edge["pictures"]


def test_client_that_leaves_a_stream_stops_its_work(service, client):
    before = pictures_made(service)
    with client.images.generate(
        prompt=PROMPT, stream=True, partial_images=3, n=10, extra_body={"num_inference_steps": 50}
    ) as stream:
        assert next(iter(stream)).partial_image_index == 0
    client.images.generate(prompt=PROMPT)
    assert pictures_made(service) == before + 1  # and not 11


def test_addresses(service, client):
    result = client.images.generate(prompt=PROMPT, n=2, response_format="url", output_format="webp")
    for one in result.data:
        assert one.b64_json is None
        assert one.url.startswith(f"{service}/v1/pictures/")
        with urllib.request.urlopen(one.url) as answer:
            assert answer.headers["Content-Type"] == "image/webp"
            assert reddish(picture_of(answer.read(), "WEBP"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(re.sub("signature=.", "signature=", result.data[0].url))
    assert refused.value.code == 403


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL, ALIAS]
    for name in (MODEL, ALIAS):
        model = client.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "edgegen")
    with pytest.raises(openai.NotFoundError, match=r"There is no model 'shapes-65'.*Did you mean 'shapes-64'"):
        client.models.retrieve("shapes-65")


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"model": "gpt-image-2"}, "model", "model_not_found", "Did you mean 'gpt-image-1.5'"),
        ({"size": "1024x1024"}, "size", "invalid_size", "one of 64x64, auto"),
        ({"n": 11}, "n", "invalid_value", "from 1 to 10"),
        ({"output_format": "gif"}, "output_format", "invalid_value", "png, jpeg, webp"),
        ({"prompt": " "}, "prompt", "invalid_value", "visible"),
        ({"extra_body": {"sead": 1}}, "sead", "unknown_field", "Did you mean 'seed'"),
        ({"stream": True, "response_format": "url"}, "response_format", "invalid_value", "b64_json"),
    ],
)
def test_errors(client, fields, param, code, words):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**{"prompt": PROMPT, **fields})
    error = refused.value
    assert (error.status_code, error.param, error.code, error.type) == (400, param, code, "invalid_request_error")
    assert words in error.message
    assert error.request_id


def test_edits_and_variations_are_refused_however_large_their_pictures_are(client):
    large = ("image.png", io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(3_000_000)), "image/png")
    for ask in (
        lambda: client.images.edit(image=large, prompt=PROMPT),
        lambda: client.images.create_variation(image=large),
    ):
        with pytest.raises(openai.BadRequestError, match="from a prompt alone"):
            ask()


def test_headers(client):
    answer = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers={"X-Request-Id": "mine"})
    assert answer.request_id == "mine"
    assert int(answer.headers["openai-processing-ms"]) > 0
    assert answer.parse().data[0].b64_json
