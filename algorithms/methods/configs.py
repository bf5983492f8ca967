# SPDX-License-Identifier: Apache-2.0
"""The methods of the package in RLlib's idiom: an algorithm that is known by its name, and a config that builds it."""

from __future__ import annotations

from edgegen.algorithms.rllib.algorithm import JointAlgorithm
from edgegen.algorithms.rllib.config import JointConfig


class LADTS(JointAlgorithm):
    """LAD-TS as an RLlib algorithm."""

    @classmethod
    def get_default_config(cls) -> LADTSConfig:
        """Return the settings' defaults on the default scenario."""
        return LADTSConfig(algo_class=cls)


class LADTSConfig(JointConfig):
    """Builds a :class:`LADTS`.

    Example:
        >>> config = LADTSConfig().scenario("demo").preset("improved").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    method_name = "ladts"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or LADTS)


class T2DRL(JointAlgorithm):
    """T2DRL as an RLlib algorithm: the allocator learns from slots, the cacher from frames."""

    @classmethod
    def get_default_config(cls) -> T2DRLConfig:
        """Return the settings' defaults on the default scenario."""
        return T2DRLConfig(algo_class=cls)


class T2DRLConfig(JointConfig):
    """Builds a :class:`T2DRL`.

    Example:
        >>> config = T2DRLConfig().scenario("t2drl-contended").preset("improved").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    method_name = "t2drl"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or T2DRL)
