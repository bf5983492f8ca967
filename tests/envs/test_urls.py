# SPDX-License-Identifier: Apache-2.0
"""URLs of this machine, and proxies for them."""

import os

import pytest
from requests.utils import get_environ_proxies

from edgegen.envs.urls import is_loopback, reach_directly

NAMES = [name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "127.1", "localhost", "LOCALHOST.", "a.localhost", "::1", "[::1]", "::ffff:127.0.0.1",
     "0.0.0.0", "::"],
)  # fmt: skip
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "128.0.0.1", "localhost.org", "mylocalhost", "fe80::1", "", "a b"])
def test_other_machines(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://localhost:5000/x", "http://me:pw@[::1]:5000"])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
@pytest.mark.parametrize("exceptions", [None, "10.0.0.0/8", "example.org, 127.0.0.0/8"])
def test_libraries_reach_this_machine_directly(monkeypatch, url, spelling, exceptions):
    monkeypatch.setenv(spelling("http_proxy"), "http://127.0.0.1:9")
    if exceptions:
        monkeypatch.setenv(spelling("no_proxy"), exceptions)
    reach_directly(url)
    assert get_environ_proxies(url) == {}
    reach_directly(url)
    assert len(os.environ["no_proxy"].split(",")) == len(set(os.environ["no_proxy"].split(",")))
    elsewhere = get_environ_proxies("http://93.184.216.34:5000")
    assert elsewhere["http"] == "http://127.0.0.1:9"
    if exceptions == "10.0.0.0/8":
        assert get_environ_proxies("http://10.1.2.3") == {}


@pytest.mark.parametrize("url", ["http://example.org", "sqlite:////tmp/mlflow.db", "", "http://[::1", "databricks"])
def test_other_urls_change_nothing(monkeypatch, url):
    monkeypatch.setenv("NO_PROXY", "example.com")
    before = dict(os.environ)
    reach_directly(url)
    assert dict(os.environ) == before
