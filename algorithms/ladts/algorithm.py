"""LAD-TS as an RLlib algorithm."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from edgegen.algorithms.ladts.baselines import make_actor
from edgegen.algorithms.ladts.config import LADTSConfig
from edgegen.algorithms.ladts.module import MODULE_ID
from edgegen.algorithms.ladts.policy import LADTSPolicy
from edgegen.algorithms.ladts.runner import DELAY
from edgegen.algorithms.ladts.set_replay import ReplayByServers
from edgegen.algorithms.rllib.algorithm import ArrayAlgorithm
from edgegen.algorithms.rllib.replay import TensorReplay


class LADTS(ArrayAlgorithm):
    """One training step plays one episode of every copy: sample a fragment, store it, update, sync, and again.

    With the default fragment of one slot and no remote runners the order is the published one: after the tasks of a
    slot are placed, every agent makes one update, and the next slot is played with the new weights.
    """

    config: LADTSConfig
    headline: ClassVar[str] = DELAY

    @classmethod
    def get_default_config(cls) -> LADTSConfig:
        """The ``paper`` preset on the ``demo`` scenario."""
        return LADTSConfig(algo_class=cls)

    def make_replays(self, seed: int) -> dict[str, TensorReplay]:
        """One replay, with a ring for every group of weights; of set networks one per number of servers."""
        self.spec = self.config.actor_spec()
        if self.spec.network == "set":
            return {MODULE_ID: ReplayByServers(self.settings.replay_capacity, seed)}
        return {MODULE_ID: TensorReplay(self.spec.groups, self.settings.replay_capacity, seed)}

    def training_step(self) -> None:
        """Play and learn for the slots of one episode."""
        slots_per_episode = self.spec.slots - 1
        fragment_slots = min(int(self.config.rollout_fragment_length), slots_per_episode)
        played = 0
        replay = self.replays[MODULE_ID]
        while played < slots_per_episode:
            slots = min(fragment_slots, slots_per_episode - played)
            fragments = self.sample(slots)
            played += slots
            for fragment in fragments:
                replay.add(fragment.columns, fragment.valid)
                self.slots_sampled += fragment.slots
                self._owed_updates[MODULE_ID] += fragment.slots * self.settings.updates_per_slot
            if int(replay.sizes.min()) <= self.settings.replay_warmup:
                self._owed_updates[MODULE_ID] = 0.0  # as published: nothing is made up for after the warm-up
            elif self._owed_updates[MODULE_ID] >= 1:
                self.make_updates(MODULE_ID, self.settings.batch_size)
                self.sync_weights({MODULE_ID: "actor"})
        self.collect_metrics()

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
        actor = make_actor(self.spec)
        actor.load_state_dict(self.learned_weights(MODULE_ID, "actor"))
        return LADTSPolicy(actor, self.latents(), seed)
