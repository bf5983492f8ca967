"""T2DRL in RLlib's idiom."""

from __future__ import annotations

from edgegen.algorithms.rllib.algorithm import JointAlgorithm
from edgegen.algorithms.rllib.config import JointConfig
from edgegen.algorithms.t2drl.spec import T2DRLSpec


class T2DRL(JointAlgorithm):
    """T2DRL as an RLlib algorithm: the allocator learns from slots, the cacher from frames."""

    @classmethod
    def get_default_config(cls) -> T2DRLConfig:
        """The ``paper`` preset on the default scenario."""
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
        self.scenario("t2drl-default")

    def spec(self) -> T2DRLSpec:
        """The networks these settings ask for in the chosen scenario."""
        spec: T2DRLSpec = self.learning().spec  # type: ignore[attr-defined]  # of this method
        return spec
