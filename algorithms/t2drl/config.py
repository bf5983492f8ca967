"""Configuration of T2DRL in RLlib's idiom."""

from __future__ import annotations

from typing import Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from edgegen.algorithms.rllib.config import ArrayConfig
from edgegen.algorithms.t2drl.learner import T2DRLLearner
from edgegen.algorithms.t2drl.module import ALLOCATOR, CACHER, AllocatorModule, CacherModule
from edgegen.algorithms.t2drl.runner import T2DRLRunner, spaces_of
from edgegen.algorithms.t2drl.settings import T2DRLSettings, make_settings
from edgegen.algorithms.t2drl.spec import T2DRLSpec
from edgegen.envs.provisioning.scenario import ProvisioningScenario, build_provisioning, load_provisioning


class T2DRLConfig(ArrayConfig):
    """Builds a :class:`~edgegen.algorithms.t2drl.algorithm.T2DRL`.

    Example:
        >>> config = T2DRLConfig().scenario("t2drl-contended").preset("improved").debugging(seed=1)
        >>> algorithm = config.build_algo()
        >>> algorithm.train()
    """

    settings_class = T2DRLSettings
    settings_maker = staticmethod(make_settings)

    def __init__(self, algo_class: type | None = None) -> None:
        from edgegen.algorithms.t2drl.algorithm import T2DRL

        super().__init__(algo_class or T2DRL)
        self.env_runner_cls = T2DRLRunner
        self.scenario("t2drl-default")

    def scenario(self, scenario: str | ProvisioningScenario) -> Self:
        """Choose the world: the name of a scenario, or one."""
        return self.world(scenario if isinstance(scenario, ProvisioningScenario) else load_provisioning(scenario))

    def spec(self) -> T2DRLSpec:
        """The networks these settings ask for in the chosen scenario."""
        return T2DRLSpec.of(build_provisioning(dict(self.env_config["scenario"])), self.settings())

    def get_default_learner_class(self) -> type[T2DRLLearner]:
        """The learner."""
        return T2DRLLearner

    def module_specs(self) -> dict[str, RLModuleSpec]:
        """Two modules, one per timescale."""
        spec = self.spec()
        classes = {ALLOCATOR: AllocatorModule, CACHER: CacherModule}
        return {
            name: RLModuleSpec(
                module_class=classes[name],
                observation_space=state,
                action_space=action,
                model_config={"spec": spec.model_dump()},
            )
            for name, (state, action) in spaces_of(spec).items()
        }
