# SPDX-License-Identifier: Apache-2.0
"""What stands in Serve's proxy: slow clients, too many connections, and what Serve says when the gateway dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter

import httpx
import pytest
from starlette.datastructures import Headers
from uvicorn.config import Config
from uvicorn.server import ServerState

from edgegen.serve.bounded_http import BoundedProtocol
from edgegen.serve.front import Front, Limits

POST = "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
HALF_BODY = POST.format(1000).encode() + b'{"prompt":"a'
HALF_HEADERS = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nX-"
WHOLE = POST.format(2).encode() + b"{}"


class Transport(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self, protocol):
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol, self.written, self.closed = protocol, b"", False

    def write(self, data):
        self.written += data

    def close(self):
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class Listener:
    """A server with the protocol under test, around an application."""

    def __init__(self, app, receive_timeout_s=10.0, max_connections=4):
        limits = {"receive_timeout_s": receive_timeout_s, "max_connections": max_connections}
        self.kind = type("Limited", (BoundedProtocol,), limits)
        self.config = Config(app, lifespan="off", access_log=False, log_config=None)
        self.state = ServerState()

    def connect(self, data=b""):
        protocol = self.kind(self.config, self.state, {}, asyncio.get_running_loop())
        transport = Transport(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)
        return transport


async def echo(scope, receive, send):
    """Answers as soon as the body is there."""
    more, body = True, b""
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def parsed(transport):
    head, _, body = transport.written.partition(b"\r\n\r\n")
    return int(head.split()[1]), (json.loads(body) if body else None), head.decode().lower()


@pytest.mark.parametrize("half", [HALF_HEADERS, HALF_BODY])
def test_half_sent_request_has_a_deadline(run_virtually, half):
    async def scenario():
        listener = Listener(echo)
        slow = listener.connect(half)
        for second in range(9):  # a byte now and then does not help
            await asyncio.sleep(1)
            slow.protocol.data_received(b"a")
            assert not slow.closed, second
        await asyncio.sleep(1.1)
        status, body, head = parsed(slow)
        assert (status, body["error"]["code"]) == (408, "slow_request")
        assert "10 s" in body["error"]["message"]
        assert "connection: close" in head
        assert slow.closed
        await asyncio.sleep(0)
        assert not listener.state.connections

    run_virtually(scenario())


def test_connection_without_a_request_is_closed_without_an_answer(run_virtually):
    async def scenario():
        silent = Listener(echo).connect()
        await asyncio.sleep(10.1)
        assert (silent.closed, silent.written) == (True, b"")

    run_virtually(scenario())


def test_deadline_is_for_receiving_and_not_for_the_answer(run_virtually):
    async def late(scope, receive, send):
        await asyncio.sleep(60)
        await echo(scope, receive, send)

    async def scenario():
        patient = Listener(late).connect(WHOLE)
        await asyncio.sleep(61)
        assert parsed(patient)[0] == 200
        assert not patient.closed
        patient.written = b""
        patient.protocol.data_received(HALF_BODY)  # the next request on the same connection has a deadline of its own
        await asyncio.sleep(9)
        assert not patient.closed
        await asyncio.sleep(1.1)
        assert parsed(patient)[0] == 408

    run_virtually(scenario())


def test_begun_answer_is_cut_off_and_not_followed_by_another(run_virtually):
    async def early(scope, receive, send):
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"5")]})
        await asyncio.sleep(60)

    async def scenario():
        slow = Listener(early).connect(HALF_BODY)
        await asyncio.sleep(11)
        assert slow.closed
        assert slow.written.count(b"HTTP/1.1") == 1

    run_virtually(scenario())


@pytest.mark.parametrize("half", [b"", HALF_HEADERS, HALF_BODY, WHOLE])
def test_what_waits_for_its_client_gives_way_to_new_connections(run_virtually, half):
    async def scenario():
        listener = Listener(echo)
        waiting = []
        for _ in range(4):
            waiting.append(listener.connect(half))
            await asyncio.sleep(0.1)
        new = listener.connect(WHOLE)
        await asyncio.sleep(0)
        assert [one.closed for one in waiting] == [True, False, False, False]
        await asyncio.sleep(0.1)
        assert parsed(new)[0] == 200
        assert len(listener.state.connections) == 4
        if half in (HALF_HEADERS, HALF_BODY):
            assert parsed(waiting[0])[:1] == (503,)
        else:
            assert waiting[0].written.count(b"503") == 0

    run_virtually(scenario())


def test_connections_beyond_the_bound_are_refused_while_all_others_are_served(run_virtually):
    async def busy(scope, receive, send):
        await asyncio.sleep(60)

    async def scenario():
        listener = Listener(busy)
        served = [listener.connect(WHOLE) for _ in range(4)]
        await asyncio.sleep(0.1)
        refused = listener.connect(WHOLE)
        status, body, head = parsed(refused)
        assert (status, body["error"]["type"]) == (503, "service_unavailable_error")
        assert "retry-after: 1" in head
        assert refused.closed
        assert not any(one.closed for one in served)

    run_virtually(scenario())


def test_three_hundred_slow_clients_hold_up_nobody(run_virtually):
    async def scenario():
        listener = Listener(echo, max_connections=512)
        slow = [listener.connect(half) for half in [HALF_HEADERS, HALF_BODY] * 150]
        for _ in range(9):
            await asyncio.sleep(1)
            for one in slow:
                one.protocol.data_received(b"a")
            quick = listener.connect(WHOLE)
            await asyncio.sleep(0.01)
            assert parsed(quick)[0] == 200
            quick.protocol.connection_lost(None)
        await asyncio.sleep(1.1)
        assert Counter(parsed(one)[0] for one in slow) == {408: 300}
        await asyncio.sleep(0)
        assert not listener.state.connections

    run_virtually(scenario())


def test_what_is_no_http_gets_an_answer_in_the_same_shape(run_virtually):
    async def scenario():
        wrong = Listener(echo).connect(b"\x16\x03\x01 hello\r\n\r\n")
        status, body, _ = parsed(wrong)
        assert (status, body["error"]["code"]) == (400, "invalid_http")
        assert wrong.closed

    run_virtually(scenario())


class Serve:
    """Stands for Serve's proxy: does what the next entry of a list says, and counts."""

    def __init__(self, *does):
        self.does, self.bodies, self.tries = list(does), [], []

    async def __call__(self, scope, receive, send):
        what = self.does.pop(0)
        self.tries.append(Headers(scope=scope).getlist("x-edgegen-try"))
        self.bodies.append((await receive())["body"])
        if what == "dies":  # Serve's proxy then returns without a word
            return
        if what == "hangs":
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                return  # for a client that went away, as Serve's proxy has it
        if what == "gone":
            assert (await receive())["type"] == "http.disconnect"
            return
        status, kind, body = what
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


OK = (200, b"application/json", b'{"created": 1}')


def through(run_virtually, proxy, method="POST", path="/v1/images/generations", limits=None):
    answers = []

    async def scenario():
        transport = httpx.ASGITransport(Front(proxy, limits))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"x-request-id": "mine", "x-edgegen-try": "what a client says 1 0.0"}
            answers.append(await client.request(method, path, content=b"{}", headers=headers, timeout=None))

    run_virtually(scenario())
    return answers[0]


def test_request_is_given_to_the_successor_of_a_gateway_that_dies(run_virtually):
    proxy = Serve("dies", OK)
    assert through(run_virtually, proxy).json() == {"created": 1}
    assert proxy.bodies == [b"{}", b"{}"]
    (first,), (second,) = proxy.tries
    name = first.removesuffix(" 1 0.000")
    assert len(name) == 32
    assert second == f"{name} 2 0.000"


@pytest.mark.parametrize(
    ("does", "status", "code"),
    [
        (["dies", "dies", "dies"], 503, "gateway_lost"),
        ([(500, b"text/plain", b"Internal Server Error")] * 3, 503, "gateway_lost"),
        ([(503, b"text/plain", b"Deployment unavailable")], 503, "gateway_lost"),
        ([(404, b"text/plain; charset=utf-8", b"Path '/' not found.")], 503, "stopping"),
        ([(408, b"text/plain", b"timed out")], 504, "timeout"),
        (["hangs"], 504, "timeout"),
    ],
)
def test_what_serve_says_is_said_in_the_shape_of_the_api(run_virtually, does, status, code):
    answer = through(run_virtually, Serve(*does))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"] == "mine"
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1


def test_state_is_asked_for_in_vain_only_for_a_moment(run_virtually):
    health = through(run_virtually, Serve("hangs", "hangs"), "GET", "/healthz")
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")
    assert through(run_virtually, Serve("hangs", OK), "GET", "/healthz").status_code == 200  # another one is well
    edges = through(run_virtually, Serve("hangs", "hangs"), "GET", "/v1/edges")
    assert (edges.status_code, edges.json()["error"]["code"]) == (503, "gateway_lost")


def test_answers_of_the_gateway_pass_as_they_are(run_virtually):
    refusal = (429, b"application/json", b'{"error": {"code": "queues_full"}}')
    assert through(run_virtually, Serve(refusal)).json() == {"error": {"code": "queues_full"}}
    page = (200, b"text/html", b"<html>")
    assert through(run_virtually, Serve(page), "GET", "/docs").text == "<html>"


def test_serves_own_routes_are_left_alone(run_virtually):
    answer = through(run_virtually, Serve((503, b"text/plain", b"draining")), "GET", "/-/healthz")
    assert (answer.status_code, answer.text) == (503, "draining")


def test_client_that_goes_away_is_not_served_again(run_virtually):
    async def scenario():
        proxy = Serve("gone", OK)
        messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]
        scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": []}
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await Front(proxy)(scope, receive, send)
        assert (len(proxy.bodies), sent) == (1, [])

    run_virtually(scenario())


def test_body_is_whole_before_the_gateway_hears_of_it(run_virtually):
    async def scenario():
        proxy, sent = Serve(OK), []
        parts = [b"{", b'"prompt": ', b'"x"}']

        async def receive():
            assert proxy.bodies == []
            await asyncio.sleep(1)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": []}
        await Front(proxy)(scope, receive, send)
        assert proxy.bodies == [b'{"prompt": "x"}']
        parts += [b"{"] * 20
        proxy.does.append(OK)
        proxy.bodies.clear()
        await Front(proxy, Limits(receive_timeout_s=10))(scope, receive, send)
        assert sent[-2]["status"] == 408

    run_virtually(scenario())


def test_limits_come_from_the_environment_of_the_proxy_which_stays_light(tmp_path):
    code = (
        "import sys\n"
        "from edgegen.serve.front import middlewares, Limits\n"
        "import uvicorn\n"
        "made = middlewares()\n"
        "limits = made[0].kwargs['limits']\n"
        "assert limits == Limits(receive_timeout_s=2.5, max_connections=77, answer_timeout_s=40), limits\n"
        "config = uvicorn.Config('app'); config.load_app = lambda: None\n"
        "from uvicorn.importer import import_from_string\n"
        "kind = import_from_string(uvicorn.config.HTTP_PROTOCOLS['auto'])\n"
        "assert (kind.receive_timeout_s, kind.max_connections) == (2.5, 77)\n"
        "heavy = {'torch', 'ray', 'diffusers', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    variables = Limits(receive_timeout_s=2.5, max_connections=77, answer_timeout_s=40.0).variables()
    subprocess.run([sys.executable, "-c", code], check=True, env=variables, cwd=tmp_path)
