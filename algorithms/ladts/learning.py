"""What routers learn: LAD-TS and its learned baselines, which are small differences from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from edgegen.algorithms.ladts.actor import Actor, ActorSpec
from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.credit import delay_to_others
from edgegen.algorithms.ladts.losses import (
    actor_loss,
    critic_loss,
    dqn_target,
    entropy,
    projection_loss,
    td_target,
    temperature_loss,
)
from edgegen.algorithms.ladts.module import LATENT, NEXT_LATENT, DQNModule, LADTSModule
from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.ladts.set_replay import ReplayByServers
from edgegen.algorithms.ladts.set_view import log_capacity, split
from edgegen.algorithms.ladts.settings import LADTSSettings
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import EpisodeLog, Following, Learning, Notes, RoleLearner, Spaces, Tools
from edgegen.algorithms.rllib.rollout import Fragment
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import WorldScenario
from edgegen.envs.offloading.physics import SlotOutcome
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.view import ROUTER, RouterView

DELAY = "delay_mean_s"
"""What is reported of an episode: mean service delay over its tasks, s."""

ACTOR, CRITIC, TEMPERATURE = "actor", "critic", "temperature"
"""Names of the optimizers."""


class RouterLearner(RoleLearner):
    """Soft actor-critic: critics, actor, temperature and soft target update, in this order, as in the authors' code.

    Args:
        spec: The deciding network.
        settings: The settings.
    """

    role: ClassVar[str] = ROUTER
    deciding: ClassVar[str] = "actor"
    module_class: type[Any] = LADTSModule

    def __init__(self, spec: ActorSpec, settings: LADTSSettings) -> None:
        self.spec, self.settings = spec, settings
        self.warmup, self.batch_size = settings.replay_warmup, settings.batch_size

    @property
    def spaces(self) -> Spaces:
        """The state vector and the chosen server."""
        state = gym.spaces.Box(-np.inf, np.inf, (self.spec.state_size,), np.float32)
        return Spaces(state, gym.spaces.Discrete(self.spec.servers))

    @property
    def model_config(self) -> dict[str, Any]:
        """The actor's spec, and what fresh critics and temperatures begin with."""
        return {
            "spec": self.spec.model_dump(),
            "initial_temperature": self.settings.initial_temperature,
            "reward_scale": self.settings.reward_scale,
        }

    def network(self) -> Actor:
        """An actor with fresh weights."""
        return make_actor(self.spec)

    def replay(self, seed: int) -> TensorReplay:
        """A ring for every group of weights."""
        return TensorReplay(self.spec.groups, self.settings.replay_capacity, seed)

    def owed(self, slots: int, rounds: int) -> float:
        """Updates are owed for slots."""
        return slots * self.settings.updates_per_slot

    def noted(self, view: RouterView, decision: Any, outcome: SlotOutcome) -> Notes:
        """The whole decision and its outcome: a round is one slot."""
        return {"view": view, "decision": decision, "outcome": outcome}

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Pair every task with the agent's next one: n + 1 in the same slot, or the first of the next slot.

        Where the next slot brings a server no task, the size and workload of the one that was drawn but did not
        arrive stand in for it.
        """
        ((view, decision, outcome),) = (note.values() for note in notes)
        spec, settings, seen = self.spec, self.settings, following.view
        present = view.tasks.present
        copies, servers, _ = present.shape
        first_task = seen.tasks.at_index(0)
        backlog = seen.backlog_gcycles
        shown = RouterView(
            seen.slot,
            torch.zeros_like(backlog) if settings.legacy_zero_next_queue else backlog,
            seen.capacity_gcycles_s,
            seen.rate_mbit_s,
            seen.tasks,
        )
        nothing_own = backlog.new_zeros(copies, servers, servers)
        first_state = spec.state(
            shown, first_task.size_mbit[..., None], first_task.workload_gcycles[..., None], nothing_own
        )
        zero = torch.zeros(1, dtype=torch.long)
        first_latent = following.policy.read(following.memory, seen.slot, zero, copies)
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

    def _fragment(self, columns: dict[str, Tensor], present: Tensor) -> Fragment:
        """Put columns ``[E, B, N, ...]`` in the order of the groups of weights."""
        grouped = {name: self.spec.grouped(value) for name, value in columns.items()}
        for name in (Columns.ACTIONS, Columns.REWARDS):
            grouped[name] = grouped[name][..., 0]
        return Fragment(grouped, self.spec.grouped(present[..., None])[..., 0])

    def optimizers(self, module: LADTSModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One for the actor, one for both critics, one for the temperatures."""
        yield CRITIC, list(module.critics.parameters()), self.settings.critic_lr
        yield ACTOR, list(module.actor.parameters()), self.settings.actor_lr
        yield TEMPERATURE, [module.log_temperature], self.settings.temperature_lr

    def update(self, module: LADTSModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update critics, actor and temperature, in this order."""
        settings = self.settings
        value_loss = self._critic_loss(module, batch, tools)
        tools.step(self.role, CRITIC, value_loss)
        policy_loss, policy_entropy, q = self._actor_loss(module, batch, tools)
        tools.step(self.role, ACTOR, policy_loss)
        temperature = module.log_temperature.detach().exp()
        if settings.learn_temperature:
            loss = temperature_loss(module.log_temperature, policy_entropy, settings.target_entropy)
            tools.step(self.role, TEMPERATURE, loss)
        groups = module.spec.groups
        return {
            "critic_loss": value_loss.detach() / groups,
            "actor_loss": policy_loss.detach() / groups,
            "entropy_nats": policy_entropy.mean(),
            "temperature": temperature.mean(),
            "q_mean": q.mean(),
        }

    def losses(self, module: LADTSModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """Critic plus actor loss."""
        return self._critic_loss(module, batch, tools) + self._actor_loss(module, batch, tools)[0]

    def _critic_loss(self, module: LADTSModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        state, next_state = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        with torch.no_grad():
            noise = tools.noise(module.actor.chain_noise, state.shape[1])
            next_probability = module.actor(next_state, batch[NEXT_LATENT], noise)
            next_q = module.least(module.target_critics, next_state)
            temperature = module.log_temperature.exp() * self.settings.soft_target
            target = td_target(batch[Columns.REWARDS], next_probability, next_q, temperature, self.settings.gamma)
        return critic_loss(module.twin(module.critics, state), batch[Columns.ACTIONS], target)

    def _actor_loss(self, module: LADTSModule, batch: dict[str, Tensor], tools: Tools) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the entropy ``[G, rows]`` and the least critic values ``[G, rows, B]``, both constants."""
        state = batch[Columns.OBS]
        with torch.no_grad():
            q = module.least(module.critics, state)
            temperature = module.log_temperature.exp()
        noise = tools.noise(module.actor.chain_noise, state.shape[1])
        logits = module.actor.logits(state, batch[LATENT], noise)
        probability = logits.softmax(-1)
        if self.settings.actor_objective == "forward_kl":
            loss = projection_loss(logits, q, temperature, self._prior(state))
        else:
            loss = actor_loss(probability, q, temperature)
        return loss, entropy(probability.detach()), q

    def _prior(self, state: Tensor) -> Tensor | None:
        """What the temperature pulls towards ``[G, rows, B]``; the uniform policy if None."""
        del state
        return None


class SetRouterLearner(RouterLearner):
    """The learner of set networks: one decision at a time, without a next state, for any number of servers."""

    def replay(self, seed: int) -> TensorReplay:
        """A ring for every number of servers, whose states have different lengths."""
        return ReplayByServers(self.settings.replay_capacity, seed)

    def transitions(self, notes: list[Notes], following: Following) -> Fragment:
        """Transitions without a next state."""
        ((view, decision, outcome),) = (note.values() for note in notes)
        cost = outcome.delays.total_s
        if self.settings.credit == "all":
            after = following.view.truth
            cost = cost + delay_to_others(outcome, after.backlog_gcycles, after.capacity_gcycles_s)
        columns = {
            Columns.OBS: decision.state,
            LATENT: decision.latent,
            Columns.ACTIONS: decision.action[..., None],
            Columns.REWARDS: -outcome.dense(cost)[..., None] * self.settings.reward_scale,
        }
        return self._fragment(columns, view.tasks.present)

    def _critic_loss(self, module: LADTSModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        value = module.twin(module.critics, batch[Columns.OBS])
        return critic_loss(value, batch[Columns.ACTIONS], batch[Columns.REWARDS])

    def _prior(self, state: Tensor) -> Tensor:
        return log_capacity(split(state)[1])


class DQNRouterLearner(RouterLearner):
    """DQN-TS: one step on the squared TD error, and a copy into the target network every ``target_copy_every`` updates.

    World, view, replay and transitions are those of LAD-TS; one Q network takes the place of actor and critics.
    """

    module_class: type[Any] = DQNModule

    def optimizers(self, module: DQNModule) -> Iterator[tuple[str, list[nn.Parameter], float]]:
        """One."""
        yield CRITIC, list(module.actor.parameters()), self.settings.critic_lr

    def update(self, module: DQNModule, batch: dict[str, Tensor], tools: Tools) -> dict[str, Tensor]:
        """Update the Q network, and the target when it is due."""
        q = module.actor.logits(batch[Columns.OBS], batch[LATENT], None)
        loss = self._loss(module, batch, q)
        tools.step(self.role, CRITIC, loss)
        module.updates += 1
        if int(module.updates) % self.settings.target_copy_every == 0:
            module.copy_to_target()
        return {"critic_loss": loss.detach() / module.spec.groups, "q_mean": q.detach().mean()}

    def losses(self, module: DQNModule, batch: dict[str, Tensor], tools: Tools) -> Tensor:
        """The squared TD error."""
        return self._loss(module, batch, module.actor.logits(batch[Columns.OBS], batch[LATENT], None))

    def _loss(self, module: DQNModule, batch: dict[str, Tensor], q: Tensor) -> Tensor:
        with torch.no_grad():
            next_q = module.target_actor.logits(batch[Columns.NEXT_OBS], batch[NEXT_LATENT], None)
            target = dqn_target(batch[Columns.REWARDS], next_q, self.settings.gamma)
        return critic_loss(q[None], batch[Columns.ACTIONS], target)


class DelayLog(EpisodeLog):
    """Mean service delays."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sums of the delays and numbers of the tasks."""
        return "delay_s", "tasks"

    def add(self, role: str, outcome: SlotOutcome) -> tuple[int, int]:
        """See :meth:`EpisodeLog.add`."""
        delay = outcome.delays.total_s
        self.sums["delay_s"] += outcome.sum_per_copy(delay)
        self.sums["tasks"] += outcome.sum_per_copy(torch.ones_like(delay))
        return self.world.copies, delay.numel()

    def report(self) -> tuple[list[dict[str, float]], list[float]]:
        """See :meth:`EpisodeLog.report`."""
        delays = self.sums["delay_s"] / self.sums["tasks"].clamp_min(1)
        returns = (-self.sums["delay_s"] * self.settings.reward_scale).tolist()
        return [{DELAY: delay} for delay in delays.tolist()], returns


class LADTSLearning(Learning):
    """LAD-TS in training: routers alone."""

    log_class = DelayLog
    scenario: OffloadingScenario
    settings: LADTSSettings

    def __init__(self, scenario: OffloadingScenario, settings: LADTSSettings) -> None:
        super().__init__(scenario, settings)
        self.spec = ActorSpec.of(scenario, settings)
        self.roles = {ROUTER: self._learner_class()(self.spec, settings)}

    def _learner_class(self) -> type[RouterLearner]:
        if self.settings.actor == "q":
            return DQNRouterLearner
        return SetRouterLearner if self.settings.network == "set" else RouterLearner

    @property
    def worlds(self) -> list[WorldScenario]:
        """The scenario, or one with each of the numbers of servers to train with.

        Raises:
            InputError: If the scenario names its servers instead of drawing them.
        """
        if not self.settings.train_servers:
            return [self.scenario]
        if self.scenario.server_sets is None:
            raise InputError(
                f"train_servers is {list(self.settings.train_servers)}, but scenario '{self.scenario.name}' names its "
                "servers; choose one with server_sets."
            )
        data = self.scenario.model_dump()
        return [
            build_scenario({**data, "server_sets": {**data["server_sets"], "servers": count}}, OffloadingScenario)
            for count in self.settings.train_servers
        ]

    def policy(self, networks: dict[str, nn.Module], seed: int) -> LADTSPolicy:
        """The policy that decides with an actor."""
        return LADTSPolicy(cast(Actor, networks[ROUTER]), seed=seed)

    def enter(self, policy: LADTSPolicy, scenario: OffloadingScenario) -> None:
        """Let the policy decide for the servers of one of the worlds."""
        policy.spec = self.spec.for_servers(scenario)
