# SPDX-License-Identifier: Apache-2.0
"""Sequences are sent when they are due, to a real server on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.ports import free_ports
from edgegen.serve.load.sending import send
from edgegen.serve.load.sequence import Sequence, sequence_of

ANSWER = {"server": "b", "steps": 9, "queue_s": 0.5, "load_s": 0.25, "generation_s": 1, "total_s": 2, "fallback": None}


class Service(BaseHTTPRequestHandler):
    """Answers by the seed of the request: a picture, a refusal, nonsense."""

    held = threading.Event()
    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        if body["seed"] == 0:  # answered after the last one: nobody waits for it
            self.held.wait(20)
        status, answer = 200, json.dumps({"data": [{"b64_json": base64.b64encode(b"png").decode()}], "edgegen": ANSWER})
        if body["seed"] == 1:
            status, answer = 429, json.dumps({"error": {"message": "All queues are full."}})
        if body["seed"] == 2:
            answer = "no JSON"
        if body["seed"] == 3:
            self.held.set()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def sequence() -> Sequence:
    scenario = load_scenario("fleet-8", overrides={"sites": 2, "speed": [1, 1], "memory_gb": [8, 8], "frames": 1})
    assert isinstance(scenario, FleetScenario)
    drawn = sequence_of(scenario, ["a", "b"], [*"uvwxyz"], lambda model, rng: f"a {model}", 3)
    return Sequence(scenario, drawn.edges, drawn.models, 3, 0, drawn.drawn, drawn.asked[:4])


def test_each_request_is_sent_when_it_is_due_and_judged_for_itself(url: str, sequence: Sequence) -> None:
    first, second, third, fourth = send(url, sequence)
    assert [one.status for one in (first, second, third, fourth)] == [200, 429, 0, 200]
    assert (first.edge, first.steps, first.load_s, first.png) == ("b", 9, 0.25, b"png")
    assert first.asked.at_s + first.delay_s > fourth.asked.at_s  # the loop did not wait for it
    assert first.begun_s == pytest.approx(first.asked.at_s + 1)
    assert second.refusal == "All queues are full."
    assert second.is_late
    assert third.refusal is not None
    assert [body["model"] for body in sorted(Service.bodies, key=lambda body: body["seed"])] == [
        asked.model for asked in sequence.asked
    ]


def test_service_that_is_not_there_is_one_sentence(sequence: Sequence) -> None:
    with pytest.raises(InputError, match="can not be reached"):
        send(f"http://127.0.0.1:{free_ports(1)[0]}", sequence)
