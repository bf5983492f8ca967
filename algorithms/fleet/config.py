# SPDX-License-Identifier: Apache-2.0
"""The fleet's joint learner in RLlib's idiom."""

from __future__ import annotations

from edgegen.algorithms.fleet.runner import FleetEnvRunner
from edgegen.algorithms.rllib.algorithm import JointAlgorithm
from edgegen.algorithms.rllib.config import JointConfig


class Fleet(JointAlgorithm):
    """The fleet's joint learner as an RLlib algorithm."""

    @classmethod
    def get_default_config(cls) -> FleetConfig:
        """The ``joint`` preset on the default scenario."""
        return FleetConfig(algo_class=cls)


class FleetConfig(JointConfig):
    """Builds a :class:`Fleet`.

    Example:
        >>> config = FleetConfig().scenario("fleet-8:scarce").preset("joint").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    method_name = "fleet"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or Fleet)
        self.env_runner_cls = FleetEnvRunner
