"""Configuration of LAD-TS in RLlib's idiom."""

from __future__ import annotations

from typing import Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.dqn import DQNLearner, DQNModule
from edgegen.algorithms.ladts.learner import LADTSLearner
from edgegen.algorithms.ladts.module import MODULE_ID, LADTSModule
from edgegen.algorithms.ladts.runner import LADTSRunner, spaces_of
from edgegen.algorithms.ladts.settings import LADTSSettings, make_settings
from edgegen.algorithms.rllib.config import ArrayConfig
from edgegen.envs.offloading.scenario import OffloadingScenario, build_scenario, load_scenario


class LADTSConfig(ArrayConfig):
    """Builds a :class:`~edgegen.algorithms.ladts.algorithm.LADTS`.

    Example:
        >>> config = LADTSConfig().scenario("demo").preset("improved").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    settings_class = LADTSSettings
    settings_maker = staticmethod(make_settings)

    def __init__(self, algo_class: type | None = None) -> None:
        from edgegen.algorithms.ladts.algorithm import LADTS

        super().__init__(algo_class or LADTS)
        self.env_runner_cls = LADTSRunner
        self.scenario("demo")

    def scenario(self, scenario: str | OffloadingScenario) -> Self:
        """Choose the world: the name of a scenario, or one."""
        return self.world(scenario if isinstance(scenario, OffloadingScenario) else load_scenario(scenario))

    def actor_spec(self) -> ActorSpec:
        """The actor these settings ask for in the chosen scenario."""
        return ActorSpec.of(build_scenario(dict(self.env_config["scenario"])), self.settings())

    def get_default_learner_class(self) -> type[LADTSLearner | DQNLearner]:
        """The learner."""
        return DQNLearner if self.settings().actor == "q" else LADTSLearner

    def module_specs(self) -> dict[str, RLModuleSpec]:
        """One module holds all agents; its model config is the actor's spec."""
        spec = self.actor_spec()
        state, action = spaces_of(spec)
        module = RLModuleSpec(
            module_class=DQNModule if spec.actor == "q" else LADTSModule,
            observation_space=state,
            action_space=action,
            model_config={
                "spec": spec.model_dump(),
                "initial_temperature": self.settings().initial_temperature,
                "reward_scale": self.settings().reward_scale,
            },
        )
        return {MODULE_ID: module}
