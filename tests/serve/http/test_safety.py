# SPDX-License-Identifier: Apache-2.0
"""What every request and answer keeps to: sizes, hosts, origins and headers; and certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.serve.bounded_http import BoundedProtocol
from edgegen.serve.http.key_file import KeyFile, new_key
from edgegen.serve.http.safety import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from edgegen.serve.image_request import MOST_NAME
from edgegen.serve.running import base_url, check_port
from edgegen.serve.tls import Certificate
from tests.serve.certificates import write_certificate
from tests.serve.fake_edges import URL, check_error, serve

KIND = "invalid_request_error"
PAGE = "https://app.example.org"


def test_sizes_of_addresses_and_headers(make_config):
    async def scenario(client, edges, gateway):
        path = "/v1/models?" + "x" * (MAX_URL_BYTES - len("/v1/models"))
        assert (await client.get(path)).status_code == 200
        check_error(await client.get(path + "x"), 414, KIND, str(MAX_URL_BYTES))
        few = {f"x-{number}": "y" for number in range(MAX_HEADERS - 10)}
        assert (await client.get("/v1/models", headers=few)).status_code == 200
        many = {f"x-{number}": "y" for number in range(MAX_HEADERS + 1)}
        check_error(await client.get("/v1/models", headers=many), 431, KIND, str(MAX_HEADERS))
        large = {"x-large": "y" * MAX_HEADER_BYTES}
        check_error(await client.get("/v1/models", headers=large), 431, KIND, str(MAX_HEADER_BYTES))

    serve(scenario, make_config())


@pytest.mark.parametrize("body", [b'{"prompt": ' * 50_000, b'{"prompt": "x", "user": ' + b"9" * 200_000 + b"}"])
def test_deep_and_long_json(make_config, body):
    async def scenario(client, edges, gateway):
        answer = await client.post(URL, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, len(answer.content) < 1000) in [(400, True), (413, True)]

    serve(scenario, make_config())


def test_usual_headers(make_config):
    async def scenario(client, edges, gateway):
        for path in ("/v1/models", "/healthz", "/nowhere", "/v1/models/none"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["referrer-policy"] == "no-referrer"
            assert (headers.get("cache-control") == "no-store") is path.startswith("/v1/")
            assert not any(name.startswith("access-control") for name in headers)
        assert "content-security-policy" not in (await client.get("/docs")).headers

    serve(scenario, make_config())


def test_origins_are_allowed_by_name(make_config, tmp_path):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    text, key = new_key("page", requests_per_minute=5)
    file = tmp_path / "keys.json"
    file.write_text(KeyFile(keys=(key,)).text())

    async def scenario(client, edges, gateway):
        allowed = await client.options(URL, headers={"origin": PAGE, **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        for origin in ("https://evil.example.org", "null", f"{PAGE}.evil.org", f"{PAGE}:444"):
            refused = await client.options(URL, headers={"origin": origin, **asked})
            check_error(refused, 403, KIND, origin, "cors_origins")
            assert "access-control-allow-origin" not in refused.headers
            answer = await client.get("/healthz", headers={"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
        headers = {"origin": PAGE, "authorization": f"Bearer {text}"}
        answer = await client.post(URL, json={"prompt": "x"}, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-ratelimit-remaining-requests" in answer.headers["access-control-expose-headers"]
        missing = await client.post(URL, json={"prompt": "x"}, headers={"origin": PAGE})  # errors can be read, too
        assert (missing.status_code, missing.headers["access-control-allow-origin"]) == (401, PAGE)

    serve(scenario, make_config(cors_origins=[PAGE], keys=str(file)))


def test_without_origins_pages_elsewhere_get_nothing(make_config):
    async def scenario(client, edges, gateway):
        asked = {"origin": PAGE, "access-control-request-method": "POST"}
        refused = await client.options(URL, headers=asked)
        assert refused.status_code == 405
        assert not any(name.startswith("access-control") for name in refused.headers)

    serve(scenario, make_config())


def test_hosts(make_config):
    async def scenario(client, edges, gateway):
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
            assert (await client.get("/v1/models", headers={"host": host})).status_code == 200, host
        for host in ("evil.example.org", "localhost.evil.org:8000", "", "127.0.0.1:8000:1", "localhost:x"):
            answer = await client.get("/v1/models", headers={"host": host})
            check_error(answer, 421, KIND, "localhost", "allowed_hosts")

    serve(scenario, make_config(allowed_hosts=["localhost", "127.0.0.1", "[::1]"]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cors_origins": ["*"]}, "every page"),
        ({"cors_origins": ["app.example.org"]}, "cors_origins"),
        ({"cors_origins": ["https://app.example.org/"]}, "cors_origins"),
        ({"allowed_hosts": ["https://x"]}, "allowed_hosts"),
        ({"tls_key": "x.pem"}, "together"),
        ({"keys": ""}, "keys"),
    ],
)
def test_impossible_configs(make_config, fields, words):
    with pytest.raises(InputError, match=words):
        make_config(**fields)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, signed by itself: its files and that of another key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("none.pem", "key.pem", "tls_certificate.*can not be read"),
        ("cert.pem", "none.pem", "tls_key.*can not be read"),
        ("cert.pem", "other.pem", "not the certificate of the key"),
        ("cert.pem", "locked.pem", "password"),
        ("text.pem", "key.pem", "no PEM"),
        ("cert.pem", "text.pem", "no PEM"),
    ],
)
def test_files_of_a_certificate_are_looked_at(certificate, cert, key, words):
    with pytest.raises(InputError, match=words) as refused:
        Certificate.of(str(certificate / cert), str(certificate / key))
    assert "\n" not in str(refused.value)


def test_the_bounded_protocol_speaks_tls(certificate):
    """What Serve gives to uvicorn, with the protocol that the proxy uses."""
    files = Certificate.of(str(certificate / "cert.pem"), str(certificate / "key.pem"))

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    async def scenario():
        config = uvicorn.Config(answer, http=BoundedProtocol, lifespan="off", log_config=None)
        config.ssl_certfile, config.ssl_keyfile = str(files.file), str(files.key)
        server = uvicorn.Server(config)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            running = asyncio.create_task(server.serve(sockets=[listening]))
            trust = ssl.create_default_context(cafile=str(files.file))
            url = f"https://localhost:{listening.getsockname()[1]}"
            while not server.started:
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
                assert (await client.get(url)).text == "https"
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient(trust_env=False) as client:
                    await client.get(url)
            server.should_exit = True
            await running

    asyncio.run(scenario())


def test_addresses():
    assert base_url("127.0.0.1", 1) == "http://127.0.0.1:1"
    assert base_url("0.0.0.0", 1, secure=True) == "https://127.0.0.1:1"
    assert base_url("::1", 1) == "http://[::1]:1"
    with pytest.raises(InputError, match=r"Port 80 of 192\.0\.2\.1"):
        check_port(80, "192.0.2.1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], None),
        (["--host", "0.0.0.0"], "no API keys"),
        (["--host", "192.168.1.5", "--set", "keys=keys.json"], "without TLS"),
        (["--host", "localhost", "--set", "keys=keys.json"], None),
        (["--host", "0.0.0.0", "--set", "keys=k", "--set", "tls_certificate=c", "--set", "tls_key=d"], None),
    ],
)
def test_serve_warns_of_who_may_ask(monkeypatch, options, words):
    def stop(*arguments, **rest):
        raise InputError("enough")

    monkeypatch.setattr("edgegen.serve.running.running_service", stop)
    result = CliRunner().invoke(app, ["serve", *options])
    assert "enough" in result.stderr
    assert ("Warning" in result.stderr) is (words is not None)
    assert words is None or words in result.stderr


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
def test_names_of_users_are_short(make_config, field):
    async def scenario(client, edges, gateway):
        assert (await client.post(URL, json={"prompt": "x", field: "u" * MOST_NAME})).status_code == 200
        refused = await client.post(URL, json={"prompt": "x", field: "u" * (MOST_NAME + 1)})
        check_error(refused, 400, KIND, field, str(MOST_NAME), param=field)

    serve(scenario, make_config())
