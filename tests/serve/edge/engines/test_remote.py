# SPDX-License-Identifier: Apache-2.0
"""A remote engine against a real HTTP server on the loopback interface that answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.control.jobs import GenerationError
from edgegen.serve.edge.engines import remote, remote_stream
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelConfig, card_of
from tests.serve.edge.fake_engine import job, send

PNG = remote_stream.PNG + b"a picture"


def answer(*pictures):
    return 200, {}, {"created": 1, "data": [{"b64_json": base64.b64encode(png).decode()} for png in pictures]}


class Service(ThreadingHTTPServer):
    """A service with the images API; ``answers`` are given first, then what was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Any] = []
        self.answers: list[Any] = []
        self.gate: threading.Event | None = None
        self.lock, self.busy, self.busiest = threading.Lock(), 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        service = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service.asked.append((self.path, dict(self.headers), body))
        with service.lock:
            service.busy += 1
            service.busiest = max(service.busiest, service.busy)
        try:
            if service.gate is not None:
                service.gate.wait(10)
            status, headers, content = service.answers.pop(0) if service.answers else answer(*[PNG] * body["n"])
        finally:
            with service.lock:
                service.busy -= 1
        if isinstance(content, list):
            self.stream(status, headers, content)
            return
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # whoever asked has left
            pass

    def stream(self, status, headers, parts):
        """Send parts one by one; a callable is called where it stands, and has to return before the next one goes."""
        try:
            self.send_response(status)
            for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
                self.send_header(name, value)
            self.end_headers()
            for part in [*parts, b""]:
                if callable(part):
                    part()
                else:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def service():
    server = Service()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    if server.gate is not None:
        server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)


def edge_of(service, **fields):
    config = EdgeConfig(
        **{"name": "edge", "models": ("a", "b"), "engine": "remote", "url": f"{service.url}/v1", **fields}
    )
    model = ModelConfig(cycles_per_step_gcycles=1.0, sizes=("64x64",))
    return EdgeServer(config, {name: card_of(name, model) for name in "ab"}, 100)


def run_with(edge, *jobs):
    async def run():
        try:
            return await asyncio.gather(*send(edge, *jobs), return_exceptions=True), await edge.report()
        finally:
            await edge.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_it_asks_as_openai_says(service, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-1")
    edge = edge_of(service, api_key_env="MY_KEY", model_names={"a": "their/model"})
    (made,), report = run_with(edge, job("1", seeds=(1, 2)))
    ((path, headers, body),) = service.asked
    assert made.png == (PNG, PNG)
    assert path == "/v1/images/generations"
    assert headers["Authorization"] == "Bearer secret-1"
    assert body == {"model": "their/model", "prompt": "x", "size": "64x64", "n": 2, "response_format": "b64_json"}
    assert report.pictures == 2
    assert report.capacity_gcycles_s == pytest.approx(8 / made.generation_s)


def test_a_service_of_this_kind_gets_steps_and_seeds(service):
    edge = edge_of(service, extensions=True, fields={"user": "me"})
    run_with(edge, job("1", "b", seeds=(5, 6), negative_prompt="blue"))
    bodies = [body for _, _, body in service.asked]
    same = {"model": "b", "prompt": "x", "size": "64x64", "n": 1, "user": "me", "negative_prompt": "blue"}
    steps = {"num_inference_steps": 4, "guidance_scale": 3.0}
    assert bodies == [{**same, **steps, "seed": 5}, {**same, **steps, "seed": 6}]


def test_busy_services_are_asked_again_when_they_say(service):
    busy = {"error": {"message": "Too busy."}}
    service.answers += [(429, {"Retry-After": "0"}, busy), (503, {}, b"<html>"), answer(PNG)]
    (made,), _ = run_with(edge_of(service), job("1"))
    assert made.png == (PNG,)
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(400, {}, {"error": {"message": "No such\nsize."}})], "answered 400: No such size"),
        ([(401, {}, b"no")], "answered 401"),
        ([(500, {}, b"")] * remote.TRIES, "answered 500"),
        ([(200, {}, b"hello")], "answered without pictures in data[].b64_json"),
        ([(200, {}, {"data": [{"url": "http://x/y.png"}]})], "answered without pictures"),
        ([(200, {}, {"data": [{"b64_json": "no base64"}]})], "answered without pictures"),
        ([(200, {}, b"[" * 100_000)], "answered without pictures"),
        ([answer(PNG, PNG)], "answered with 2 pictures instead of 1"),
        ([answer(b"GIF89a")], "answered with something that is no PNG"),
    ],
)
def test_what_is_wrong_is_one_sentence(service, answers, words):
    service.answers += answers
    (error,), report = run_with(edge_of(service), job("1"))
    assert isinstance(error, GenerationError)
    assert str(error).startswith(f"GenerationError: the service at {service.url} {words}")
    assert "\n" not in str(error)
    assert service.answers == []
    assert report.last_error == str(error)


def test_a_service_that_is_not_there(service):
    service.server_close()
    (error,), _ = run_with(edge_of(service), job("1"))
    assert "can not be reached" in str(error)


def test_a_service_that_is_too_slow(service):
    service.gate = threading.Event()
    (error,), _ = run_with(edge_of(service, timeout_s=0.2), job("1"))
    assert f"the service at {service.url} did not answer within 0.2 s" in str(error)


def test_so_many_at_a_time(service):
    service.gate = threading.Event()
    edge = edge_of(service, concurrency=3)

    async def run():
        under_way = send(edge, *(job(str(number)) for number in range(7)))
        while len(service.asked) < 3:
            await asyncio.sleep(0.01)
        service.gate.set()
        await asyncio.gather(*under_way)
        await edge.close()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert len(service.asked) == 7
    assert service.busiest == 3


STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def event(kind, png=PNG, **fields):
    data = {"type": f"image_generation.{kind}", "b64_json": base64.b64encode(png).decode(), **fields}
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def partial(index, png=PNG, **fields):
    return event("partial_image", png, partial_image_index=index, **fields)


def streaming(service, *jobs, **fields):
    """What becomes of jobs, and all previews of each."""
    edge = edge_of(service, streams=True, **fields)

    async def run():
        try:
            made = await asyncio.gather(*send(edge, *jobs), return_exceptions=True)
            return made, [(await edge.watch(job.id, 0, 0.0)).previews for job in jobs]
        finally:
            await edge.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_previews_are_passed_on_as_they_come(service):
    """The service sends its second preview only when the edge has shown the first one, cut anywhere."""
    shown = threading.Event()
    one, two = partial(0, PNG + b"0"), partial(1, PNG + b"1", edgegen={"step": 3})
    waiting = [b": alive\r\n\r\n", one[:30], one[30:], lambda: shown.wait(10), two + event("completed")]
    service.answers += [(200, STREAM, waiting)]
    edge = edge_of(service, streams=True, extensions=True)

    async def run():
        (made,) = send(edge, job("1", previews=2, seeds=(7,)))
        await asyncio.sleep(0)  # the edge has it
        first = await edge.watch("1", 0, 10.0)
        shown.set()
        seen = [*first.previews, *(await edge.watch("1", 1, 10.0)).previews]
        try:
            return len(first.previews), seen, first.step, await made
        finally:
            await edge.close()

    count, seen, step, made = asyncio.run(asyncio.wait_for(run(), 30))
    ((_, _, body),) = service.asked
    assert (body["stream"], body["partial_images"], body["n"], body["seed"]) == (True, 2, 1, 7)
    assert count == 1
    # Two of four steps come after the first and the third, evenly spread; the second preview says so itself.
    assert [(one.picture, one.index, one.step, one.steps, one.png[-1:]) for one in seen] == [
        (0, 0, 1, 4, b"0"),
        (0, 1, 3, 4, b"1"),
    ]
    assert step == 1
    assert made.png == (PNG,)


def test_each_picture_with_previews_is_asked_for_alone(service):
    service.answers += [(200, STREAM, [partial(0), event("completed", PNG + b"%d" % n)]) for n in range(2)]
    (made,), (previews,) = streaming(service, job("1", previews=1, seeds=(5, 6)))
    assert [(body["n"], body["partial_images"]) for _, _, body in service.asked] == [(1, 1)] * 2
    assert [(one.picture, one.index) for one in previews] == [(0, 0), (1, 0)]
    assert made.png == (PNG + b"0", PNG + b"1")


def test_who_wants_no_previews_gets_no_stream(service):
    (made,), _ = streaming(service, job("1", seeds=(5, 6)))
    ((_, _, body),) = service.asked
    assert "stream" not in body
    assert body["n"] == len(made.png) == 2


def test_a_service_that_can_not_stream_shows_nothing(service):
    """It answers as if nobody had asked for a stream."""
    (made,), (previews,) = streaming(service, job("1", previews=2))
    assert (made.png, previews) == ((PNG,), ())
    assert service.asked[0][2]["stream"] is True


@pytest.mark.parametrize(
    "nonsense",
    [
        partial(2),
        partial(-1),
        partial(True),
        partial(None),
        partial(0, b"GIF89a"),
        b'data: {"type": "image_generation.partial_image", "partial_image_index": 0}\n\n',
        b'data: {"type": "something.new"}\n\ndata: [DONE]\n\nretry: 5\n\n',
    ],
)
def test_previews_that_make_no_sense_are_passed_over(service, nonsense):
    service.answers += [(200, STREAM, [nonsense, event("completed")])]
    (made,), (previews,) = streaming(service, job("1", previews=2))
    assert (made.png, previews) == ((PNG,), ())


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([partial(0)], "answered with 0 pictures instead of 1"),
        ([event("completed"), event("completed")], "answered with 2 pictures instead of 1"),
        ([event("completed", b"GIF89a")], "answered with something that is no PNG"),
        ([b"data: {]\n\n"], "sent an event that is no JSON object"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "sent an event that is no JSON object"),
        (
            [b'event: error\ndata: {"error": {"message": "Out of\\nmemory."}}\n\n'],
            "failed in the middle of its stream: Out of memory",
        ),
    ],
)
def test_a_stream_that_goes_wrong_is_one_sentence(service, parts, words):
    service.answers += [(200, STREAM, parts)]
    (error,), _ = streaming(service, job("1", previews=2))
    assert isinstance(error, GenerationError)
    assert str(error) == f"GenerationError: the service at {service.url} {words}"


def test_a_stream_without_end_is_cut_off(service, monkeypatch):
    monkeypatch.setattr(remote, "MOST_BYTES", 2**20)
    service.answers += [(200, STREAM, [b"data: " + b"x" * 2**16] * 40)]
    (error,), _ = streaming(service, job("1", previews=2))
    assert "sends more than 1 MiB" in str(error)


def test_a_date_may_say_when_to_come_back():
    assert remote._retry_after_s("7") == 7
    assert remote._retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert remote._retry_after_s("soon") is None
    assert remote._retry_after_s(None) is None


def test_a_key_that_is_not_there_is_refused_without_a_start(service, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(InputError, match=r"api_key_env of 'edge' is NO_KEY, but the environment has no such\.$"):
        edge_of(service, api_key_env="NO_KEY")
    monkeypatch.setenv("NO_KEY", "a\nb")
    with pytest.raises(InputError, match=r"characters that no key can have\.$"):
        edge_of(service, api_key_env="NO_KEY")
