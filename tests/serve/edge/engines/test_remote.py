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
from edgegen.serve.edge.engines import remote
from edgegen.serve.edge.server import EdgeServer
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelConfig, card_of
from tests.serve.edge.fake_engine import job, send

PNG = remote.PNG + b"a picture"


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
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # whoever asked has left
            pass

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
