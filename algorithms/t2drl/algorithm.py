"""T2DRL as an RLlib algorithm."""

from __future__ import annotations

from typing import ClassVar

from edgegen.algorithms.rllib.algorithm import ArrayAlgorithm
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.t2drl.allocator import AllocationActor
from edgegen.algorithms.t2drl.cacher import CachingNetwork
from edgegen.algorithms.t2drl.config import T2DRLConfig
from edgegen.algorithms.t2drl.module import ALLOCATOR, CACHER
from edgegen.algorithms.t2drl.policy import T2DRLPolicy
from edgegen.algorithms.t2drl.runner import COST
from edgegen.envs.provisioning.scenario import build_provisioning


class T2DRL(ArrayAlgorithm):
    """One training step plays one episode of every copy, frame by frame, and learns after every frame.

    The two agents learn on schedules of their own from replays of their own: the allocator from slots, the cacher from
    frames.
    """

    config: T2DRLConfig
    headline: ClassVar[str] = COST

    @classmethod
    def get_default_config(cls) -> T2DRLConfig:
        """The ``paper`` preset on ``t2drl-default``."""
        return T2DRLConfig(algo_class=cls)

    def make_replays(self, seed: int) -> dict[str, TensorReplay]:
        """One replay of slots, one of frames."""
        self.spec = self.config.spec()
        groups, settings = self.spec.groups, self.settings
        return {
            ALLOCATOR: TensorReplay(groups, settings.replay_capacity, seed),
            CACHER: TensorReplay(groups, settings.frame_replay_capacity, seed + 1),
        }

    def training_step(self) -> None:
        """Play and learn for the frames of one episode."""
        world = build_provisioning(dict(self.config.env_config["scenario"]))
        settings = self.settings
        fragment_frames = min(int(self.config.rollout_fragment_length), world.frames)
        played = 0
        while played < world.frames:
            frames = min(fragment_frames, world.frames - played)
            played += frames
            for fragment in self.sample(frames * world.slots_per_frame):
                self.replays[ALLOCATOR].add(fragment.slots.columns, fragment.slots.valid)
                if len(self.episodes) >= settings.epsilon_hold_episodes:
                    self.replays[CACHER].add(fragment.frames.columns, fragment.frames.valid)
                self.slots_sampled += fragment.slots.slots
                self._owed_updates[ALLOCATOR] += fragment.slots.slots * settings.updates_per_slot
                self._owed_updates[CACHER] += frames * settings.copies * settings.updates_per_frame
            self._learn(CACHER, settings.frame_warmup, settings.frame_batch_size)
            self._learn(ALLOCATOR, settings.replay_warmup, settings.batch_size)
            self.sync_weights({ALLOCATOR: "actor", CACHER: "values"})
        self.collect_metrics()

    def _learn(self, module_id: str, warmup: int, batch_size: int) -> None:
        if int(self.replays[module_id].sizes.min()) <= warmup:
            self._owed_updates[module_id] = 0.0  # nothing is made up for after the warm-up
        else:
            self.make_updates(module_id, batch_size)

    def policy(self, seed: int = 0) -> T2DRLPolicy:
        """Return the trained policy, independent of this algorithm and of Ray."""
        actor, cacher = AllocationActor(self.spec), CachingNetwork(self.spec)
        average = "target_" if self.settings.average_weights else ""
        actor.load_state_dict(self.learned_weights(ALLOCATOR, average + "actor"))
        cacher.load_state_dict(self.learned_weights(CACHER, average + "values"))
        world = build_provisioning(dict(self.config.env_config["scenario"]))
        return T2DRLPolicy(actor, cacher, world, seed)
