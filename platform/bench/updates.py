# SPDX-License-Identifier: Apache-2.0
"""What RLlib costs: updates of D3PG through its learner, beside a plain PyTorch loop over the same networks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from edgegen.algorithms.methods.configs import T2DRLConfig
from edgegen.algorithms.methods.t2drl import T2DRLSettings, T2DRLSpec
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.roles.allocator.networks import AllocationActor
from edgegen.algorithms.roles.allocator.objectives import actor_objective, critic_objective
from edgegen.envs.core.device import finish, is_gpu
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.view import ALLOCATOR

Seconds = tuple[float, float]
"""By wall clock, and by processor time of this process."""


def measure_updates(
    scenario: ProvisioningScenario, preset: str, repeats: int, updates: int, seed: int, device: str = "cpu"
) -> dict[str, list[Seconds]]:
    """Measure D3PG's update both ways, in turns, the sampling of the replay included.

    Args:
        scenario: The world.
        preset: Settings of T2DRL.
        repeats: Timed repeats, after one that is not counted.
        updates: Updates per repeat.
        seed: Of training and replay.
        device: Where the networks are; RLlib takes the first GPU, whatever the number.

    Returns:
        Seconds per update of every repeat, ``through RLlib`` and in a ``plain loop``.
    """
    with ray_session():
        config = T2DRLConfig().scenario(scenario).preset(preset).debugging(seed=seed)
        if is_gpu(device):
            config = config.learners(num_gpus_per_learner=1)
        algorithm = config.build_algo()
        try:
            settings, replay = algorithm.settings, algorithm.replays[ALLOCATOR]
            while int(replay.sizes.min()) < 4 * settings.batch_size:
                for fragment in algorithm.sample(scenario.slots_per_frame):
                    replay.add(fragment.roles[ALLOCATOR].columns, fragment.roles[ALLOCATOR].valid)
            loop = PlainD3PG(algorithm.learning.spec, settings, seed, device)

            def through_rllib() -> None:
                batch = MultiAgentBatch(
                    {ALLOCATOR: SampleBatch(replay.sample(settings.batch_size))}, settings.batch_size
                )
                algorithm.learner_group.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})

            def plain() -> None:
                columns = replay.sample(settings.batch_size)
                loop.update({name: value.to(device).transpose(0, 1) for name, value in columns.items()})

            ways = {"through RLlib": through_rllib, "plain loop": plain}
            measured: dict[str, list[Seconds]] = {name: [] for name in ways}
            for _ in range(repeats + 1):
                for name, update in ways.items():
                    measured[name].append(_per_call(update, updates, device))
            return {name: seconds[1:] for name, seconds in measured.items()}
        finally:
            algorithm.stop()


def _per_call(action: Callable[[], None], calls: int, device: str) -> Seconds:
    finish(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        action()
    finish(device)
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


class PlainD3PG:
    """The same update without RLlib: what a script would do.

    Args:
        spec: The networks.
        settings: The settings.
        seed: Of the chain's noise.
        device: Where the networks are.
    """

    def __init__(self, spec: T2DRLSpec, settings: T2DRLSettings, seed: int, device: str = "cpu") -> None:
        self.settings = settings
        self.actor, self.critic = spec.actor().to(device), spec.critic().to(device)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), settings.actor_lr, foreach=True)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), settings.critic_lr, foreach=True)
        self.generator = torch.Generator().manual_seed(seed)

    def update(self, batch: dict[str, Tensor]) -> None:
        """One step of the critic, one of the actor, and the soft targets."""
        for adam, objective in ((self.critic_adam, critic_objective), (self.actor_adam, actor_objective)):
            parameters = adam.param_groups[0]["params"]
            gradients = torch.autograd.grad(objective(self.settings, self, batch, self._noise), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            adam.step()
        with torch.no_grad():
            for network, target_network in ((self.actor, self.target_actor), (self.critic, self.target_critic)):
                torch._foreach_lerp_(list(target_network.parameters()), list(network.parameters()), self.settings.tau)

    def _noise(self, actor: AllocationActor, rows: int) -> Tensor | None:
        return actor.draw_noise(rows, self.generator)
