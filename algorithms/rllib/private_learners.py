# SPDX-License-Identifier: Apache-2.0
"""The private parts of Ray's library for training that are used here: how remote learners find each other."""

from __future__ import annotations

from typing import Any

from ray.train.torch.config import TorchConfig, _TorchBackend

from edgegen.algorithms.rllib.network import node_address, use_interface_of_node


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
