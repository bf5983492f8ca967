# SPDX-License-Identifier: Apache-2.0
"""Streams of events: their shapes, when previews come, what happens when a client leaves or an edge fails."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
from collections import Counter

import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeLostError, EdgeReport, preview_steps
from edgegen.serve.control.standing import Standing, standing_of
from edgegen.serve.edge.previews import LINGER_S
from edgegen.serve.front import Front
from edgegen.serve.http.streaming import Stream
from tests.serve.emulated_service import edges_of, emulated_config, gateway_of, serve_emulated
from tests.serve.fake_edges import URL, check_error
from tests.serve.slow_edges import virtually

PARTIAL, COMPLETED, PROGRESS = "image_generation.partial_image", "image_generation.completed", "edgegen.progress"


def events_of(text):
    """Names and data of the events of a stream; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def picture_of(event):
    with Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))) as picture:
        picture.load()
        return picture


@pytest.mark.parametrize(
    ("steps", "previews", "places"),
    [(20, 3, (5, 10, 15)), (20, 1, (10,)), (4, 3, (1, 2, 3)), (2, 3, (1,)), (1, 3, ()), (20, 0, ()), (7, 2, (2, 5))],
)
def test_previews_are_spread_over_the_steps(steps, previews, places):
    assert preview_steps(steps, previews) == places


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_events_have_the_shapes_of_the_public_api(output_format):
    async def scenario(edges, client):
        body = {"prompt": "a red circle", "stream": True, "partial_images": 3, "num_inference_steps": 20, "n": 2}
        response = await client.post(URL, json={**body, "output_format": output_format, "quality": "auto"})
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
        events = events_of(response.text)
        assert [name for name, _ in events] == 6 * [PARTIAL] + 2 * [COMPLETED]
        for name, event in events:
            assert event["type"] == name
            shape = ImageGenPartialImageEvent if name == PARTIAL else ImageGenCompletedEvent
            shape.model_validate(event, strict=True)
            assert set(event) - {"edgegen"} <= set(shape.model_fields)
            assert (event["size"], event["background"], event["output_format"]) == ("64x64", "opaque", output_format)
            assert picture_of(event).format == output_format.upper()
        seen = [
            (one["edgegen"]["image_index"], one["partial_image_index"], one["edgegen"]["step"]) for _, one in events[:6]
        ]
        assert seen == [(number, index, 5 * (index + 1)) for number in (0, 1) for index in (0, 1, 2)]
        assert {event["edgegen"]["steps"] for _, event in events} == {20}
        parts = [event["edgegen"] for _, event in events[6:]]
        assert [(part["image_index"], part["partial_images"], part["server"]) for part in parts] == [
            (number, 3, "edge-a") for number in (0, 1)
        ]
        assert [event["usage"]["output_tokens"] for _, event in events[6:]] == [16, 16]
        plain = {key: value for key, value in body.items() if key not in ("stream", "partial_images")}
        seed = parts[0]["seed"]
        answer = (await client.post(URL, json={**plain, "seed": seed, "output_format": output_format})).json()
        assert [event["b64_json"] for _, event in events[6:]] == [one["b64_json"] for one in answer["data"]]

    serve_emulated(scenario, emulated_config())


def test_streams_without_previews_are_one_event():
    async def scenario(edges, client):
        for fields in ({}, {"partial_images": 0}, {"partial_images": 3, "num_inference_steps": 1}):
            response = await client.post(URL, json={"prompt": "x", "stream": True, **fields})
            ((name, event),) = events_of(response.text)
            assert (name, event["edgegen"]["partial_images"]) == (COMPLETED, 0)

    serve_emulated(scenario, emulated_config())


def test_what_only_streams_have_is_ignored_elsewhere():
    async def scenario(edges, client):
        answer = (await client.post(URL, json={"prompt": "x", "partial_images": 2, "progress": True})).json()
        assert answer["edgegen"]["ignored"] == ["partial_images", "progress"]

    serve_emulated(scenario, emulated_config())


def test_requests_that_are_refused_get_no_stream():
    async def scenario(edges, client):
        for fields, param in (({"response_format": "url"}, "response_format"), ({"deadline_s": 0.01}, "deadline_s")):
            response = await client.post(URL, json={"prompt": "x", "stream": True, **fields})
            check_error(response, 400, "invalid_request_error", param, param=param)

    serve_emulated(scenario, emulated_config())


class Sent:
    """One streamed request as ASGI has it, with the time at which each event came."""

    def __init__(self, app, **fields):
        self.loop, self.events, self.status, self.left = asyncio.get_running_loop(), [], None, asyncio.Event()
        body = json.dumps({"prompt": "x", "stream": True, **fields}).encode()
        self.messages = [{"type": "http.request", "body": body, "more_body": False}]
        headers = [(b"content-type", b"application/json"), (b"host", b"test")]
        scope = {"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": headers}
        scope |= {
            "server": ("test", 80),
            "client": ("test", 1),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
        }
        self.done = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self):
        if self.messages:
            return self.messages.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
        for name, event in events_of(message.get("body", b"").decode()):
            self.events.append((self.loop.time(), name, event))

    async def until(self, count, name=PARTIAL):
        while sum(other == name for _, other, _ in self.events) < count:
            await asyncio.sleep(0.001)


def with_app(scenario, config, around=lambda app: app):
    """Run a scenario ``async (edges, app)`` in no time; the app is an ASGI one."""

    async def whole():
        from edgegen.serve.http.web import create_app

        clock = asyncio.get_running_loop().time
        edges = edges_of(config, clock)
        gateway = gateway_of(config, edges, clock)
        await gateway.start()
        try:
            await scenario(edges, around(create_app(gateway)))
        finally:
            await gateway.stop()

    virtually(whole())


@pytest.mark.parametrize("around", [lambda app: app, Front], ids=["gateway", "proxy"])
def test_previews_come_within_two_steps_of_their_place(around):
    """In time as in steps; the proxy in front holds nothing back."""

    async def scenario(edges, app):
        begun = asyncio.get_running_loop().time()
        sent = Sent(app, partial_images=3, num_inference_steps=40)
        await sent.done
        generation_s = sent.events[-1][2]["edgegen"]["generation_s"]
        step_s = generation_s / 40
        for index, (at, name, event) in enumerate(sent.events[:3]):
            assert (name, event["edgegen"]["step"]) == (PARTIAL, 10 * (index + 1))
            assert 10 * (index + 1) - 1 <= (at - begun) / step_s <= 10 * (index + 1) + 2
        assert sent.events[3][1] == COMPLETED

    with_app(scenario, emulated_config(edges=1, speed=0.1), around)


@pytest.mark.parametrize("around", [lambda app: app, Front], ids=["gateway", "proxy"])
def test_client_that_leaves_stops_the_work_at_the_next_step(around):
    async def scenario(edges, app):
        sent = Sent(app, partial_images=3, num_inference_steps=40)
        await sent.until(1)
        report = await edges["edge-a"].report()
        assert 28 <= report.steps_left <= 30
        sent.left.set()
        await sent.done
        await asyncio.sleep(2 * report.step_s)
        report = await edges["edge-a"].report()
        assert (report.remaining_gcycles, report.pictures) == ((), 0)
        assert [name for _, name, _ in sent.events] == [PARTIAL]

    with_app(scenario, emulated_config(edges=1, speed=0.1), around)


def test_requests_that_wait_are_told_how_far_they_are():
    async def scenario(edges, app):
        first = Sent(app, num_inference_steps=50)
        await asyncio.sleep(0.1)
        second = Sent(app, num_inference_steps=10, progress=True, partial_images=1)
        await second.done
        await first.done
        told = [event["edgegen"] for _, name, event in second.events if name == PROGRESS]
        assert all(set(one) == {"status", "edge", "model", "position", "wait_s", "step", "steps"} for one in told)
        ranks = [("held", "queued", "generating").index(one["status"]) for one in told]
        assert ranks == sorted(ranks)
        assert set(ranks) == {0, 1, 2}  # the edge has work for longer than it is given ahead
        assert [(one["edge"], one["position"], one["wait_s"]) for one in told[:1]] == [(None, None, None)]
        waiting = [one for one in told if one["status"] == "queued"]
        working = [one for one in told if one["status"] == "generating"]
        assert {(one["edge"], one["position"], one["step"]) for one in waiting} == {("edge-a", 1, None)}
        waits = [one["wait_s"] for one in waiting]
        assert waits == sorted(waits, reverse=True)
        assert waits[0] > 1
        steps = [one["step"] for one in working if one["step"] is not None]
        assert steps == sorted(steps)
        assert steps[-1] >= 8
        assert [name for _, name, _ in second.events if name != PROGRESS] == [PARTIAL, COMPLETED]
        assert [name for _, name, _ in first.events] == [COMPLETED]

    with_app(scenario, emulated_config(edges=1, speed=0.05))


def test_streams_say_at_times_that_they_live():
    async def scenario(edges, client):
        response = await client.post(URL, json={"prompt": "x", "stream": True, "num_inference_steps": 50})
        assert response.text.count(": under way\n\n") >= 2
        assert [name for name, _ in events_of(response.text)] == [COMPLETED]

    serve_emulated(scenario, emulated_config(edges=1, speed=0.02))


def test_streams_go_on_with_another_edge_and_repeat_nothing():
    async def scenario(edges, app):
        sent = Sent(app, partial_images=3, num_inference_steps=40)
        await sent.until(2)
        name = sent.events[0][2]["edgegen"]["edge"]

        async def lost(*_):
            raise EdgeLostError("process died")

        for method in ("report", "watch", "generate"):
            setattr(edges[name], method, lost)
        await sent.done
        edges_seen = [event["edgegen"]["edge"] for _, kind, event in sent.events if kind == PARTIAL]
        assert [event["partial_image_index"] for _, kind, event in sent.events if kind == PARTIAL] == [0, 1, 2]
        assert edges_seen[:2] == [name, name]
        assert edges_seen[2] != name
        assert sent.events[-1][1] == COMPLETED

    with_app(scenario, emulated_config(speed=0.1))


def test_failures_on_the_way_are_events_that_clients_know():
    async def scenario(edges, app):
        sent = Sent(app, num_inference_steps=50)
        await asyncio.sleep(3)

        async def lost(*_):
            raise EdgeLostError("process died")

        edges["edge-a"].report = edges["edge-a"].generate = lost
        await sent.done
        ((_, name, event),) = sent.events
        assert (sent.status, name, set(event)) == (200, "error", {"error"})
        assert set(event["error"]) == {"message", "type", "param", "code"}

    with_app(scenario, emulated_config(edges=1, speed=0.05, request_timeout_s=60, deadline_s=30))


def test_a_hundred_streams_leave_nothing_behind():
    async def scenario(edges, app):
        def streams():
            gc.collect()
            return [one for one in gc.get_objects() if type(one) is Stream]

        before = len(asyncio.all_tasks())
        sent = [Sent(app, partial_images=3, num_inference_steps=20) for _ in range(100)]
        for number, one in enumerate(sent):
            await one.until(1)
            if number % 4 == 0:  # some leave
                one.left.set()
        assert len(streams()) > 0
        await asyncio.gather(*(one.done for one in sent))
        names = Counter(name for one in sent for _, name, _ in one.events)
        assert names[COMPLETED] == 75
        await asyncio.sleep(2 * LINGER_S)
        assert streams() == []
        assert len(asyncio.all_tasks()) == before
        assert not any(edge._previews._shown for edge in edges.values())

    with_app(scenario, emulated_config(edges=4, speed=0.1, max_queue=200, max_wait_s=600))


def test_one_who_joins_sees_the_previews_that_are_there():
    async def scenario(edges, client, other):
        body = {"prompt": "x", "stream": True, "partial_images": 2, "num_inference_steps": 30}
        headers = {"idempotency-key": "mine"}
        answers = await asyncio.gather(*(one.post(URL, json=body, headers=headers) for one in (client, other)))
        streams = [events_of(answer.text) for answer in answers]
        pictures = [[event["b64_json"] for _, event in events] for events in streams]
        assert pictures[0] == pictures[1]
        assert len(pictures[0]) == 3

    serve_emulated(scenario, emulated_config(speed=0.1), gateways=2)


def test_places_are_those_of_the_reports_and_of_the_books_in_between():
    server = Server("edge", ("m",), 1.0, 2.0, 16)
    server.admit("one", 4.0, 0.0)
    server.admit("two", 6.0, 0.0)
    assert standing_of(server, "two", 1.0) == Standing("edge", 1, 1.0)
    server.hear(EdgeReport("edge", 1, (("one", 1.0), ("load m", 4.0), ("two", 6.0)), 3, 0.0, 2.0, 0.1, 0, None), 2.0)
    assert standing_of(server, "two", 2.0) == Standing("edge", 1, 2.5)
    assert standing_of(server, "two", 3.0) == Standing("edge", 1, 1.5)
    assert standing_of(server, "one", 3.0) == Standing("edge", 0, 0.0)
