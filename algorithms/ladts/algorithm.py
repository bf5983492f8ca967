"""LAD-TS as an RLlib algorithm."""

from __future__ import annotations

from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from torch import Tensor

from edgegen.algorithms.ladts.actor import LatentDiffusionActor
from edgegen.algorithms.ladts.config import LADTSConfig
from edgegen.algorithms.ladts.module import MODULE_ID
from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.ladts.runner import LADTSRunner
from edgegen.algorithms.replay import TensorReplay
from edgegen.algorithms.rollout import Fragment

REPLAY = "replay"
PROGRESS = "progress"
WORLDS = "worlds"


class LADTS(Algorithm):
    """One training step plays one episode of every copy: sample a fragment, store it, update, sync, and again.

    With the default fragment of one slot and no remote runners the order is the published one: after the tasks of a
    slot are placed, every agent makes one update, and the next slot is played with the new weights.
    """

    config: LADTSConfig

    @classmethod
    def get_default_config(cls) -> LADTSConfig:
        """The ``paper`` preset on the ``demo`` scenario."""
        return LADTSConfig(algo_class=cls)

    def setup(self, config: Any) -> None:
        """Build runners, learners and the replay."""
        super().setup(config)
        self.settings = self.config.settings()
        self.spec = self.config.actor_spec()
        seed = int(self.config.seed or 0) + 104_729
        self.replay = TensorReplay(self.spec.groups, self.settings.replay_capacity, seed)
        self.episode_delays_s: list[float] = []
        self.slots_sampled = 0
        self.updates = 0
        self._owed_updates = 0.0
        self._learner_results: Any = None

    def training_step(self) -> None:
        """Play and learn for the slots of one episode."""
        slots_per_episode = self.spec.slots - 1
        fragment_slots = min(int(self.config.rollout_fragment_length), slots_per_episode)
        played = 0
        while played < slots_per_episode:
            slots = min(fragment_slots, slots_per_episode - played)
            with self.metrics.log_time((TIMERS, SAMPLE_TIMER)):
                fragments = self._sample(slots)
            played += slots
            for fragment in fragments:
                self.replay.add(fragment.columns, fragment.valid)
                self.slots_sampled += fragment.slots
                self._owed_updates += fragment.slots * self.settings.updates_per_slot
            if int(self.replay.sizes.min()) <= self.settings.replay_warmup:
                self._owed_updates = 0.0  # as published: nothing is made up for after the warm-up
            elif self._owed_updates >= 1:
                self._learn()
        self._collect_metrics()

    def _sample(self, slots: int) -> list[Fragment]:
        """Play ``slots`` slots of every copy on every runner, the local one if there is no other."""
        timesteps = slots * self.settings.copies
        if self.config.num_env_runners == 0:
            fragments: list[Fragment] = self.env_runner.sample(num_timesteps=timesteps)
            return fragments
        results = self.env_runner_group.foreach_env_runner(
            lambda runner: runner.sample(num_timesteps=timesteps), local_env_runner=False
        )
        return [fragment for result in results for fragment in result]

    def _learn(self) -> None:
        """Make the updates that are owed, then hand the new weights to the runners."""
        rows = self.settings.batch_size * max(1, int(self.config.num_learners))
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.slots_sampled}
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            while self._owed_updates >= 1:
                batch = MultiAgentBatch({MODULE_ID: SampleBatch(self.replay.sample(rows))}, rows)
                self._learner_results = self.learner_group.update(batch=batch, timesteps=timesteps)
                self._owed_updates -= 1
                self.updates += 1
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self._sync_weights()

    def _sync_weights(self) -> None:
        if self.config.num_env_runners == 0 and self.config.num_learners == 0:
            # Both live in this process: copy the actor's tensors instead of a trip through the object store.
            learned = self.learner_group._learner.module[MODULE_ID].actor.parameters()
            with torch.no_grad():
                torch._foreach_copy_(list(self.env_runner.module.actor.parameters()), list(learned))
            return
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, policies={MODULE_ID}, inference_only=True
        )

    def _collect_metrics(self) -> None:
        """Once per iteration, not per update: aggregation costs about as much as a small update."""
        collected = self.env_runner_group.foreach_env_runner(
            lambda runner: (runner.get_metrics(), runner.pop_episode_delays()),
            local_env_runner=self.config.num_env_runners == 0,
        )
        self.metrics.aggregate([metrics for metrics, _ in collected], key=ENV_RUNNER_RESULTS)
        if self._learner_results is not None:
            self.metrics.aggregate(self._learner_results, key=LEARNER_RESULTS)
            self._learner_results = None
        self.metrics.log_value((LEARNER_RESULTS, ALL_MODULES, "updates_lifetime"), self.updates, window=1)
        for _, delays in collected:
            self.episode_delays_s += delays

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate with the trained latents in the evaluation workers' memory."""
        latents = self.latents()
        if self.eval_env_runner_group is not None:
            self.eval_env_runner_group.foreach_env_runner(lambda runner: runner.set_latents(latents))
        return super().evaluate(parallel_train_future)

    def latents(self) -> Tensor | None:
        """The trained latent memory of the first copy of the first runner."""
        found = self.env_runner_group.foreach_env_runner(
            lambda runner: runner.get_latents(), local_env_runner=self.config.num_env_runners == 0
        )
        return found[0] if found else None

    def policy(self, seed: int = 0) -> LADTSPolicy:
        """Return the trained policy, independent of this algorithm and of Ray."""
        actor = LatentDiffusionActor(self.spec)
        state = self.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
        weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][MODULE_ID]
        prefix = "actor."
        actor.load_state_dict(
            {
                name.removeprefix(prefix): torch.as_tensor(value)
                for name, value in weights.items()
                if name.startswith(prefix)
            }
        )
        return LADTSPolicy(actor, self.latents(), seed)

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Add the replay, the progress and every remote runner's world."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(REPLAY, components, not_components):
            state[REPLAY] = self.replay.get_state()
        if self._check_component(PROGRESS, components, not_components):
            state[PROGRESS] = {
                "episode_delays_s": list(self.episode_delays_s),
                "slots_sampled": self.slots_sampled,
                "updates": self.updates,
                "owed_updates": self._owed_updates,
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
        if REPLAY in state:
            self.replay.set_state(state[REPLAY])
        if PROGRESS in state:
            progress = state[PROGRESS]
            self.episode_delays_s = list(progress["episode_delays_s"])
            self.slots_sampled = progress["slots_sampled"]
            self.updates = progress["updates"]
            self._owed_updates = progress["owed_updates"]
        if WORLDS in state and self.config.num_env_runners > 0:
            worlds = ray.put(state[WORLDS])

            def restore(runner: LADTSRunner) -> None:
                saved = ray.get(worlds).get(runner.worker_index)
                if saved is not None:  # a runner that did not exist then begins an episode of its own
                    runner.set_world_state(saved)

            self.env_runner_group.foreach_env_runner(restore, local_env_runner=False)
