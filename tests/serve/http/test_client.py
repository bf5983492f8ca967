# SPDX-License-Identifier: Apache-2.0
"""The demonstration client: prompts and contact sheets."""

from __future__ import annotations

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from PIL import Image

from edgegen.envs.core.errors import InputError
from edgegen.serve.http.client import Result, contact_sheet, demo_prompts, generate_burst
from edgegen.serve.zoo.shapes import parse_caption


def result(prompt="a red circle", side=64):
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(encoded, format="PNG")
    return Result(
        prompt=prompt,
        server="edge-a",
        home="edge-b",
        queue_s=1.25,
        generation_s=0.5,
        decision_s=0.001,
        total_s=1.8,
        round_trip_s=1.9,
        steps=20,
        seed=1,
        fallback=None,
        png=encoded.getvalue(),
    )


def test_prompts_are_captions_and_reproducible():
    prompts = demo_prompts(12, seed=3)
    assert len(prompts) == 12
    assert prompts == demo_prompts(12, seed=3)
    assert prompts != demo_prompts(12, seed=4)
    for prompt in prompts:
        parse_caption(prompt)


@pytest.mark.parametrize(("count", "columns", "wide"), [(1, None, 1), (3, None, 2), (10, None, 4), (10, 3, 3)])
def test_contact_sheet_is_a_grid(tmp_path, count, columns, wide):
    prompts = ["a red circle", "a large purple triangle in the bottom right " * 3, "x" * 200, "", "é ✓"]
    results = [result(prompts[index % 5], side=(64, 80, 512)[index % 3]) for index in range(count)]
    path = contact_sheet(results, tmp_path / "sheet.png", columns)
    with Image.open(path) as sheet:
        assert sheet.width // 180 == wide
        assert sheet.height % (sheet.height // -(-count // wide)) == 0
        assert sheet.convert("RGB").getpixel((90, 90)) == (255, 0, 0)


def test_empty_contact_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no results"):
        contact_sheet([], tmp_path / "sheet.png")


def test_unreachable_service_is_one_sentence():
    with pytest.raises(InputError, match="can not be reached"):
        generate_burst("http://127.0.0.1:9", ["a red circle"])
    for url in ("http://127.0.0.1:99999", "http://[::1", "localhost:8000", "ftp://host", "http://"):
        with pytest.raises(InputError, match="is no URL"):
            generate_burst(url, ["a red circle"])


class Replies(BaseHTTPRequestHandler):
    """Answers from a list, and keeps what it was asked."""

    replies: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: ClassVar[list[dict[str, object]]] = []
    paths: ClassVar[list[str]] = []

    def do_POST(self):
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.paths.append(self.path)
        status, headers, body = self.replies.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Replies) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def answer(png):
    """The body of an answer with one picture."""
    served = {"server": "a", "home": "b", "queue_s": 0, "generation_s": 0, "decision_s": 0, "total_s": 0}
    served |= {"steps": 1, "seed": 0, "fallback": None}
    return json.dumps({"edgegen": served, "data": [{"b64_json": base64.b64encode(png).decode()}]}).encode()


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"data": []}', b'{"edgegen": {"queue_s": "?"}}', answer(b"GIF"), answer(result().png[:60])],
)
def test_another_server_is_one_sentence(server, body):
    Replies.replies[:] = [(200, {}, body)]
    with pytest.raises(InputError, match=f"What answers at {server} is no service of edgegen"):
        generate_burst(server, ["a red circle"])


def test_a_full_house_is_asked_again_and_seeds_wrap(server):
    good = answer(result().png)
    full = (429, {"Retry-After": "Thu, 26 Nov 2026 00:00:00 GMT"}, b"")  # as a proxy may write it
    again = [full, (429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "0"}, b"")]
    Replies.replies[:] = [*again, (200, {}, good), (200, {}, good)]
    Replies.asked.clear()
    first, second = generate_burst(server, ["one", "two"], seed=2**32 - 1, concurrency=1)
    assert (first.prompt, second.prompt) == ("one", "two")
    assert [body["seed"] for body in Replies.asked] == [2**32 - 1] * 4 + [0]


@pytest.mark.parametrize("ending", ["", "/", "/v1/", "/v1/images/generations"])
def test_no_proxy_stands_before_this_machine(server, ending, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    Replies.paths.clear()
    Replies.replies[:] = [(200, {}, answer(result().png))]
    assert len(generate_burst(server + ending, ["one"])) == 1
    assert Replies.paths == ["/v1/images/generations"]


def test_proxy_that_is_not_there_is_named(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    through = r"http://10\.255\.255\.1 through the proxy http://me:\*\*\*@127\.0\.0\.1:9 can not be reached"
    with pytest.raises(InputError, match=through):
        generate_burst("http://10.255.255.1/v1", ["one"])


def test_error_pages_are_one_line(server):
    Replies.replies[:] = [(502, {}, b"<html>\n<b>Bad\n\ngateway</b>" + b" " * 300 + b"x" * 300)]
    with pytest.raises(InputError, match=r"answered 502: <html> <b>Bad gateway</b> x*\.\.\.$"):
        generate_burst(server, ["one"])
