"""The env runner of LAD-TS: plays the batched simulator and returns transitions with explicit latents."""

from __future__ import annotations

from itertools import groupby
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from edgegen.algorithms.ladts.actor import ActorSpec
from edgegen.algorithms.ladts.credit import delay_to_others
from edgegen.algorithms.ladts.dqn import DQNModule
from edgegen.algorithms.ladts.module import LATENT, MODULE_ID, NEXT_LATENT, LADTSModule
from edgegen.algorithms.ladts.policy import Decision, LADTSPolicy
from edgegen.algorithms.ladts.settings import LADTSSettings
from edgegen.algorithms.rllib.rollout import Fragment, concatenate
from edgegen.algorithms.rllib.runner import ArrayEnvRunner, Spaces
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario, build_scenario
from edgegen.envs.offloading.view import RouterView
from edgegen.envs.offloading.world import OffloadingWorld

DELAY = "delay_mean_s"
"""What is reported of an episode: mean service delay over its tasks, s."""


def spaces_of(spec: ActorSpec) -> Spaces:
    """Spaces of one decision: the state vector and the chosen server."""
    state = gym.spaces.Box(-np.inf, np.inf, (spec.state_size,), np.float32)
    return state, gym.spaces.Discrete(spec.servers)


def worlds_of(scenario: OffloadingScenario, settings: LADTSSettings) -> list[OffloadingScenario]:
    """The scenario, or one with each of the numbers of servers to train with.

    Raises:
        InputError: If the scenario names its servers instead of drawing them.
    """
    if not settings.train_servers:
        return [scenario]
    if scenario.server_sets is None:
        raise InputError(
            f"train_servers is {list(settings.train_servers)}, but scenario '{scenario.name}' names its servers; "
            "choose one with server_sets."
        )
    data = scenario.model_dump()
    return [
        build_scenario({**data, "server_sets": {**data["server_sets"], "servers": count}})
        for count in settings.train_servers
    ]


class LADTSRunner(ArrayEnvRunner):
    """Rolls LAD-TS out over E copies of the scenario in ``config.env_config``.

    The latent memory lives here, is kept across episodes as in the authors' code, and is part of the state, like the
    simulator and the policy's generator.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        self.scenario: OffloadingScenario = build_scenario(dict(config.env_config["scenario"]))
        self.settings: LADTSSettings = config.settings()
        self.spec = ActorSpec.of(self.scenario, self.settings)
        self.worlds = worlds_of(self.scenario, self.settings)
        self.rounds_per_episode, self.slots_per_round = self.scenario.slots, 1
        self._observation: RouterView
        self._delay_sum: Tensor
        self._task_count: Tensor
        super().__init__(config=config, **kwargs)

    def make_env(self) -> None:
        """Create the batched simulator, and the policy that plays it."""
        self.simulators = [OffloadingWorld(world, self.settings.copies) for world in self.worlds]
        self.policy = LADTSPolicy(self._actor_module().actor, seed=self.policy_seed)
        self.reset_arrivals(self.arrivals_seed)
        self._enter(0)
        self._begin_episode(self.simulator.observe())
        self.memory = self.policy.begin(self._observation)

    def _enter(self, turn: int) -> None:
        """Go on in one of the worlds, of which there are several only for set networks."""
        self._turn = turn
        self.simulator = self.simulators[turn]
        self.policy.spec = self.spec.for_servers(self.worlds[turn])

    def _actor_module(self) -> LADTSModule | DQNModule:
        return cast(LADTSModule | DQNModule, self.module[MODULE_ID])

    def module_spaces(self) -> dict[str, Spaces]:
        """Spaces of one decision."""
        return {MODULE_ID: spaces_of(self.spec)}

    def assert_healthy(self) -> None:
        """Raise if the runner can not sample."""
        if not torch.isfinite(self.simulator.state.backlog_gcycles).all():
            raise RuntimeError("the simulator's backlog is not finite")

    @property
    def rounds_played(self) -> int:
        """Slots of the present episode that are over."""
        return self._observation.slot

    def reset_arrivals(self, seed: int) -> None:
        """Begin episodes in every world whose arrivals come from another seed."""
        for simulator in self.simulators:
            simulator.reset(seed)

    def begin_anew(self) -> None:
        """Leave the present episodes and begin the next ones."""
        self._begin_episode(self.simulator.reset())

    def join(self, rounds: list[Fragment]) -> list[Fragment]:
        """Join the transitions of slots; states of worlds with other numbers of servers have other lengths."""
        stretches = groupby(rounds, key=lambda part: part.columns[Columns.OBS].shape[-1])
        return [concatenate(list(stretch)) for _, stretch in stretches]

    def play_round(self, explore: bool) -> Fragment:
        """Play one slot in all copies."""
        observation = self._observation
        decision = self.policy.decide(observation, self.memory, explore)
        outcome = self.simulator.step(decision.action)
        delay = outcome.delays.total_s
        self._delay_sum += outcome.sum_per_copy(delay)
        self._task_count += outcome.sum_per_copy(torch.ones_like(delay))
        following = self.simulator.observe()
        fragment = self._transitions(observation, decision, outcome, following)
        self.count_steps(fragment.slots, delay.numel())
        if self.simulator.done:
            self._finish_episode()
        else:
            self._observation = following
        return fragment

    def _transitions(
        self, observation: RouterView, decision: Decision, outcome: SlotOutcome, following: RouterView
    ) -> Fragment:
        """Pair every task with the agent's next one: n + 1 in the same slot, or the first of the next slot.

        Where the next slot brings a server no task, the size and workload of the one that was drawn but did not
        arrive stand in for it.
        """
        spec, settings = self.spec, self.settings
        present = observation.tasks.present
        copies, servers, _ = present.shape
        if spec.network == "set":
            return self._single_decisions(decision, outcome, following, present)
        first_task = following.tasks.at_index(0)
        backlog = following.backlog_gcycles
        shown = RouterView(
            following.slot,
            torch.zeros_like(backlog) if settings.legacy_zero_next_queue else backlog,
            following.capacity_gcycles_s,
            following.rate_mbit_s,
            following.tasks,
        )
        nothing_own = backlog.new_zeros(copies, servers, servers)
        first_state = spec.state(
            shown, first_task.size_mbit[..., None], first_task.workload_gcycles[..., None], nothing_own
        )
        zero = torch.zeros(1, dtype=torch.long)
        first_latent = self.policy.read(self.memory, following.slot, zero, copies)
        latent = decision.probability if settings.legacy_alias else decision.latent
        last = (present & ~torch.nn.functional.pad(present[..., 1:], (0, 1)))[..., None]

        def shifted(values: Tensor, first: Tensor) -> Tensor:
            return torch.where(last, first, torch.cat([values[:, :, 1:], first], 2))

        reward = -outcome.dense(outcome.delays.total_s) * settings.reward_scale
        columns = {
            Columns.OBS: decision.state,
            LATENT: latent,
            Columns.ACTIONS: decision.action[..., None],
            Columns.REWARDS: reward[..., None],
            Columns.NEXT_OBS: shifted(decision.state, first_state),
            NEXT_LATENT: shifted(latent, first_latent),
        }
        return self._fragment(columns, present)

    def _single_decisions(
        self, decision: Decision, outcome: SlotOutcome, following: RouterView, present: Tensor
    ) -> Fragment:
        """Transitions without a next state: the set networks look at one decision at a time."""
        cost = outcome.delays.total_s
        if self.settings.credit == "all":
            after = following.truth
            cost = cost + delay_to_others(outcome, after.backlog_gcycles, after.capacity_gcycles_s)
        columns = {
            Columns.OBS: decision.state,
            LATENT: decision.latent,
            Columns.ACTIONS: decision.action[..., None],
            Columns.REWARDS: -outcome.dense(cost)[..., None] * self.settings.reward_scale,
        }
        return self._fragment(columns, present)

    def _fragment(self, columns: dict[str, Tensor], present: Tensor) -> Fragment:
        """Put columns ``[E, B, N, ...]`` in the order of the groups of weights."""
        grouped = {name: self.spec.grouped(value) for name, value in columns.items()}
        for name in (Columns.ACTIONS, Columns.REWARDS):
            grouped[name] = grouped[name][..., 0]
        return Fragment(grouped, self.spec.grouped(present[..., None])[..., 0], present.shape[0])

    def _begin_episode(self, observation: RouterView) -> None:
        self._observation = observation
        self._delay_sum = torch.zeros(self.settings.copies, dtype=torch.float64)
        self._task_count = torch.zeros(self.settings.copies, dtype=torch.float64)

    def _finish_episode(self) -> None:
        delays = self._delay_sum / self._task_count.clamp_min(1)
        returns = (-self._delay_sum * self.settings.reward_scale).tolist()
        self.finish_episodes([{DELAY: delay} for delay in delays.tolist()], returns)
        if len(self.simulators) > 1:
            self.simulator.reset()
            self._enter((self._turn + 1) % len(self.simulators))
            self._begin_episode(self.simulator.observe())
            self.memory = self.policy.begin(self._observation)
        else:
            self.begin_anew()

    def get_world_state(self) -> dict[str, Any]:
        """Everything but the weights that decides what the runner samples next."""
        return {
            "simulators": [simulator.state_dict() for simulator in self.simulators],
            "turn": self._turn,
            "memory": {name: value.clone() for name, value in self.memory.items()},
            "generator": self.policy.generator.get_state(),
            "delay_sum": self._delay_sum.clone(),
            "task_count": self._task_count.clone(),
        }

    def set_world_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``get_world_state`` was called."""
        for simulator, saved in zip(self.simulators, state["simulators"], strict=True):
            simulator.load_state_dict(saved)
        self._enter(state["turn"])
        self._observation = self.simulator.observe()
        self.memory = {name: value.clone() for name, value in state["memory"].items()}
        self.policy.generator.set_state(state["generator"])
        self._delay_sum = state["delay_sum"].clone()
        self._task_count = state["task_count"].clone()

    def get_latents(self) -> Tensor | None:
        """The first copy's latent memory, for export; None if the policy has none or fits other servers too."""
        if self.spec.network == "set":
            return None
        return self.memory["latent"][0].clone() if "latent" in self.memory else None

    def set_latents(self, latents: Tensor | None) -> None:
        """Begin from given latents in every copy (evaluation workers start from the trained ones)."""
        self.policy.latents = latents
        self.memory = self.policy.begin(self._observation)
