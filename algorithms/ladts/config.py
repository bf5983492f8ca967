"""Configuration of LAD-TS in RLlib's idiom."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.learner import LADTSLearner
from edgegen.algorithms.ladts.module import MODULE_ID, LADTSModule
from edgegen.algorithms.ladts.runner import LADTSRunner, spaces_of
from edgegen.algorithms.ladts.settings import LADTSSettings, make_settings
from edgegen.envs.scenario import Scenario, build_scenario, load_scenario

ENV_NAME = "edgegen-offloading-array"
"""A name only: the array env runner makes its simulator from ``env_config``, RLlib never makes an env."""


class LADTSConfig(AlgorithmConfig):
    """Builds a :class:`~edgegen.algorithms.ladts.algorithm.LADTS`.

    Every field of :class:`LADTSSettings` is an attribute of the config, so ``training(actor_lr=...)`` and Tune's
    ``param_space`` reach it by name.

    Example:
        >>> config = LADTSConfig().scenario("demo").preset("improved").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    def __init__(self, algo_class: type | None = None) -> None:
        from edgegen.algorithms.ladts.algorithm import LADTS

        super().__init__(algo_class=algo_class or LADTS)
        self._take(LADTSSettings())
        self.rollout_fragment_length: int = 1
        self.env_runner_cls = LADTSRunner
        self.disable_env_checking = True
        self.scenario("demo")
        self.num_env_runners = 0
        self.num_learners = 0
        self.min_time_s_per_iteration = None
        self.min_sample_timesteps_per_iteration = 0

    def _take(self, settings: LADTSSettings) -> None:
        for name, value in settings.model_dump().items():
            setattr(self, name, value)

    def scenario(self, scenario: str | Scenario) -> Self:
        """Choose the world: the name of a scenario, or one."""
        world = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
        self.environment(ENV_NAME, env_config={"scenario": world.model_dump()})
        return self

    def preset(self, name: str, **overrides: Any) -> Self:
        """Take all settings from a preset, some replaced.

        Raises:
            InputError: If the preset or a field is unknown, or a value is impossible.
        """
        self._take(make_settings(name, overrides))
        return self

    def training(self, **kwargs: Any) -> Self:
        """Set any field of :class:`LADTSSettings`, or any of RLlib's own training settings.

        Raises:
            InputError: If a value of LAD-TS's settings is impossible.
        """
        own = {name: kwargs.pop(name) for name in list(kwargs) if name in LADTSSettings.model_fields}
        super().training(**kwargs)
        self._take(make_settings(overrides={**self._own_values(), **own}))
        return self

    def _own_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in LADTSSettings.model_fields}

    def settings(self) -> LADTSSettings:
        """The settings as validated data."""
        return make_settings(overrides=self._own_values())

    def actor_spec(self) -> ActorSpec:
        """The actor these settings ask for in the chosen scenario."""
        return ActorSpec.of(build_scenario(dict(self.env_config["scenario"])), self.settings())

    def validate(self) -> None:
        """Check the settings as RLlib checks its own."""
        super().validate()
        self.settings()

    def get_default_learner_class(self) -> type[LADTSLearner]:
        """The learner."""
        return LADTSLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module, with the actor's spec as its model config."""
        spec = self.actor_spec()
        state, action = spaces_of(spec)
        return RLModuleSpec(
            module_class=LADTSModule,
            observation_space=state,
            action_space=action,
            model_config={"spec": spec.model_dump(), "initial_temperature": self.settings().initial_temperature},
        )

    def get_multi_rl_module_spec(self, *, inference_only: bool = False, **kwargs: Any) -> MultiRLModuleSpec:
        """One module holds all agents, whatever spaces RLlib found."""
        module = self.get_default_rl_module_spec()
        module.inference_only = inference_only
        return MultiRLModuleSpec(rl_module_specs={MODULE_ID: module}, inference_only=inference_only)
