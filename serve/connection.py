# SPDX-License-Identifier: Apache-2.0
"""How a service is reached over HTTP: directly on this machine, elsewhere through the proxy of the environment."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from requests.utils import get_environ_proxies, select_proxy

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.urls import is_loopback, shown

MAX_PORT = 65535
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
API_PATHS = ("/v1/images/generations", "/v1")
CERTIFICATE_FILE, CERTIFICATE_FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"


@dataclass(frozen=True)
class Connection:
    """What to open an HTTP client with.

    Attributes:
        base_url: The service, without a slash at the end.
        proxy: The proxy in between, or None.
        verify: Whom to trust.
    """

    base_url: str
    proxy: str | None
    verify: ssl.SSLContext | bool

    def client(self, **options: Any) -> httpx.Client:
        """Open a client; options are those of httpx."""
        return httpx.Client(base_url=self.base_url, **self._options(), **options)

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        """Open an asynchronous client; options are those of httpx."""
        return httpx.AsyncClient(base_url=self.base_url, **self._options(), **options)

    def where(self) -> str:
        """The service and how it is reached, for messages: without passwords."""
        through = f" through the proxy {shown(self.proxy)}" if self.proxy else ""
        return f"{shown(self.base_url)}{through}"

    def _options(self) -> dict[str, Any]:
        # The environment has been read: httpx would use its proxies for this machine, too, and not read all of it.
        return {"proxy": self.proxy, "verify": self.verify, "trust_env": False}


def connect(url: str) -> Connection:
    """Find out how a service is reached; nothing is sent yet.

    Args:
        url: The service, with or without ``/v1`` behind it.

    Raises:
        InputError: If it is no URL of a service, or the proxy or the certificates that the environment names can not be
            used.
    """
    base_url, parsed = _service_url(url)
    proxy = None if is_loopback(parsed.host) else select_proxy(base_url, get_environ_proxies(base_url))
    if proxy:
        proxy = _usable_proxy(proxy)
    secure = parsed.scheme == "https" or (proxy or "").startswith("https:")
    return Connection(base_url, proxy or None, _trust() if secure else False)


def _service_url(url: str) -> tuple[str, httpx.URL]:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InputError(f"'{shown(url)}' is no URL: {first_line(error)}.") from None
    bad = parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment
    if bad or not 1 <= (parsed.port or 1) <= MAX_PORT or parsed.port == 0:
        raise InputError(f"'{shown(url)}' is no URL of a service; it must look like http://HOST:PORT.")
    path = parsed.path.rstrip("/")
    ending = next((ending for ending in API_PATHS if path.endswith(ending)), "")
    path = path.removesuffix(ending).rstrip("/")
    parsed = parsed.copy_with(path=path or "/")
    return str(parsed).rstrip("/"), parsed


def _usable_proxy(proxy: str) -> str:
    """Return a proxy as httpx takes it."""
    full = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parsed = httpx.URL(full)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise _bad_proxy(proxy, first_line(error)) from None
    if parsed.scheme not in PROXY_SCHEMES:
        raise _bad_proxy(proxy, f"schemes are {', '.join(PROXY_SCHEMES)}")
    if not parsed.host or not 1 <= (parsed.port or 1) <= MAX_PORT or parsed.port == 0:
        raise _bad_proxy(proxy, "it must look like http://HOST:PORT")
    try:
        httpx.HTTPTransport(proxy=full, verify=False, trust_env=False).close()
    except ImportError:  # SOCKS needs a library of its own
        raise _bad_proxy(proxy, "SOCKS needs another library; install httpx[socks]") from None
    return full


def _bad_proxy(proxy: str, reason: str) -> InputError:
    return InputError(
        f"The proxy '{shown(proxy)}' can not be used ({reason}); it comes from HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in "
        "the environment."
    )


def _trust() -> ssl.SSLContext:
    """The certificates that the environment names, or the usual ones."""
    for name, exists in ((CERTIFICATE_FILE, Path.is_file), (CERTIFICATE_FOLDER, Path.is_dir)):
        value = os.environ.get(name)
        if not value:
            continue
        try:
            if not exists(Path(value)):
                raise OSError(f"there is no such {'file' if name == CERTIFICATE_FILE else 'folder'}")
            if name == CERTIFICATE_FILE:
                return ssl.create_default_context(cafile=value)
            return ssl.create_default_context(capath=value)
        except OSError as error:  # also what is wrong with the content
            reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else first_line(error)
            raise InputError(f"{name} is '{value}', but it can not be used: {reason}.") from None
    return httpx.create_ssl_context(trust_env=False)
