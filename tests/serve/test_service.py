# SPDX-License-Identifier: Apache-2.0
"""The whole service on Ray Serve: three edges with real, tiny pipelines in processes of their own."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from edgegen.envs.core.errors import InputError
from edgegen.platform.ports import free_ports
from edgegen.serve.app import app
from edgegen.serve.config import load_config
from edgegen.serve.running import _check_room, running_service

pytestmark = pytest.mark.e2e

MONITORING = Path(__file__).parents[2] / "k8s" / "monitoring"
SCRIPT = """
import sys, time
from edgegen.serve.running import running_service
from edgegen.serve.config import load_config
try:
    with running_service(load_config(sys.argv[1]), int(sys.argv[2])) as url:
        print(url, flush=True)
        while True:
            time.sleep(1)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def service_process(config_path):
    """Run a service as a program of its own; it must stop on SIGTERM and leave nothing behind."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(config_path), str(port)], stdout=subprocess.PIPE)
    output = process.stdout
    assert output is not None
    try:
        url = output.readline().decode().strip()
        assert url == f"http://127.0.0.1:{port}", url
        yield url
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) > 5
        with ThreadPoolExecutor(3) as pool:
            work = [pool.submit(ask, url, "edge-a", 100) for _ in range(3)]
            while edges(url)["edge-a"]["queue_length"] < 2:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert [future.result().status_code for future in work] == [200] * 3
        assert output.read().decode().endswith("stopped\n")
        assert process.wait(60) == 0
        deadline = time.monotonic() + 20
        while any(map(alive, started)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [one for one in started if alive(one)] == []
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def url(tiny_pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("service") / "tiny.yaml"
    slowdowns = {"edge-a": 1, "edge-b": 3, "edge-c": 9}
    fields = {
        "models": {tiny_pipeline: {"cycles_per_step_gcycles": 0.1, "sizes": ["16x16"], "max_steps": 200}},
        "edges": [{"name": n, "model": tiny_pipeline, "slowdown": slowdown} for n, slowdown in slowdowns.items()],
        "policy": "local",  # every request goes where the test sends it
        "report_period_s": 0.2,
        "max_queue": 6,
        "max_held": 0,  # what no queue holds is refused
    }
    path.write_text(yaml.safe_dump(fields))
    with service_process(path) as base_url:
        yield base_url


def ask(url, edge="edge-a", steps=5, **fields):
    body = {"prompt": "a red circle", "edge": edge, "num_inference_steps": steps, **fields}
    return httpx.post(f"{url}/v1/images/generations", json=body, timeout=120)


def edges(url):
    return {state["name"]: state for state in httpx.get(f"{url}/v1/edges", timeout=30).json()["data"]}


def test_answer(url):
    response = ask(url, n=2, seed=4)
    assert response.status_code == 200
    answer = response.json()
    assert {"created", "data", "edgegen"} <= set(answer)
    pictures = [base64.b64decode(picture["b64_json"]) for picture in answer["data"]]
    assert [Image.open(io.BytesIO(picture)).size for picture in pictures] == [(16, 16)] * 2
    assert pictures[0] != pictures[1]
    served = answer["edgegen"]
    assert (served["server"], served["home"], served["fallback"]) == ("edge-a", "edge-a", None)
    assert served["workload_gcycles"] == pytest.approx(1.0)
    assert served["total_s"] >= served["queue_s"] + served["generation_s"]


def test_seed_gives_the_same_picture_on_every_edge(url):
    first, second = (ask(url, edge, seed=11).json()["data"] for edge in ("edge-a", "edge-b"))
    assert first == second


def test_errors_have_the_openai_shape(url):
    answers = [
        ask(url, prompt=""),
        ask(url, model="other"),
        ask(url, steps=1000),
        httpx.post(f"{url}/v1/images/generations", content=b"{", headers={"content-type": "application/json"}),
        httpx.post(f"{url}/v1/images/generations", content=b"{}"),
        httpx.get(f"{url}/v1/images/generations"),
        httpx.get(f"{url}/nowhere"),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 415, 405, 404]
    for answer in answers:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_burst_is_served_first_come_first_served(url):
    with ThreadPoolExecutor(6) as pool:
        answers = [response.json() for response in pool.map(lambda _: ask(url, steps=20), range(6))]
    served = sorted((answer["edgegen"] for answer in answers), key=lambda one: one["queue_s"])
    for one, following in pairwise(served):
        assert following["queue_s"] > one["queue_s"]
    # The last one waits for all five others, however long each took; for three of them if it was late itself.
    assert served[-1]["queue_s"] > 3 / 5 * sum(one["generation_s"] for one in served[:-1]) > 0


@pytest.mark.soak
def test_edges_have_unequal_speeds(url):
    def generation_s(edge):
        return ask(url, edge, steps=10).json()["edgegen"]["generation_s"]

    # In turn, and the best of each, so that a busy moment of the machine does not hit one edge alone.
    rounds = [[generation_s(edge) for edge in ("edge-a", "edge-b", "edge-c")] for _ in range(4)]
    fastest = [min(times) for times in zip(*rounds, strict=True)]
    assert fastest[0] < fastest[1] < fastest[2]


def test_backlog_falls_while_a_picture_is_made(url):
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(ask, url, "edge-c", 30)
        seen = []
        while not work.done():
            state = edges(url)["edge-c"]
            if state["in_work"]:
                seen.append(state["backlog_gcycles"])
            time.sleep(0.05)
        assert work.result().status_code == 200
    assert 0 < max(seen) <= 3.0 + 1e-6
    assert seen[-1] < 0.7 * seen[0]
    assert edges(url)["edge-c"]["backlog_gcycles"] == 0


@pytest.mark.soak
def test_client_that_goes_away_frees_the_edge(url):
    body = {"prompt": "a red circle", "edge": "edge-c", "num_inference_steps": 200}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/images/generations", json=body, timeout=1)
    deadline = time.monotonic() + 10
    while edges(url)["edge-c"]["in_work"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not edges(url)["edge-c"]["in_work"]
    assert ask(url, "edge-c", steps=1).json()["edgegen"]["queue_s"] < 10  # 200 steps take longer


def test_health(url):
    health = httpx.get(f"{url}/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "ok")


def test_port_in_use_is_refused_before_anything_starts(url):
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(InputError, match=f"Port {port} "), running_service(load_config("demo"), port):
        pass


def test_reservations_that_can_never_be_met_are_refused(monkeypatch):
    demo = load_config("demo")
    config = demo.model_copy(update={"edges": (*demo.edges[:2], demo.edges[2].model_copy(update={"num_gpus": 1000}))})
    (port,) = free_ports(1)
    shares = [demo.edges[0].model_copy(update={"num_gpus": share}) for share in (0.2, 0.4, 0.3, 0.1)]  # a bit above 1
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0})
    _check_room(demo.model_copy(update={"edges": tuple(shares)}))
    monkeypatch.undo()
    refused = r"reserves 1000 of 'GPU' .* this machine has \d+\."
    with pytest.raises(InputError, match=refused), running_service(config, port):
        pass


@pytest.mark.soak
def test_killed_edge_loses_no_request(url):
    victim = edges(url)["edge-c"]
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(ask, url, "edge-c", 40, seed=seed) for seed in range(3)]
        while edges(url)["edge-c"]["queue_length"] < 2:
            time.sleep(0.05)
        os.kill(victim["pid"], signal.SIGKILL)
        answers = [future.result() for future in work]
    assert [answer.status_code for answer in answers] == [200] * 3
    for answer in answers:
        served = answer.json()["edgegen"]
        assert served["server"] in ("edge-a", "edge-b")
        assert "edge-c" in served["fallback"]
    health = httpx.get(f"{url}/healthz").json()
    assert health["status"] == "degraded"
    assert health["edges"]["edge-c"]["healthy"] is False
    answer = ask(url, "edge-c").json()["edgegen"]  # the policy insists on an edge that is gone
    assert answer["server"] != "edge-c"
    assert "unhealthy" in answer["fallback"]


def exported(url):
    """Metrics as Prometheus would scrape them from the service's node, by name, each with its labels and value."""
    raylet = psutil.Process(next(iter(edges(url).values()))["pid"]).parent()
    words = raylet.cmdline()
    (session,) = {re.findall(r"--session-dir=(\S+)", part)[0] for part in words if "--session-dir=" in part}
    (port_file,) = Path(session).glob("metrics_export_port_*")
    host = re.findall(r"--node-ip-address=(\S+)", " ".join(words))[0]
    families = text_string_to_metric_families(httpx.get(f"http://{host}:{port_file.read_text()}/metrics").text)
    found: dict[str, Any] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples, **labels):
    return sum(value for found, value in samples if labels.items() <= found.items())


@pytest.mark.soak
def test_metrics_tell_what_happened_and_everything_shown_exists(url):
    """Stands behind the tests above: an edge has been killed and requests have moved on."""
    assert ask(url, "edge-a", steps=1, n=2).status_code == 200
    full = [f"edge-{letter}" for letter in "abc"] * 12
    with ThreadPoolExecutor(len(full)) as pool:
        asked = [pool.submit(ask, url, edge, 20) for edge in full]
        codes = [response.result().status_code for response in asked]
    assert set(codes) <= {200, 429}
    refused = codes.count(429)
    assert refused  # more than the queues of all edges hold
    deadline = time.monotonic() + 60
    metrics = exported(url)
    while total(metrics.get("ray_edgegen_refusals_total", ())) < refused and time.monotonic() < deadline:
        time.sleep(1)
        metrics = exported(url)
    assert total(metrics["ray_edgegen_refusals_total"], code="queues_full") == refused
    assert total(metrics["ray_edgegen_edge_failures_total"], edge="edge-c", reason="lost") == 3
    decisions = metrics["ray_edgegen_decisions_total"]
    assert total(decisions, edge="edge-a", decided_by="policy") > 0
    assert total(decisions, decided_by="fallback") >= 4
    answered = total(metrics["ray_edgegen_request_seconds_count"])
    assert total(metrics["ray_edgegen_generation_seconds_count"]) == answered
    assert total(metrics["ray_edgegen_pictures_total"]) > answered  # some asked for two
    for gauge in ("queue_length", "backlog_gcycles", "capacity_gcycles_per_second", "edge_healthy"):
        assert {labels["edge"] for labels, _ in metrics[f"ray_edgegen_{gauge}"]} == {"edge-a", "edge-b", "edge-c"}
    shown = set()
    for file in ("dashboard.json", "rules.yaml"):
        shown |= set(re.findall(r"ray_[a-z0-9_]+", (MONITORING / file).read_text()))
    assert len(shown) > 12
    # This service has no keys, and its edges load no second model.
    not_here = {f"ray_edgegen_{name}" for name in ("api_keys_sound", "model_loads_total", "load_seconds_bucket")}
    assert shown - set(metrics) - not_here == set()


@pytest.mark.soak
def test_gateway_that_dies_loses_no_request(url):
    raylet = psutil.Process(edges(url)["edge-a"]["pid"]).parent()
    (gateway,) = [one for one in raylet.children() if any(":gateway" in part for part in one.cmdline())]
    with ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(ask, url, "edge-a", 150)
        while not edges(url)["edge-a"]["in_work"]:
            time.sleep(0.05)
        gateway.kill()
        health = httpx.get(f"{url}/healthz", timeout=30)
        assert health.headers["content-type"] == "application/json"
        assert health.status_code == 200 or health.json()["status"] == "unavailable"
        later = pool.submit(ask, url, "edge-a", 1)
        assert [under_way.result().status_code, later.result().status_code] == [200, 200]


@pytest.mark.soak
def test_half_sent_requests_hold_up_nobody(url):
    port = int(url.rsplit(":", 1)[1])
    head = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    try:
        for number, one in enumerate(slow):
            one.sendall(head if number % 2 else head + b'\r\n{"prompt": "a')
        assert httpx.get(f"{url}/healthz", timeout=10).status_code in (200, 503)
        assert ask(url, steps=1).status_code == 200
        answers = [b"".join(iter(partial(one.recv, 4096), b"")) for one in slow[:2]]  # to the end
        assert all(answer.startswith(b"HTTP/1.1 408 ") and b'"error"' in answer for answer in answers)
    finally:
        for one in slow:
            one.close()


def test_builder_checks_the_policy_first(tiny_pipeline):
    with pytest.raises(InputError, match="Unknown policy"):
        app({"config": "demo", "policy": "nonsense"})


def test_builder_checks_folders_of_models_first(tmp_path, make_config):
    with pytest.raises(InputError, match="it has no model_index"):
        app(make_config(str(tmp_path)).model_dump(mode="json"))
