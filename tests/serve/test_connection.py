# SPDX-License-Identifier: Apache-2.0
"""How a service is reached: what the environment says about proxies and certificates, and what a URL may look like."""

import re
from pathlib import Path

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.connection import connect

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
HERE, ELSEWHERE = "http://127.0.0.1:8000", "http://10.255.255.1:8000"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in (*VARIABLES, *map(str.upper, VARIABLES), *CERTIFICATES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "foo://x", "http://[::1", "x"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("exceptions", ["", "127.0.0.0/8", "example.org"])
def test_this_machine_is_asked_directly(monkeypatch, proxy, name, exceptions):
    monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", exceptions)
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")  # of no use to http
    for url in (HERE, "http://localhost:8000", "http://[::1]:8000"):
        connection = connect(url)
        assert connection.proxy is None
        connection.client().close()


def test_other_machines_are_asked_through_the_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "me:secret@127.0.0.1:9")
    connection = connect(ELSEWHERE)
    assert connection.proxy == "http://me:secret@127.0.0.1:9"
    assert connection.where() == f"{ELSEWHERE} through the proxy http://me:***@127.0.0.1:9"
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert connect(ELSEWHERE).proxy is None


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("foo://host:1", "schemes are http"),
        ("http://[::1", "Invalid"),
        ("http://host:port", "Invalid port"),
        ("http://host:99999", "must look like"),
        ("http://", "must look like"),
        ("socks4://host:1", "schemes are http"),
    ],
)
def test_proxies_that_can_not_be_used_are_one_sentence(monkeypatch, proxy, reason):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(InputError, match=reason) as caught:
        connect(ELSEWHERE)
    assert f"'{proxy}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_socks_without_its_library_is_one_sentence(monkeypatch):
    def missing(**options):
        raise ImportError("no socksio")

    monkeypatch.setattr("httpx.HTTPTransport", missing)
    monkeypatch.setenv("ALL_PROXY", "socks5://host:1")
    with pytest.raises(InputError, match=r"'socks5://host:1' can not be used \(SOCKS needs another library"):
        connect(ELSEWHERE)


@pytest.mark.parametrize(("name", "what"), [("SSL_CERT_FILE", "file"), ("SSL_CERT_DIR", "folder")])
def test_certificates_that_can_not_be_used_are_one_sentence(monkeypatch, tmp_path, name, what):
    monkeypatch.setenv(name, str(tmp_path / "gone"))
    with pytest.raises(InputError, match=rf"{name} is '.*gone', .* there is no such {what}\."):
        connect("https://127.0.0.1:8000")


def test_files_without_certificates_are_one_sentence(monkeypatch, tmp_path):
    file = tmp_path / "empty.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    for content in ("", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"SSL_CERT_FILE is .*: it holds no certificates\."):
            connect("https://10.255.255.1")
    monkeypatch.setenv("HTTP_PROXY", "https://10.0.0.1:1")  # the way to the proxy is encrypted, too
    with pytest.raises(InputError, match="SSL_CERT_FILE"):
        connect(ELSEWHERE)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/images/generations", "/v1/images/generations/"])
@pytest.mark.parametrize("prefix", ["", "/edgegen"])
def test_urls_with_and_without_the_path_of_the_interface(ending, prefix):
    assert connect(HERE + prefix + ending).base_url == HERE + prefix


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "127.0.0.1:8000", "ftp://host", "http://", "http:///", "http://h:0", "http://h:99999",
     "http://h:x", "http://h:-1", "http://[::1", "http://h?a=1", "http://h#a", "http://h\n", "//h"],
)  # fmt: skip
def test_what_is_no_url_of_a_service_is_one_sentence(url):
    with pytest.raises(InputError, match="is no URL") as caught:
        connect(url)
    assert str(caught.value).count(".\n") == 0


def test_http_is_spoken_in_one_place():
    """Whoever opens a connection in another way would follow proxies on the way to this machine."""
    opening = re.compile(
        r"httpx\.(get|post|request|stream|Client|AsyncClient)\(|urlopen\(|requests\.(get|post|Session)\("
    )
    rooms = Path(__file__).parents[2]
    files = [
        file for room in ("envs", "algorithms", "platform", "serve", "k8s") for file in (rooms / room).rglob("*.py")
    ]
    assert len(files) > 100
    found = {str(file.relative_to(rooms)) for file in files if opening.search(file.read_text(encoding="utf-8"))}
    assert found == {"serve/connection.py"}
