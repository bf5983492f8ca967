"""How learners on several machines find each other."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray
from ray.train.torch.config import TorchConfig, _TorchBackend

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


class LearnersBackend(_TorchBackend):
    """Sets up the process group of the learners; as RLlib's, every learner sees only its own GPU."""

    share_cuda_visible_devices = False

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Choose the network interface where it matters, then set up the process group."""
        if len(set(worker_group.execute(node_address))) > 1:
            worker_group.execute(use_interface_of_node)
        super().on_start(worker_group, backend_config)


class LearnersConfig(TorchConfig):
    """Names the backend."""

    @property
    def backend_cls(self) -> type[LearnersBackend]:
        """The backend."""
        return LearnersBackend
