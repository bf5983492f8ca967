# SPDX-License-Identifier: Apache-2.0
"""Ports that nobody uses, for servers that a command or a test starts beside others."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(number: int, host: str = "127.0.0.1") -> list[int]:
    """Return different TCP ports of an address that are free right now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(number)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
