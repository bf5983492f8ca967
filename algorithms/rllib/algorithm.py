# SPDX-License-Identifier: Apache-2.0
"""The algorithm of every method: sampling all runners, updates from tensors, and checkpoints that miss nothing."""

from __future__ import annotations

import time
from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from torch import Tensor

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import TrainedPolicy
from edgegen.algorithms.rllib.asynchronous.checkpoint import gather, read_shards
from edgegen.algorithms.rllib.placement import release, reserve
from edgegen.algorithms.rllib.private import local_learner, placed
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import Learning
from edgegen.algorithms.rllib.rollout import JointFragment
from edgegen.algorithms.rllib.runner import EPISODES_BEGUN
from edgegen.envs.core.kinds import kind_of

REPLAYS = "replays"
PROGRESS = "progress"
WORLDS = "worlds"
PROBE_EVERY_S = 3.0
"""How long to leave lost runners alone before looking for them again, s: each look delays the others."""


class RunnersLostError(RuntimeError):
    """No env runner is left to play."""


class JointAlgorithm(Algorithm):
    """An algorithm over joint env runners, with a tensor replay for every role.

    One training step plays one episode of every copy: sample a fragment, store it, update, sync, and again. With
    fragments of one round and no remote runners, every role learns after every round from what it has just met, and
    the next round is played with the new weights, as published for LAD-TS. Roles learn on schedules of their own.

    Attributes:
        replays: Replay of each module.
        episodes: What the runners reported of every finished episode, in order.
        slots_sampled: Slots played so far, summed over copies.
        updates: Updates made so far by module.
        owed_updates: Updates that are due by module; parts of one add up.
        notices: What was out of the ordinary, in sentences that nobody has read yet.
    """

    def setup(self, config: Any) -> None:
        """Find room for runners and learners, build them and the replays.

        Raises:
            InputError: If the cluster has no room.
        """
        self._placement = reserve(self.config)
        try:
            with placed(self._placement):
                super().setup(config)
        except BaseException:
            release(self._placement)
            raise
        self.learning: Learning = self.config.learning()
        self.settings = self.learning.settings
        seed = int(self.config.seed or 0) + 104_729
        self.replays: dict[str, TensorReplay] = {
            name: role.replay(seed + number) for number, (name, role) in enumerate(self.learning.roles.items())
        }
        self.episodes: list[dict[str, float]] = []
        self.slots_sampled = 0
        self.updates = dict.fromkeys(self.replays, 0)
        self.owed_updates = dict.fromkeys(self.replays, 0.0)
        self.notices: list[str] = []
        self._learner_results: list[Any] = []
        self._lives = 0
        self._next_probe = 0.0
        self._strangers: set[int] = set()
        self.env_runner_group.foreach_env_runner(lambda runner: runner.admit())

    def cleanup(self) -> None:
        """Stop runners and learners and give their room back, whatever of them is still there."""
        try:
            super().cleanup()
        finally:
            release(self._placement)

    @property
    def headline(self) -> str:
        """What of an episode's report tells how good it was; less is better."""
        return str(self.config.method.headline_in(self.learning.scenario)[0])

    def training_step(self) -> None:
        """Play and learn for the rounds of one episode."""
        scenario, kind = self.learning.scenario, kind_of(self.learning.scenario)
        rounds, slots = kind.rounds(scenario), kind.slots_per_round(scenario)
        fragment_rounds = min(int(self.config.rollout_fragment_length), rounds)
        if self.learning.whole_episodes:
            fragment_rounds = rounds
        played = 0
        while played < rounds:
            now = min(fragment_rounds, rounds - played)
            played += now
            for fragment in self.sample(now * slots):
                self._store(fragment)
            self._learn()
        self.collect_metrics()

    def _store(self, fragment: JointFragment) -> None:
        self.slots_sampled += fragment.slots
        for name, role in self.learning.roles.items():
            if role.stores(len(self.episodes)):
                self.replays[name].add(fragment.roles[name].columns, fragment.roles[name].valid)
            self.owed_updates[name] += role.owed(fragment.slots, fragment.rounds, len(self.episodes))

    def _learn(self) -> None:
        """Let every role make the updates it is owed, the slowest first, and hand on the new weights."""
        changed = False
        for name, role in reversed(self.learning.roles.items()):
            if int(self.replays[name].sizes.min()) <= role.warmup:
                self.owed_updates[name] = 0.0  # nothing is made up for after the warm-up
            elif self.owed_updates[name] >= 1:
                self.make_updates(name, role.batch_size)
                changed = True
        if changed:
            self.sync_weights({name: role.deciding for name, role in self.learning.roles.items()})

    def policy(self, seed: int = 0) -> TrainedPolicy:
        """Return the trained policy, independent of this algorithm and of Ray."""
        networks = {}
        for name, role in self.learning.roles.items():
            networks[name] = role.network()
            networks[name].load_state_dict(self.learned_weights(name, role.learned))
        policy = self.learning.policy(networks, seed)
        policy.take(self.kept_memory())
        return policy

    def kept_memory(self) -> Memory:
        """What of the first runner's memory belongs to the trained policy."""
        found = self.env_runner_group.foreach_env_runner(
            lambda runner: runner.kept_memory(), local_env_runner=self.config.num_env_runners == 0
        )
        return found[0] if found else {}

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate with the trained memory in the evaluation workers."""
        kept = self.kept_memory()
        if self.eval_env_runner_group is not None:
            self.eval_env_runner_group.foreach_env_runner(lambda runner: runner.take_memory(kept))
        return super().evaluate(parallel_train_future)

    def sample(self, slots: int) -> list[Any]:
        """Play ``slots`` slots of every copy on every runner, the local one if there is no other.

        Raises:
            RunnersLostError: If there is no runner left.
        """
        timesteps = slots * self.settings.copies
        with self.metrics.log_time((TIMERS, SAMPLE_TIMER)):
            if self.config.num_env_runners == 0:
                fragments: list[Any] = self.env_runner.sample(num_timesteps=timesteps)
                return fragments
            # A runner whose process was replaced in between knows nothing of this training: it sits the episode out.
            results = self.env_runner_group.foreach_env_runner(
                lambda runner: (runner.worker_index, runner.admitted and runner.sample(num_timesteps=timesteps)),
                local_env_runner=False,
            )
        self._strangers |= {index for index, played in results if not played}
        played = [fragment for _, fragments in results for fragment in fragments or []]
        if not played:
            raise RunnersLostError("no env runner is left that takes part in the training")
        return played

    def make_updates(self, module_id: str, batch_size: int) -> None:
        """Make the updates that a module is owed."""
        rows = batch_size * max(1, int(self.config.num_learners))
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.slots_sampled}
        if (here := local_learner(self)) is not None:
            due = int(self.owed_updates[module_id])
            here.update_here(module_id, (self.replays[module_id].sample(rows) for _ in range(due)), timesteps)
            self.owed_updates[module_id] -= due
            self.updates[module_id] += due
            return
        result = None
        while self.owed_updates[module_id] >= 1:
            batch = MultiAgentBatch({module_id: SampleBatch(self.replays[module_id].sample(rows))}, rows)
            result = self.learner_group.update(batch=batch, timesteps=timesteps)
            self.owed_updates[module_id] -= 1
            self.updates[module_id] += 1
        if result is not None:
            self._learner_results += result

    def sync_weights(self, inference: dict[str, str]) -> None:
        """Hand the new weights to the runners.

        Args:
            inference: By module, the name of the network that decides.
        """
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            if self.config.num_env_runners == 0 and self.config.num_learners == 0:
                # Both live in this process: copy tensors instead of a trip through the object store.
                learned = local_learner(self).module
                for module_id, network in inference.items():
                    source = getattr(learned[module_id], network).parameters()
                    target = getattr(self.env_runner.module[module_id], network).parameters()
                    with torch.no_grad():
                        torch._foreach_copy_(list(target), list(source))
                return
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, policies=set(inference), inference_only=True
            )

    def collect_metrics(self) -> None:
        """Once per iteration, not per update: aggregation costs about as much as a small update."""
        collected = self.env_runner_group.foreach_env_runner(
            lambda runner: (runner.get_metrics(), runner.pop_episodes()),
            local_env_runner=self.config.num_env_runners == 0,
        )
        self.metrics.aggregate([metrics for metrics, _ in collected], key=ENV_RUNNER_RESULTS)
        if (here := local_learner(self)) is not None:
            self._learner_results = [here.report()]
        if self._learner_results:
            self.metrics.aggregate(self._learner_results, key=LEARNER_RESULTS)
            self._learner_results = []
        total = sum(self.updates.values())
        self.metrics.log_value((LEARNER_RESULTS, ALL_MODULES, "updates_lifetime"), total, window=1)
        for _, episodes in collected:
            self.episodes += episodes

    def learned_weights(self, module_id: str, network: str) -> dict[str, Tensor]:
        """Weights of one network of a module, independent of this algorithm."""
        state = self.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
        weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][module_id]
        prefix = f"{network}."
        return {
            name.removeprefix(prefix): torch.as_tensor(value).clone()
            for name, value in weights.items()
            if name.startswith(prefix)
        }

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Add the replays, the progress and every remote runner's world."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(REPLAYS, components, not_components):
            state[REPLAYS] = {name: replay.get_state() for name, replay in self.replays.items()}
        if self._check_component(PROGRESS, components, not_components):
            state[PROGRESS] = {
                "episodes": list(self.episodes),
                "slots_sampled": self.slots_sampled,
                "updates": dict(self.updates),
                "owed_updates": dict(self.owed_updates),
                "lives": self._lives,
                "runners": int(self.config.num_env_runners),
            }
        if self.config.num_env_runners > 0 and self._check_component(WORLDS, components, not_components):
            worlds = self.env_runner_group.foreach_env_runner(
                lambda runner: (runner.worker_index, runner.get_world_state()), local_env_runner=False
            )
            state[WORLDS] = dict(worlds)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` added."""
        super().set_state(state)
        for name, saved in state.get(REPLAYS, {}).items():
            self.replays[name].set_state(saved)
        if PROGRESS in state:
            progress = state[PROGRESS]
            self.episodes = list(progress["episodes"])
            self.slots_sampled = progress["slots_sampled"]
            self.updates = dict(progress["updates"])
            self.owed_updates = dict(progress["owed_updates"])
            self._lives = progress.get("lives", 0)
            saved = state.get(WORLDS, {})
            self._restore_worlds(saved, progress.get("runners", len(saved)))

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Continue from a checkpoint; also of an asynchronous training, whose replay is in several parts."""
        super().restore_from_path(path, *args, **kwargs)
        if self.replays and (files := read_shards(path)):
            self.owed_updates = gather(files, self.replays)

    def _restore_worlds(self, saved: dict[int, dict[str, Any]], before: int) -> None:
        """Let every runner continue; if there are others than before, they begin beside those.

        Args:
            saved: What the remote runners had played, by index; lost ones are missing.
            before: Number of remote runners there were.
        """
        now = int(self.config.num_env_runners)
        if before == now == 0:
            return  # the local runner is a component of its own
        new = list(range(1, now + 1))
        if before == now:
            self._each_with(saved, lambda runner, worlds: runner.set_world_state(worlds[runner.worker_index]), [*saved])
            new = [index for index in new if index not in saved]
            if not new:
                return
        example = saved[min(saved)] if saved else self.env_runner.get_world_state()
        if EPISODES_BEGUN in example:  # every runner counts its own, as if all had begun as many
            example = {**example, EPISODES_BEGUN: example[EPISODES_BEGUN] * max(1, before) // max(1, now)}
        self._begin_beside(example, new)

    def _begin_beside(self, example: dict[str, Any], indices: list[int]) -> None:
        """Let runners begin with arrivals of their own, as far in the training as another one is."""
        self._lives += 1
        self._each_with((example, self._lives), lambda runner, task: runner.take_over(*task), indices)

    def _each_with(self, data: Any, function: Any, indices: list[int] | None = None) -> None:
        """Call ``function(runner, data)`` on the remote runners, or on the local one if there is no other."""
        if self.config.num_env_runners == 0:
            function(self.env_runner, data)
            return
        shared = ray.put(data)
        self.env_runner_group.foreach_env_runner(
            lambda runner: function(runner, ray.get(shared)), local_env_runner=False, remote_worker_ids=indices
        )

    def figures(self) -> dict[str, float] | None:
        """What tells asynchronous training from synchronous, by name; None for this one."""
        return None

    def settle(self) -> None:
        """Wait until nothing is under way: nothing ever is between two steps, but in asynchronous training."""

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Look for lost env runners that are back, and bring them up to date.

        RLlib would hand all of them the local runner's world, which nobody has played: they would meet the same
        arrivals and explore as at the very beginning.

        Returns:
            Indices of the runners that are back.
        """
        missing = env_runner_group.num_remote_workers() - env_runner_group.num_healthy_remote_workers()
        training = env_runner_group is self.env_runner_group
        back = sorted(self._strangers) if training else []
        peers = [index for index in env_runner_group.healthy_worker_ids() if index not in back]
        if missing and time.monotonic() >= self._next_probe:
            back += env_runner_group.probe_unhealthy_env_runners()
            self._next_probe = time.monotonic() + PROBE_EVERY_S
        if not back:
            return []
        self.settle()
        env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group,
            to_worker_indices=back,
            timeout_seconds=None,
            inference_only=True,
        )
        if training:
            self._strangers.clear()
            examples = env_runner_group.foreach_env_runner(
                lambda runner: runner.get_world_state(), local_env_runner=False, remote_worker_ids=peers[:1]
            )
            if not examples:
                raise RunnersLostError("no env runner is left that takes part in the training")
            self._begin_beside(examples[0], back)
            self.env_runner_group.foreach_env_runner(
                lambda runner: runner.admit(), local_env_runner=False, remote_worker_ids=back
            )
        return back
