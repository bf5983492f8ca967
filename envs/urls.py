# SPDX-License-Identifier: Apache-2.0
"""URLs as they may be printed, and those of this very machine, which are asked directly: no proxy is meant for them."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import urlsplit

NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")


def shown(text: str) -> str:
    """Return a URL, or a text with URLs in it, as it may be printed: without passwords."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", text)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: a loopback address, one that stands for all of them, or ``localhost``."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))  # also reads 127.1, as connecting does
        except (OSError, ValueError):
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def reach_directly(url: str) -> None:
    """Keep libraries that read proxies from the environment from using one for a URL, if it is of this machine.

    Args:
        url: A URL; anything without a loopback host changes nothing.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:  # whoever opens it says what is wrong
        return
    if not host or not is_loopback(host):
        return
    # Lower case wins wherever both are read, so whatever is said in either has to stand in both.
    said = next((os.environ[name] for name in NO_PROXY_VARIABLES if os.environ.get(name)), "")
    if host not in (entry.strip() for entry in said.split(",")):
        said = f"{said},{host}" if said else host
    for name in NO_PROXY_VARIABLES:
        os.environ[name] = said
