# SPDX-License-Identifier: Apache-2.0
"""The schema against the service: what it allows is served, what it forbids is refused, and every answer is in it."""

from __future__ import annotations

import base64
from collections import Counter

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from edgegen.algorithms.rules.offloading import make_rule
from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import EdgeReport, Pictures
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.http.web import create_app
from tests.serve.plain_edge import PlainEdge

EXAMPLES = 25
"""Of each operation and each kind of data."""
CAPACITY = 1e4
"""So that every deadline that the schema allows can be kept, Gcycle/s."""
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A pixel."""
MODEL = {"cycles_per_step_gcycles": 0.1, "default_steps": 5}
ONE = {"tiny": {**MODEL, "sizes": ["16x16"], "max_steps": 50}}
TWO = {
    "tiny": {**MODEL, "sizes": ["16x16", "32x32"], "max_steps": 20},
    "org/other": {**MODEL, "sizes": ["64x64", "32x32"], "max_steps": 50},
}


class Edge(PlainEdge):
    """Answers at once."""

    def __init__(self, name):
        self.name = name

    async def generate(self, job):
        return Pictures(tuple(PNG for _ in job.seeds), 0.0, 0.1)

    async def report(self):
        return EdgeReport(self.name, 1, (), 0, 0.0, CAPACITY, 0.1, 0, None)

    async def keep(self, wanted, scores=None):
        pass

    async def choose_steps_by(self, decide_steps):
        pass


@pytest.mark.parametrize("models", [ONE, TWO], ids=["one model", "two models"])
def test_schema_and_service_agree(models):
    edges = [{"name": f"edge-{n}", "model": model, "capacity_gcycles_s": CAPACITY} for n, model in enumerate(models)]
    # Nothing reports while the test runs: the application lives on in a thread of schemathesis.
    config = build_config({"models": models, "edges": edges, "report_period_s": 60, "max_queue": 10_000})
    gateway = Gateway(config, make_rule(config.policy), {edge["name"]: Edge(edge["name"]) for edge in edges})
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(gateway))
    schema.config.seed = 1
    schema.config.generation.update(max_examples=EXAMPLES, deterministic=True)
    found, answers = [], Counter[tuple[str, str, int]]()
    finite = schema.exclude(path="/v1/fleet/events")  # that goes on for minutes; tests/serve/console reads it
    for event in from_schema(finite).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(str(event.value if isinstance(event, events.NonFatalError) else event.exception))
        if isinstance(event, events.ScenarioFinished):
            for case, interaction in event.recorder.interactions.items():
                asked = event.recorder.cases[case].value
                if interaction.response is not None:
                    answers[asked.method, asked.path, interaction.response.status_code] += 1
            for case, checks in event.recorder.checks.items():
                asked = event.recorder.cases[case].value
                found += [
                    f"{asked.method} {asked.path} {asked.body!r}: {check.failure_info.failure}"
                    for check in checks
                    if check.failure_info is not None
                ]
    assert not found, "\n".join(found)
    generations = ("POST", "/v1/images/generations")
    assert answers[*generations, 200] >= EXAMPLES // 2
    assert answers[*generations, 400] >= EXAMPLES // 2
    for status in (200, 400):
        assert answers["POST", "/v1/schedule", status]
    assert answers["DELETE", "/v1/schedule/{lease}", 404]
    assert answers["GET", "/v1/models/{model}", 404]
    assert answers["GET", "/v1/images/{request_id}", 404]
    assert answers["GET", "/v1/pictures/{name}/{file}", 403]
    for path in ("/v1/models", "/v1/edges", "/v1/fleet", "/healthz", "/readyz"):
        assert answers["GET", path, 200]


def test_schema_says_what_is_enforced(make_config):
    config = make_config(max_pictures=7, max_prompt_chars=123)
    body = Gateway(config, make_rule("local"), {}).request_schema()
    fields = {
        name: next(option for option in schema.get("anyOf", [schema]) if option["type"] != "null")
        for name, schema in body["properties"].items()
    }
    assert body["required"] == ["prompt"]
    assert body["additionalProperties"] is False
    assert (fields["prompt"]["minLength"], fields["prompt"]["maxLength"]) == (1, 123)
    assert (fields["n"]["minimum"], fields["n"]["maximum"]) == (1, 7)
    assert (fields["num_inference_steps"]["minimum"], fields["num_inference_steps"]["maximum"]) == (1, 50)
    assert fields["size"]["enum"] == ["16x16", "auto"]
    assert fields["edge"]["enum"] == ["edge-a", "edge-b", "edge-c"]
    nullable = {name for name, schema in body["properties"].items() if {"type": "null"} in schema.get("anyOf", [])}
    assert nullable == set(fields) - {"prompt"}
