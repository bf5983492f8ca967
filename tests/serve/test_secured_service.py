# SPDX-License-Identifier: Apache-2.0
"""A service with TLS, API keys, two gateways and traces on Ray Serve, through its proxy."""

from __future__ import annotations

import ssl
import time

import httpx
import pytest

from edgegen.platform.ports import free_ports
from edgegen.serve.http.key_file import KeyFile, new_key
from edgegen.serve.running import running_service
from tests.serve.certificates import write_certificate
from tests.serve.emulated_service import MODEL, emulated_config
from tests.serve.fake_edges import URL, check_error
from tests.serve.otlp_receiver import receiving, spans_of

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

BODY = {"prompt": "a red circle", "num_inference_steps": 1}
KIND = "invalid_request_error"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_keys_tls_and_traces_through_the_proxy(tmp_path, monkeypatch):
    write_certificate(tmp_path)
    free, open_key = new_key("free")
    few, limited = new_key("few", requests_per_minute=4)
    file = tmp_path / "keys.json"
    file.write_text(KeyFile(keys=(open_key, limited)).text())
    config = emulated_config(
        speed=50.0,
        gateways=2,
        keys=str(file),
        tls_certificate=str(tmp_path / "cert.pem"),
        tls_key=str(tmp_path / "key.pem"),
        cors_origins=["https://app.example.org"],
        log_format="json",
    )
    with receiving() as (receiver, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        (port,) = free_ports(1)
        with running_service(config, port) as url:
            assert url == f"https://127.0.0.1:{port}"
            trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
            base = f"https://localhost:{port}"
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"http://localhost:{port}/healthz", timeout=10, trust_env=False)
            with httpx.Client(base_url=base, verify=trust, timeout=60, trust_env=False) as client:
                _ask_with_and_without_keys(client, free, few)
                file.write_text(KeyFile(keys=(limited,)).text())
                deadline = time.monotonic() + 10
                revoked = 0
                while revoked < 8 and time.monotonic() < deadline:  # both gateways have been asked then
                    status = client.get("/v1/models", headers=_bearer(free)).status_code
                    revoked = revoked + 1 if status == 401 else 0
                    time.sleep(0.2)
                assert revoked == 8
        traces = spans_of(got)
    expected = {f"POST {URL}", f"generate_content {MODEL}", "admission", "decision", "edge edge-a", "generate"}
    assert expected <= set(traces[TRACE])


def _ask_with_and_without_keys(client, free, few):
    missing = client.post(URL, json=BODY)
    check_error(missing, 401, KIND, "no API key")
    assert missing.headers["x-request-id"]
    assert client.get("/healthz").json() == {"status": "ok", "stopping": False}
    headers = {**_bearer(free), "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    answer = client.post(URL, json={**BODY, "edge": "edge-a"}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = client.get("/metrics", headers=_bearer(free))
    assert f'edgegen_requests_running{{model="{MODEL}"}}' in page.text
    asked = {"origin": "https://evil.example.org", "access-control-request-method": "POST"}
    check_error(client.options(URL, headers=asked), 403, KIND, "evil")
    # Four in a minute are two at each of two gateways, and together never more than four and what fills meanwhile.
    answers = [client.post(URL, json=BODY, headers=_bearer(few)) for _ in range(12)]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert 2 <= statuses.count(200) <= 5
    refused = answers[statuses.index(429)]
    check_error(refused, 429, "rate_limit_error", "4 requests per minute")
    assert int(refused.headers["retry-after"]) >= 1


def _bearer(text):
    return {"authorization": f"Bearer {text}"}
