# SPDX-License-Identifier: Apache-2.0
"""Traces of requests: who is whose child, what they say, where they go, and that they are off unless asked for."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from edgegen.envs.core.errors import InputError
from edgegen.serve.control.jobs import EdgeLostError, GenerationError, Pictures
from edgegen.serve.http.key_file import KeyFile, new_key
from edgegen.serve.telemetry.json_lines import JsonLines
from edgegen.serve.telemetry.tracing import make_provider, provider_of
from tests.serve.fake_edges import URL, held, serve
from tests.serve.otlp_receiver import receiving, spans_of

BODY = {"prompt": "a secret prompt", "num_inference_steps": 4, "seed": 7, "n": 2}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WRONG = ("", "00-zz-00-01", "x" * 300, f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01")
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def traced():
    """A provider, and what it has made: ``traced.spans()`` by name, in the order in which they ended."""

    class Traced:
        exporter = InMemorySpanExporter()
        provider = provider_of("here", {})

        def spans(self):
            return list(self.exporter.get_finished_spans())

        def one(self, name):
            (span,) = (span for span in self.spans() if span.name == name)
            return span

    made = Traced()
    made.provider.add_span_processor(SimpleSpanProcessor(made.exporter))
    return made


def parent_of(span):
    return None if span.parent is None else span.parent.span_id


def length_s(span):
    return (span.end_time - span.start_time) / 1e9


def test_a_request_is_one_trace(make_config, traced):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.generate = loading(edge.generate)
        answer = await client.post(URL, json=BODY, headers={**GIVEN, "x-request-id": "mine"})
        assert answer.status_code == 200

    def loading(generate):
        async def later(job):
            return Pictures((await generate(job)).png, 0.25, 0.5, steps=3, load_s=0.125)

        return later

    serve(scenario, make_config(), tracing=traced.provider)
    http, whole, admission = (traced.one(name) for name in (f"POST {URL}", "generate_content tiny", "admission"))
    decision, edge = traced.one("decision"), traced.one("edge edge-a")
    assert {f"{span.context.trace_id:032x}" for span in traced.spans()} == {TRACE}
    assert f"{parent_of(http):016x}" == PARENT
    assert parent_of(whole) == http.context.span_id
    assert {parent_of(span) for span in (admission, decision, edge)} == {whole.context.span_id}
    parts = [traced.one(name) for name in ("queue", "load", "generate")]
    assert {parent_of(span) for span in parts} == {edge.context.span_id}
    assert [length_s(span) for span in parts] == pytest.approx([0.25, 0.125, 0.5])
    assert parts[0].end_time == parts[1].start_time
    assert parts[1].end_time == parts[2].start_time
    assert parts[2].end_time == edge.end_time
    assert http.start_time <= whole.start_time <= decision.end_time <= edge.end_time <= whole.end_time <= http.end_time
    said = dict(whole.attributes)
    assert {name: said[name] for name in said if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "edgegen",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "image",
    }
    assert (said["edgegen.request.steps"], said["edgegen.steps"], said["edgegen.edge"]) == (4, 3, "edge-a")
    assert (said["edgegen.queue_s"], said["edgegen.load_s"], said["edgegen.in_time"]) == (0.25, 0.125, True)
    assert (http.attributes["http.route"], http.attributes["http.response.status_code"]) == (URL, 200)
    assert http.attributes["edgegen.request_id"] == "mine"
    assert http.resource.attributes["service.name"] == "edgegen"
    assert http.resource.attributes["service.instance.id"] == "here"
    assert "secret" not in "".join(span.to_json() for span in traced.spans())


def test_a_second_try_is_a_second_edge(make_config, traced):
    async def scenario(client, edges, gateway):
        edges["edge-a"].failure = EdgeLostError("gone")
        assert (await client.post(URL, json=BODY)).status_code == 200

    serve(scenario, make_config(report_period_s=60), tracing=traced.provider)
    names = [span.name for span in traced.spans()]
    assert names.count("decision") == 2
    assert names.count("admission") == 1
    lost = traced.one("edge edge-a")
    assert (lost.status.is_ok, lost.attributes["error.type"]) == (False, "EdgeLostError")
    assert traced.one("edge edge-b").status.is_ok
    assert traced.one("generate_content tiny").attributes["edgegen.edge"] == "edge-b"


def test_failures_and_clients_that_leave(make_config, traced):
    async def scenario(client, edges, gateway):
        for edge in edges.values():
            edge.failure = GenerationError("no")
        assert (await client.post(URL, json=BODY)).status_code == 502
        assert (await client.post(URL, json={**BODY, "sead": 1})).status_code == 400
        for edge in edges.values():
            edge.failure = None
        (leaving,) = await held(client, edges.values(), 1)
        leaving.cancel()
        await asyncio.sleep(0.05)

    serve(scenario, make_config(max_retries=0), tracing=traced.provider)
    whole = [span for span in traced.spans() if span.name == "generate_content tiny"]
    assert [span.attributes["error.type"] for span in whole] == ["generation_failed", "client_gone"]
    http = [span for span in traced.spans() if span.name == f"POST {URL}"]
    assert [span.attributes.get("http.response.status_code") for span in http] == [502, 400, None]
    assert [span.attributes.get("error.type") for span in http] == ["502", None, "client_gone"]
    assert all(span.end_time is not None for span in traced.spans())


def test_requests_side_by_side_do_not_mix(make_config, traced):
    async def scenario(client, edges, gateway):
        headers = [{"traceparent": f"00-{number:032x}-{PARENT}-01"} for number in range(1, 9)]
        await asyncio.gather(*(client.post(URL, json={**BODY, "n": 1}, headers=one) for one in headers))

    serve(scenario, make_config(max_queue=0, ahead_s=0.01), tracing=traced.provider)
    traces: dict[int, list[str]] = {}
    for span in traced.spans():
        traces.setdefault(span.context.trace_id, []).append(span.name.split()[0])
    assert set(traces) == set(range(1, 9))
    expected = ["POST", "admission", "decision", "edge", "generate", "generate_content", "queue"]
    assert all(sorted(names) == expected for names in traces.values())


@pytest.mark.parametrize("header", WRONG)
def test_a_wrong_parent_begins_a_new_trace(make_config, traced, header):
    async def scenario(client, edges, gateway):
        assert (await client.get("/v1/models", headers={"traceparent": header})).status_code == 200
        assert (await client.get("/healthz", headers=GIVEN)).status_code == 200

    serve(scenario, make_config(), tracing=traced.provider)
    (span,) = traced.spans()
    assert span.name == "GET /v1/models"
    assert span.parent is None


def test_traces_are_off_unless_asked_for():
    assert make_provider(environ={}) is None
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert make_provider(environ={**there, "OTEL_SDK_DISABLED": "true"}) is None
    assert make_provider(environ={**there, "OTEL_TRACES_EXPORTER": "none"}) is None
    assert make_provider("http://127.0.0.1:1/v1/traces", environ={"OTEL_SDK_DISABLED": "TRUE"}) is None
    for environ in (there, {"OTEL_TRACES_EXPORTER": "otlp"}, {"OTEL_TRACES_EXPORTER": "console"}):
        provider = make_provider(environ=environ)
        assert provider is not None
        provider.shutdown()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
def test_what_there_is_not_is_refused(environ, words):
    with pytest.raises(InputError, match=words):
        make_provider(environ=environ)


def test_a_missing_library_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InputError, match=r"install edgegen\[otlp\]"):
        make_provider("http://127.0.0.1:1")


@pytest.mark.parametrize("by_config", [True, False])
def test_traces_reach_a_receiver(make_config, monkeypatch, by_config):

    async def scenario(client, edges, gateway):
        assert (await client.post(URL, json=BODY, headers=GIVEN)).status_code == 200

    with receiving() as (url, got):
        fields = {}
        if by_config:
            fields = {"traces_url": f"{url}/v1/traces"}
        else:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=pictures")
            monkeypatch.setenv("OTEL_SERVICE_NAME", "studio")
        serve(scenario, make_config(**fields))  # the gateway sends what is left when it stops
    ((path, headers, request),) = got
    assert path == "/v1/traces"
    (of_service,) = request.resource_spans
    resource = {pair.key: pair.value.string_value for pair in of_service.resource.attributes}
    assert resource["service.name"] == ("edgegen" if by_config else "studio")
    assert (headers.get("x-team") == "pictures") is not by_config
    ((trace, names),) = spans_of(got).items()
    assert {f"POST {URL}", "generate_content tiny", "decision", "edge edge-a", "queue", "generate"} <= set(names)
    assert trace == TRACE


def test_a_receiver_that_is_not_there_costs_nothing(make_config):
    async def scenario(client, edges, gateway):
        for _ in range(3):
            assert (await client.post(URL, json=BODY)).status_code == 200

    serve(scenario, make_config(traces_url="http://127.0.0.1:9/v1/traces"))


def test_lines_of_the_log_carry_the_ids(make_config, traced, tmp_path, caplog):
    text, key = new_key("studio")
    (tmp_path / "keys.json").write_text(KeyFile(keys=(key,)).text())
    seen = []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append(json.loads(JsonLines().format(record)))

    keep, logger = Keep(), logging.getLogger("edgegen")
    caplog.set_level(logging.INFO, "edgegen")
    logger.addHandler(keep)

    async def scenario(client, edges, gateway):
        gateway.models = None  # fails, with a traceback in the log
        headers = {**GIVEN, "x-request-id": "mine", "authorization": f"Bearer {text}"}
        assert (await client.get("/v1/models", headers=headers)).status_code == 500

    try:
        serve(scenario, make_config(keys=str(tmp_path / "keys.json")), tracing=traced.provider)
    finally:
        logger.removeHandler(keep)
    failure = next(line for line in seen if line["level"] == "error")
    assert (failure["request_id"], failure["logger"]) == ("mine", "edgegen.serve.request_log")
    assert "TypeError" in failure["exception"]
    line = json.loads(next(line for line in seen if line["logger"] == "edgegen.requests")["message"])
    assert (line["trace_id"], line["request_id"], line["key"], line["status"]) == (TRACE, "mine", "studio", 500)


def test_json_format_writes_lines_to_the_standard_output(make_config, capsys):
    logger = logging.getLogger("edgegen")
    before, propagate = list(logger.handlers), logger.propagate

    async def scenario(client, edges, gateway):
        logging.getLogger("edgegen.serve.test").warning("an edge is %s", "gone")

    try:
        serve(scenario, make_config(log_format="json"))
        serve(scenario, make_config(log_format="json"))  # and not twice as many
        assert len(logger.handlers) == len(before) + 1
    finally:
        logger.handlers[:], logger.propagate = before, propagate
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"an edge is gone"' in line]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("warning", "edgegen.serve.test", "an edge is gone")
    ] * 2
