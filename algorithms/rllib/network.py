# SPDX-License-Identifier: Apache-2.0
"""How learners on several machines find each other."""

from __future__ import annotations

import os

import psutil
import ray

INTERFACE = "GLOO_SOCKET_IFNAME"


def node_address() -> str:
    """Address of the Ray node that this process is on."""
    return str(ray.util.get_node_ip_address())


def use_interface_of_node() -> None:
    """Let gloo talk through the network interface that has the node's address, unless the environment names another.

    On its own, gloo takes the address that the host's name stands for. On Debian and many others that is 127.0.1.1,
    where no other machine finds it.
    """
    address = node_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault(INTERFACE, name)
