# SPDX-License-Identifier: Apache-2.0
"""Streams through Ray Serve's proxy: a hundred at once in flat memory, and clients that are no Python."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time

import httpx
import psutil
import pytest

from edgegen.platform.ports import free_ports
from edgegen.serve.running import running_service
from tests.serve.emulated_service import emulated_config

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STREAMS, WAVES = 100, 8
STEPS, SPEED = 20, 0.04
"""A picture takes some seconds, because a hundred of them are asked for within about two."""
BODY = {"prompt": "a red circle", "stream": True, "partial_images": 3, "num_inference_steps": STEPS}


@pytest.fixture(scope="module")
def url():
    config = emulated_config(edges=4, speed=SPEED, gateways=2, max_queue=200, max_wait_s=600, ahead_s=600)
    edges = tuple(edge.model_copy(update={"process": "all", "concurrency": 25}) for edge in config.edges)
    with running_service(config.model_copy(update={"edges": edges}), *free_ports(1)) as base_url:
        yield base_url


async def streamed(client):
    """Names of the events of a stream, and when each came since the first word of the answer, s."""
    async with client.stream("POST", "/v1/images/generations", json=BODY) as answer:
        assert answer.status_code == 200, await answer.aread()
        began = time.monotonic()
        lines = answer.aiter_lines()
        return [(line, time.monotonic() - began) async for line in lines if line.startswith("event: ")]


async def wave(url):
    """Many streams at once."""
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(streamed(client) for _ in range(STREAMS)))


def memory_mb():
    """Memory of the processes that streams go through."""
    names = ("ProxyActor", ":gateway", ":all")
    children = psutil.Process().children(recursive=True)
    found = [one for one in children if any(name in part for part in one.cmdline() for name in names)]
    assert len(found) >= 4
    return sum(one.memory_info().rss for one in found) / 1e6


def test_a_hundred_streams_at_once_come_as_they_are_made_in_flat_memory(url):
    used = []
    for _ in range(WAVES):
        for events in asyncio.run(wave(url)):
            assert [name.partition(".")[2] for name, _ in events] == [*(3 * ["partial_image"]), "completed"]
            # Previews come at a quarter, half and three quarters of the way, and not all at the end.
            assert events[0][1] < 0.75 * events[-1][1]
        used.append(memory_mb())
    # The processes make room for a while: about 25 MB in the last four waves, and next to nothing after sixteen. A
    # stream that left 100 kB behind would add 40 MB to that.
    assert used[-1] - used[3] < 40, used


def test_client_that_leaves_stops_the_work(url):
    async def leave():
        async with (
            httpx.AsyncClient(base_url=url, timeout=60) as client,
            client.stream("POST", "/v1/images/generations", json={**BODY, "n": 10}) as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    return

    def state():
        edges = httpx.get(f"{url}/v1/edges", timeout=30).json()["data"]
        return sum(edge["pictures"] for edge in edges), any(edge["in_work"] for edge in edges)

    time.sleep(1.5)  # three reports
    before, _ = state()
    asyncio.run(leave())
    deadline = time.monotonic() + 30
    while state()[1] and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.5)
    assert state() == (before, False)


def test_curl_sees_events_as_they_come(url):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    command = ["curl", "-sN", f"{url}/v1/images/generations", "-H", "content-type: application/json", "-d"]
    with subprocess.Popen([*command, json.dumps(BODY)], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        began = time.monotonic()
        came = [time.monotonic() - began for line in curl.stdout if line.startswith("event: ")]
    assert curl.returncode == 0
    assert len(came) == 4
    assert came[0] < 0.75 * came[-1]


SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "any", maxRetries: 0 });
const found = {};
const plain = await client.images.generate({ model: "shapes-64", prompt: "a red circle", n: 2, quality: "low",
  size: "auto", output_format: "webp", background: "opaque", moderation: "low", user: "me" });
found.pictures = plain.data.length;
found.kind = Buffer.from(plain.data[0].b64_json, "base64").subarray(8, 12).toString();
found.tokens = plain.usage.total_tokens;
const linked = await client.images.generate({ prompt: "a red circle", response_format: "url" });
found.fetched = (await fetch(linked.data[0].url)).headers.get("content-type");
found.events = [];
const stream = await client.images.generate({ prompt: "a red circle", stream: true, partial_images: 2,
  num_inference_steps: 10 });
for await (const event of stream) found.events.push([event.type, event.partial_image_index ?? null]);
found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);
found.model = (await client.models.retrieve("shapes-64")).id;
try { await client.images.generate({ prompt: "x", sead: 1 }); }
catch (error) { found.error = [error.status, error.param, error.code, error.requestID.length > 0]; }
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Folder with the npm package `openai`."""
    folder = tmp_path_factory.mktemp("javascript")
    for tool in ("npm", "node"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "openai@7"]
    try:
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install openai within three minutes")
    if made.returncode:
        pytest.skip(f"npm could not install openai: {made.stderr.strip().splitlines()[:1]}")
    (folder / "client.mjs").write_text(SCRIPT)
    return folder


def test_the_npm_package(url, javascript):
    made = subprocess.run(["node", "client.mjs", url], cwd=javascript, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == {
        "pictures": 2,
        "kind": "WEBP",
        "tokens": 3 + 2 * 16,
        "fetched": "image/png",
        "events": [
            ["image_generation.partial_image", 0],
            ["image_generation.partial_image", 1],
            ["image_generation.completed", None],
        ],
        "models": ["shapes-64"],
        "model": "shapes-64",
        "error": [400, "sead", "unknown_field", True],
    }
