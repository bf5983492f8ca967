# SPDX-License-Identifier: Apache-2.0
"""The config of every method: validated settings as attributes, presets, and a world that RLlib never makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from edgegen.algorithms.methods.registry import Method, find_method
from edgegen.algorithms.rllib.algorithm import JointAlgorithm
from edgegen.algorithms.rllib.learner import JointLearner
from edgegen.algorithms.rllib.private import PlacedLearnerGroup, reserved
from edgegen.algorithms.rllib.role import Learning
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.core.world import WorldScenario

ENV_NAME = "edgegen-array"
"""A name only: array env runners make their simulators from ``env_config``, RLlib never makes an env."""

STALENESS = 4.0
"""How old weights may get, in fragments of every env runner, unless told otherwise."""


class JointConfig(AlgorithmConfig):
    """An AlgorithmConfig of a method, whose own settings are one validated pydantic model.

    Every field of the settings is an attribute of the config, so ``training(actor_lr=...)`` and Tune's
    ``param_space`` reach it by name.
    """

    method_name: ClassVar[str]
    """Name of the method."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or JointAlgorithm)
        self._take(self.method.settings())
        self.env_runner_cls = JointEnvRunner
        self.rollout_fragment_length: int = 1
        self.disable_env_checking = True
        self.num_env_runners = 0
        self.num_learners = 0
        self.min_time_s_per_iteration = None
        self.min_sample_timesteps_per_iteration = 0
        self.placement_wait_s: float | None = None
        self.staleness: float = STALENESS
        self.replay_shards = 0
        # RLlib would let a process that failed wait a minute, and everybody else with it.
        self.delay_between_env_runner_restarts_s = 0.0
        self.env_runner_health_probe_timeout_s = 1.0

        self.scenario(self.method.default_scenario)

    @property
    def method(self) -> Method:
        """The method."""
        return find_method(type(self).method_name)

    def scenario(self, scenario: str | Path | WorldScenario) -> Self:
        """Choose the world: the name or path of a scenario, or one."""
        return self.world(as_scenario(scenario, self.method.scenario))

    def learning(self) -> Learning:
        """The method in training, with these settings in the chosen world."""
        scenario = self.method.build_scenario(dict(self.env_config["scenario"]))
        return self.method.learning(scenario, self.settings())

    def get_default_learner_class(self) -> type[JointLearner]:
        """The learner."""
        return JointLearner

    def module_specs(self) -> dict[str, RLModuleSpec]:
        """The modules by name, one for each role."""
        return {
            name: RLModuleSpec(
                module_class=role.module_class,
                observation_space=role.spaces.state,
                action_space=role.spaces.action,
                model_config=role.model_config,
            )
            for name, role in self.learning().roles.items()
        }

    def _take(self, settings: BaseModel) -> None:
        for name, value in settings.model_dump().items():
            setattr(self, name, value)

    def world(self, scenario: BaseModel) -> Self:
        """Choose the world."""
        self.env_config: dict[str, Any] = {}  # environment() would merge the new world into the old one, field by field
        self.environment(ENV_NAME, env_config={"scenario": scenario.model_dump()})
        return self

    def placement(self, strategy: Literal["PACK", "SPREAD"] = "PACK", wait_s: float | None = None) -> Self:
        """Choose where remote env runners and learners run.

        Args:
            strategy: ``PACK`` on few nodes, or ``SPREAD`` over many.
            wait_s: How long to wait for room, s. If None, a request that does not even fit an idle cluster is refused
                at once; a cluster that grows on demand needs a number.
        """
        self.resources(placement_strategy=strategy)
        self.placement_wait_s = wait_s
        return self

    def asynchronous(self, staleness: float = STALENESS, shards: int = 0) -> Self:
        """Let env runners play and learners learn without taking turns; both must be remote.

        Args:
            staleness: After how many fragments of every env runner a fragment is learned from at the latest, counted
                from the weights it was played with: learners go on by half of them while it is played, and half of
                them wait.
            shards: Replay shards; 0 is one for every six env runners of a host.
        """
        from edgegen.algorithms.rllib.asynchronous.algorithm import AsynchronousAlgorithm

        self.algo_class = AsynchronousAlgorithm
        # There are no connectors whose states could be merged, and a call would wait for whole episodes.
        self.env_runners(merge_env_runner_states=False, broadcast_env_runner_states=False)
        self.staleness, self.replay_shards = staleness, shards
        return self

    def build_learner_group(
        self,
        *,
        env: Any = None,
        spaces: Any = None,
        rl_module_spec: Any = None,
        placement_group: Any = None,
    ) -> PlacedLearnerGroup:
        """Build the learners, in the room that was reserved for them."""
        spec = rl_module_spec or self.get_multi_rl_module_spec(env=env, spaces=spaces)
        return PlacedLearnerGroup(config=self.copy(), module_spec=spec, placement_group=placement_group or reserved())

    def preset(self, name: str, **overrides: Any) -> Self:
        """Take all settings from a preset, some replaced.

        Raises:
            InputError: If the preset or a field is unknown, or a value is impossible.
        """
        self._take(self.method.make_settings(name, overrides))
        return self

    def training(self, **kwargs: Any) -> Self:
        """Set any field of the settings, or any of RLlib's own training settings.

        Raises:
            InputError: If a value of the settings is impossible.
        """
        fields = self.method.settings.model_fields
        own = {name: kwargs.pop(name) for name in list(kwargs) if name in fields}
        super().training(**kwargs)
        self._take(self.method.make_settings(overrides={**self._own_values(), **own}))
        return self

    def _own_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.method.settings.model_fields}

    def settings(self) -> Any:
        """The settings as validated data."""
        return self.method.make_settings(overrides=self._own_values())

    def validate(self) -> None:
        """Check the settings as RLlib checks its own."""
        super().validate()
        self.settings()

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The first of the modules."""
        return next(iter(self.module_specs().values()))

    def get_multi_rl_module_spec(self, *, inference_only: bool = False, **kwargs: Any) -> MultiRLModuleSpec:
        """All modules, whatever spaces RLlib found."""
        specs = self.module_specs()
        for spec in specs.values():
            spec.inference_only = inference_only
        return MultiRLModuleSpec(rl_module_specs=specs, inference_only=inference_only)
