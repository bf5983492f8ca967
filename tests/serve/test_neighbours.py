# SPDX-License-Identifier: Apache-2.0
"""Servers and user interfaces that a service works together with, by the requests that they document."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import GenerationError
from edgegen.serve.edge.engines.emulated import _picture
from tests.serve.emulated_service import MODEL, edges_of, emulated_config, gateway_of, serve_emulated
from tests.serve.fake_edges import URL

PAGE = Path(__file__).parents[2] / "docs/neighbours.md"
TAKEN = {
    *("prompt", "model", "n", "size", "response_format", "user"),
    *("negative_prompt", "num_inference_steps", "guidance_scale", "true_cfg_scale", "seed"),
}
"""Fields that the image generation API of vLLM-Omni documents."""


class VllmOmni(ThreadingHTTPServer):
    """A server with one model that answers as vLLM-Omni documents it."""

    daemon_threads = True

    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.asked = model, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, body):
        self.asked.append(body)
        if "x" not in body.get("size", "1x1"):
            return 400, {"detail": f"Invalid size format: '{body['size']}'."}
        if body.get("model", self.model) != self.model:
            return 400, {"detail": f"Model mismatch: this server has {self.model}."}
        png = base64.b64encode(_picture(self.model, body.get("seed", 0), 1, 1)).decode()
        data = [{"b64_json": png, "url": None, "revised_prompt": None} for _ in range(body.get("n", 1))]
        return 200, {"created": 1701234567, "data": data}


class Handler(BaseHTTPRequestHandler):
    server: VllmOmni

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/images/generations"
        status, answer = self.server.answer(body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def servers(model, count):
    made = [VllmOmni(model) for _ in range(count)]
    threads = [threading.Thread(target=one.serve_forever) for one in made]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        for one in made:
            one.shutdown()
            one.server_close()


def config_of(page, servers):
    """The config that a page shows, with the addresses of these servers."""
    (block,) = [part.split("```")[0] for part in page.read_text().split("```yaml\n")[1:]]
    fields = yaml.safe_load(block)
    for edge, server in zip(fields["edges"], servers, strict=True):
        edge["url"] = server.url
    return build_config(fields)


def with_servers(scenario):
    """Run a scenario ``async (client, servers)`` against the service that the page shows."""
    with servers("Qwen/Qwen-Image", 2) as made:
        config = config_of(PAGE, made)

        async def whole():
            from edgegen.serve.http.web import create_app

            clock = asyncio.get_running_loop().time
            edges = edges_of(config, clock)
            gateway = gateway_of(config, edges, clock)
            await gateway.start()
            transport = httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False)
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                    await scenario(client, made)
            finally:
                await gateway.stop()
                for edge in edges.values():
                    await edge.close()

        asyncio.run(whole())


def test_servers_of_vllm_omni_are_asked_as_they_document_it():
    async def scenario(client, servers):
        bodies = [{"prompt": "a dragon", "size": "1664x928", "seed": n, "negative_prompt": "red"} for n in range(4)]
        answers = await asyncio.gather(*(client.post(URL, json={**body, "n": 2}) for body in bodies))
        assert [answer.status_code for answer in answers] == [200] * 4, answers[0].text
        assert {answer.json()["edgegen"]["server"] for answer in answers} == {"gpu-1", "gpu-2"}
        asked = [body for server in servers for body in server.asked]
        assert {key for body in asked for key in body} <= TAKEN
        assert {(body["model"], body["size"]) for body in asked} == {("Qwen/Qwen-Image", "1664x928")}
        assert {body["num_inference_steps"] for body in asked} <= set(range(15, 51))
        assert sorted(body["seed"] for body in asked) == [0, 1, 1, 2, 2, 3, 3, 4]
        low = (await client.post(URL, json={"prompt": "x", "quality": "low", "model": "gpt-image-1"})).json()
        assert (low["quality"], low["edgegen"]["least_steps"], low["edgegen"]["most_steps"]) == ("low", 15, 25)
        stream = await client.post(URL, json={"prompt": "x", "stream": True, "partial_images": 3})
        assert "partial_image\n" not in stream.text
        assert "image_generation.completed" in stream.text
        assert [edge["previews"] for edge in (await client.get("/v1/edges")).json()["data"]] == [False, False]

    with_servers(scenario)


def test_executors_ask_where_to_and_do_it_themselves():
    async def scenario(client, servers):
        tasks = [{"quality": "low", "deadline_s": 200}] * 4
        decided = (await client.post("/v1/schedule", json={"tasks": tasks})).json()["data"]
        assert {task["server"] for task in decided} == {"gpu-1", "gpu-2"}
        assert not any(server.asked for server in servers)
        async with httpx.AsyncClient() as outside:
            for task in decided:
                address = task["address"]
                body = {"prompt": "x", "model": address["model"], "num_inference_steps": task["steps"]}
                answer = await outside.post(f"{address['url']}/v1/images/generations", json=body)
                assert answer.status_code == 200, answer.text
                params = {"generation_s": task["steps"] * 0.5}
                given_back = await client.delete(f"/v1/schedule/{task['lease']}", params=params)
                assert given_back.status_code == 200
        assert sorted(len(server.asked) for server in servers) == [2, 2]
        await asyncio.sleep(1.2)
        edges = (await client.get("/v1/edges")).json()["data"]
        assert [edge["backlog_gcycles"] for edge in edges] == [0, 0]
        assert [edge["capacity_gcycles_s"] for edge in edges] == [pytest.approx(2), pytest.approx(2)]

    with_servers(scenario)


def test_what_such_a_server_says_is_wrong_is_passed_on():
    with servers("another/model", 2) as made:
        config = config_of(PAGE, made)

        async def ask():
            from tests.serve.edge.fake_engine import job

            clock = asyncio.get_running_loop().time
            edge = edges_of(config, clock)["gpu-1"]
            try:
                with pytest.raises(GenerationError, match="400: Model mismatch: this server has another/model"):
                    await edge.generate(job("1", "qwen-image"))
            finally:
                await edge.close()

        asyncio.run(ask())


@pytest.mark.parametrize("model", ["gpt-image-1", "dall-e-3"])
def test_open_webui_asks_as_its_engine_for_openai_does(model):
    """It leaves ``response_format`` out for names that begin with gpt-image, and takes what comes."""

    async def scenario(edges, client):
        headers = {"Authorization": "Bearer any", "X-OpenWebUI-User-Name": "me", "X-OpenWebUI-User-Role": "user"}
        body = {"model": model, "prompt": "a red circle", "n": 1, "size": "64x64"}
        if not model.startswith("gpt-image"):
            body["response_format"] = "b64_json"
        params = {"quality": "high", "deadline_s": 30}
        answer = await client.post(URL, json={**body, **params}, headers=headers)
        (image,) = answer.json()["data"]
        assert base64.b64decode(image["b64_json"]).startswith(b"\x89PNG")
        assert not image.get("url")
        linked = (await client.post(URL, json={**body, "response_format": "url"}, headers=headers)).json()
        fetched = await client.get(linked["data"][0]["url"], headers={"Authorization": "Bearer any"})
        assert fetched.headers["content-type"] == "image/png"

    serve_emulated(scenario, emulated_config(model_aliases={"gpt-image-1": MODEL, "dall-e-3": MODEL}))
