"""LAD-TS in RLlib's idiom."""

from __future__ import annotations

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.rllib.algorithm import JointAlgorithm
from edgegen.algorithms.rllib.config import JointConfig


class LADTS(JointAlgorithm):
    """LAD-TS as an RLlib algorithm."""

    @classmethod
    def get_default_config(cls) -> LADTSConfig:
        """The ``paper`` preset on the default scenario."""
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

    def actor_spec(self) -> ActorSpec:
        """The actor these settings ask for in the chosen scenario."""
        spec: ActorSpec = self.learning().roles["router"].spec  # type: ignore[attr-defined]  # of this method
        return spec
