# SPDX-License-Identifier: Apache-2.0
"""What clients of the OpenAI images API send, and what every answer has: an id, a line of log, one shape of errors."""

from __future__ import annotations

import json
import logging
import re

import pytest

from edgegen.serve.config import build_config
from edgegen.serve.http.errors import RequestError
from edgegen.serve.http.intake import parse_request
from edgegen.serve.image_request import ImageRequest, request_model

URL = "/v1/images/generations"
OPTIONAL = [name for name, field in ImageRequest.model_fields.items() if not field.is_required()]


def two_models(**fields):
    """A service with two models of different limits."""
    common = {"cycles_per_step_gcycles": 0.1, "default_steps": 5}
    models = {
        "tiny": {**common, "sizes": ["16x16", "32x32"], "max_steps": 20},
        "org/other": {**common, "sizes": ["64x64", "32x32"], "max_steps": 50},
    }
    edges = [
        {"name": name, "model": model, "capacity_gcycles_s": 4.0}
        for name, model in (("edge-a", "tiny"), ("edge-b", "org/other"))
    ]
    return build_config({"models": models, "edges": edges, **fields})


@pytest.fixture
def answered(in_virtual_time, make_config):
    """The answer to one request, and the jobs that it made."""

    def answered(method="POST", path=URL, config=None, **options):
        found = {}

        async def scenario(service):
            found["response"] = await service.client.request(method, path, **options)
            found["jobs"] = [job for edge in service.edges.values() for job in edge.jobs]

        in_virtual_time(scenario, config or make_config())
        return found["response"], found["jobs"]

    return answered


def check_shape(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith((".", "?"))
    return error


@pytest.mark.parametrize("field", OPTIONAL)
def test_null_means_the_default(field):
    default = parse_request(b'{"prompt": "a"}')
    assert parse_request(json.dumps({"prompt": "a", field: None}).encode()) == default


def test_null_for_everything_is_served(answered):
    response, (job,) = answered(json={"prompt": "a", **dict.fromkeys(OPTIONAL)})
    assert response.status_code == 200
    assert (job.steps, len(job.seeds), job.width) == (10, 1, 16)
    assert response.json()["edgegen"]["ignored"] == []


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"quality": "hd"}, []),
        ({"quality": "hd", "num_inference_steps": 3}, ["quality"]),
        ({"quality": "auto", "background": "auto", "moderation": "auto", "size": "auto"}, []),
        ({"style": "vivid", "output_compression": 80}, ["style", "output_compression"]),
        ({"complexity": "high", "safety_identifier": "x"}, ["complexity"]),
        ({"background": "transparent"}, ["background"]),
        ({"background": "opaque"}, []),
        ({"moderation": "low", "output_compression": 80}, ["moderation", "output_compression"]),
        ({"output_format": "png", "response_format": "b64_json", "stream": False, "partial_images": 0}, []),
        ({"n": 1.0, "seed": 2.0, "num_inference_steps": 3.0}, []),
    ],
)
def test_fields_of_the_openai_client_are_accepted(answered, fields, ignored):
    response, (job,) = answered(json={"prompt": "a", **fields})
    assert response.status_code == 200, response.text
    assert response.json()["edgegen"]["ignored"] == ignored
    assert (job.width, len(job.seeds)) == (16, 1)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"stream": 0}, "must be true or false"),
        ({"progress": "yes"}, "must be true or false"),
        ({"partial_images": 4}, "an integer from 0 to 3"),
        ({"partial_images": False}, "an integer from 0 to 3"),
        ({"output_format": "gif"}, "one of png, jpeg, webp"),
        ({"response_format": "URL"}, "one of b64_json, url"),
        ({"n": 11}, "an integer from 1 to 10"),
        ({"n": "1"}, "an integer from 1 to 10"),
        ({"n": 1.5}, "an integer from 1 to 10"),
        ({"size": ""}, "one of 16x16, auto"),
        ({"size": "auto "}, "one of 16x16, auto"),
        ({"quality": "ultra"}, "one of auto, low"),
        ({"output_compression": 101}, "an integer from 0 to 100"),
        ({"model": "gpt-image-1"}, "must be tiny"),
        ({"guidance_scale": "7"}, "a number from 0 to 50"),
        ({"negative_prompt": "x" * 301}, "a string of 0 to 300 characters"),
    ],
)
def test_what_can_not_be_honoured_is_refused_with_what_can(answered, fields, allowed):
    response, jobs = answered(json={"prompt": "a", **fields})
    error = check_shape(response, 400)
    ((name, value),) = fields.items()
    assert error["param"] == name
    assert f"The field '{name}' is {repr(value)[:20]}" in error["message"]
    assert allowed in error["message"]
    assert not jobs


@pytest.mark.parametrize(
    "prompt", ["", " \n\t", "\0\0", "\x7f\x1b", "\u200b", "\ufeff\u00ad", "\u3000\u2028", "\u2800"]
)
def test_prompts_that_show_nothing_are_refused(prompt):
    with pytest.raises(RequestError, match="at least one of them visible"):
        parse_request(json.dumps({"prompt": prompt}).encode())
    assert parse_request(json.dumps({"prompt": prompt + "é"}).encode()).prompt == prompt + "é"


def test_models_have_limits_of_their_own(answered):
    config = two_models()
    for fields, words in (
        ({"num_inference_steps": 21}, "1 to 20 for the model 'tiny'"),
        ({"size": "64x64"}, "the model 'tiny' makes 16x16, 32x32"),
        ({"size": "16x16", "model": "org/other"}, "the model 'org/other' makes 64x64, 32x32"),
        ({"num_inference_steps": 51, "model": "org/other"}, "1 to 50"),
    ):
        response, jobs = answered(json={"prompt": "a", **fields}, config=config)
        assert words in check_shape(response, 400)["message"]
        assert not jobs
    response, (job,) = answered(
        json={"prompt": "a", "num_inference_steps": 50, "model": "org/other", "size": "auto"}, config=config
    )
    assert (response.status_code, job.width) == (200, 64)


def test_one_model_is_described(answered):
    config = two_models()
    (one, other), _ = answered("GET", "/v1/models", config)[0].json()["data"], None
    assert answered("GET", "/v1/models/tiny", config)[0].json() == one
    for path in ("/v1/models/org/other", "/v1/models/org%2Fother"):  # as clients write it
        assert answered("GET", path, config)[0].json() == other
    error = check_shape(answered("GET", "/v1/models/tinny", config)[0], 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "Did you mean 'tiny'?" in error["message"]


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/models/tiny", "/v1/edges", "/openapi.json", "/docs"])
def test_head_is_get_without_the_body(answered, path):
    got, head = answered("GET", path)[0], answered("HEAD", path)[0]
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == str(len(got.content))


def test_head_of_other_routes_fails_as_get_does(answered):
    assert (answered("HEAD", "/nowhere")[0].status_code, answered("HEAD", URL)[0].status_code) == (404, 405)
    refused = answered("DELETE", "/healthz")[0]
    check_shape(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=json", 415),
        ("application/jsonp", 415),
        ("text/plain; application/json", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_bodies_must_say_that_they_are_json(answered, kind, status):
    headers = {} if kind is None else {"content-type": kind}
    response, jobs = answered(content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == status
    assert len(jobs) == (status == 200)
    if status == 415:
        assert "application/json" in check_shape(response, 415)["message"]


@pytest.mark.parametrize("path", [URL, "/v1/models", "/nowhere", "/v1/edges"])
def test_ids_of_requests_come_back(answered, path):
    for given in ("abc-123", "a" * 128, "trace/1:2=x@y"):
        assert answered("GET", path, headers={"x-request-id": given})[0].headers["x-request-id"] == given
    made = set()
    others: tuple[str | bytes | None, ...] = (None, "", "a" * 129, "a b", "{}", "é".encode("latin-1"), "<script>")
    for other in others:
        headers = {} if other is None else {"X-Request-Id": other}
        made.add(answered("GET", path, headers=headers)[0].headers["x-request-id"])
    assert len(made) == 7
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in made)


def test_every_request_has_one_line_in_the_log(answered, caplog):
    caplog.set_level(logging.INFO, "edgegen.requests")
    answered(json={"prompt": "a secret"}, headers={"x-request-id": "one"})
    answered(json={"prompt": ""}, headers={"x-request-id": "two"})
    answered("HEAD", "/healthz", headers={"x-request-id": "three"})
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "edgegen.requests"]
    told = [(line["request_id"], line["method"], line["path"], line["status"], line["edge"]) for line in lines]
    assert told == [
        ("one", "POST", URL, 200, "edge-a"),
        ("two", "POST", URL, 400, None),
        ("three", "HEAD", "/healthz", 200, None),
    ]
    assert all(line["time_s"] >= 0 and line["at"].endswith("+00:00") for line in lines)
    assert "secret" not in caplog.text


def test_failures_of_the_program_have_an_id_and_a_line(in_virtual_time, make_config, caplog):
    caplog.set_level(logging.INFO, "edgegen.requests")

    async def scenario(service):
        service.gateway.edges = None
        response = await service.client.get("/v1/edges", headers={"x-request-id": "bad"})
        assert check_shape(response, 500)["code"] == "internal_error"
        assert response.headers["x-request-id"] == "bad"

    in_virtual_time(scenario, make_config())
    assert json.loads(caplog.records[-1].getMessage())["status"] == 500


def test_the_general_shape_allows_what_some_service_may(make_config):
    config = make_config()
    narrow = request_model(config, config.cards())
    assert parse_request(b'{"prompt": "a", "n": 50, "size": "640x480"}').n == 50
    with pytest.raises(RequestError, match="1 to 10"):
        parse_request(b'{"prompt": "a", "n": 50}', narrow)
    assert narrow.model_fields.keys() == ImageRequest.model_fields.keys()
