# SPDX-License-Identifier: Apache-2.0
"""Two gateways on Ray Serve under load: one is killed, the proxy is killed, and nothing that was accepted is lost."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from edgegen.platform.ports import free_ports
from edgegen.serve.running import running_service

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

REQUESTS = 60


@pytest.fixture(scope="module")
def url(tiny_pipeline, make_config):
    config = make_config(tiny_pipeline, gateways=2, report_period_s=0.2, max_queue=200, max_wait_s=600, warmup_steps=2)
    edges = tuple(edge.model_copy(update={"capacity_gcycles_s": "measured"}) for edge in config.edges)
    with running_service(config.model_copy(update={"edges": edges}), *free_ports(1)) as base_url:
        yield base_url


def processes(name):
    """Processes of this test's Ray session whose title has a word."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if any(name in part for part in one.cmdline())]


def ask(url, number, headers=None, **fields):
    body = {"prompt": "a red circle", "num_inference_steps": 20, "seed": number, **fields}
    answer = httpx.post(f"{url}/v1/images/generations", json=body, headers=headers or {}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pictures_made(url):
    return sum(edge["pictures"] for edge in httpx.get(f"{url}/v1/edges", timeout=30).json()["data"])


def all_made(url, expected):
    """Pictures made, as the edges report when they have been idle for a while."""
    deadline = time.monotonic() + 30
    while pictures_made(url) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    return pictures_made(url)


def test_killed_gateway_loses_nothing_and_nothing_is_done_twice(url):
    expected = {number: ask(url, number)["data"] for number in range(3)}
    before = all_made(url, len(expected))  # edges report their last pictures a little later
    gateways = processes(":gateway")
    assert len(gateways) == 2
    with ThreadPoolExecutor(12) as pool:
        work = [pool.submit(ask, url, number) for number in range(REQUESTS)]
        while sum(one.done() for one in work) < REQUESTS // 4:
            time.sleep(0.05)
        gateways[0].kill()
        health = [httpx.get(f"{url}/healthz", timeout=30).status_code for _ in range(5)]
        answers = [one.result() for one in work]
    assert health == [200] * 5
    assert {number: answers[number]["data"] for number in expected} == expected
    assert all_made(url, before + REQUESTS) == before + REQUESTS, "some were done twice"


def test_killed_proxy_loses_nothing_for_clients_that_name_their_requests(url):
    def insist(number):
        headers = {"idempotency-key": f"request-{number}"}
        for _ in range(600):
            try:
                return ask(url, number, headers, num_inference_steps=40)
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError("no proxy came back")

    before = all_made(url, 0)
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(insist, number) for number in range(REQUESTS // 2)]
        while sum(one.done() for one in work) < 5:
            time.sleep(0.05)
        (proxy,) = processes("ProxyActor")
        proxy.kill()
        answers = [one.result() for one in work]
    assert all(base64.b64decode(answer["data"][0]["b64_json"]) for answer in answers)
    assert all_made(url, before + REQUESTS // 2) == before + REQUESTS // 2, "some were done twice"
