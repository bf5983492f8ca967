# SPDX-License-Identifier: Apache-2.0
"""Trainings of a study, and rules on what they train on, tuned and as they are, as units."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgegen.algorithms.core.catalog import latest_checkpoint, make_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.methods.registry import headline_of
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.platform.engine.doing import Effort, StoppedEarlyError
from edgegen.platform.engine.tuning import Tuning
from edgegen.platform.engine.unit import Evaluation, Unit
from edgegen.platform.files import write_json
from edgegen.platform.studies.streams import play_training_stream

PPO = "ppo"
TRAINING_FILE = "training.json"
RUN_FOLDER, POLICY_FOLDER = "run", "policy"

Curves = dict[str, list[float]]
"""What was measured of every training episode, by name."""


@dataclass(frozen=True)
class _Training(Unit):
    """One seed of a method.

    Its folder holds ``run/``, the training under way, then ``policy/`` and ``training.json``.

    Attributes:
        checkpoint_every: Training episodes between checkpoints.
    """

    kind: ClassVar[str] = "training"
    checkpoint_every: int = 25

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        if not (folder / TRAINING_FILE).exists():
            checkpoint = latest_checkpoint(folder / RUN_FOLDER)
            if checkpoint is not None:
                effort.resumed(int(checkpoint.name.rpartition("-")[2]))
            curves = self._train(folder, effort)
            write_json(folder / TRAINING_FILE, {"episodes": {n: v[: self.episodes] for n, v in curves.items()}})
        shutil.rmtree(folder / RUN_FOLDER, ignore_errors=True)  # checkpoints are large, and only for going on

    @abstractmethod
    def _train(self, folder: Path, effort: Effort) -> Curves:
        """Train, or go on, and keep the policy."""

    @staticmethod
    def _keep(folder: Path, copy: Callable[[Path], object]) -> None:
        """Put the policy in its place, whole."""
        temporary, target = folder / f".{POLICY_FOLDER}.part", folder / POLICY_FOLDER
        for old in (temporary, target):
            shutil.rmtree(old, ignore_errors=True)
        copy(temporary)
        temporary.replace(target)


@dataclass(frozen=True)
class Training(_Training):
    """One seed of a method of the registry, as ``edgegen train`` trains it."""

    def _train(self, folder: Path, effort: Effort) -> Curves:
        from edgegen.platform.runs.training import RUN_FILE, TrainRequest, resume, train

        run = folder / RUN_FOLDER
        if (run / RUN_FILE).exists() and latest_checkpoint(run) is not None:
            result = resume(run, on_episode=lambda at: effort.note(at.episode, at.recent), tracking=False)
        else:
            shutil.rmtree(run, ignore_errors=True)  # cut off before the first checkpoint
            request = TrainRequest(
                scenario=self.world,
                out=run,
                algorithm=self.name,
                preset=self.preset,
                overrides=dict(self.settings),
                episodes=self.episodes,
                seed=self.seed,
                checkpoint_every=self.checkpoint_every,
                tracking=False,
            )
            result = train(request, lambda at: effort.note(at.episode, at.recent))
        if result.interrupted:
            raise StoppedEarlyError
        self._keep(folder, lambda target: shutil.copytree(result.policy, target))
        return result.episodes

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        return make_policy(str(folder / POLICY_FOLDER), evaluation.world, evaluation.seed)


@dataclass(frozen=True)
class PPOTraining(_Training):
    """One seed of RLlib's own PPO."""

    def _train(self, folder: Path, effort: Effort) -> Curves:
        from edgegen.platform.studies import ppo

        settings = ppo.PPOSettings(**self.settings)
        run, world = folder / RUN_FOLDER, as_scenario(self.world, OffloadingScenario)
        delays = ppo.train_ppo(world, settings, self.episodes, self.seed, run, self.checkpoint_every, effort.note)
        self._keep(folder, lambda target: ppo.export_ppo(run, target))
        return {headline_of(self.world.kind, self.world): delays}

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        from edgegen.platform.studies import ppo

        return ppo.load_ppo(folder / POLICY_FOLDER, as_scenario(evaluation.world, OffloadingScenario))


@dataclass(frozen=True)
class TunedRule(Tuning):
    """The tuning of a rule, and what the result makes of the training episodes of its seed."""

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        super().work(folder, effort)
        _play_stream(self, folder, str(self.policy_folder(folder)))


@dataclass(frozen=True)
class Stream(Unit):
    """A rule on the training episodes of a seed."""

    kind: ClassVar[str] = "stream"
    learns: ClassVar[bool] = False

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        _play_stream(self, folder, self.name)

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        return make_policy(self.name, evaluation.world, evaluation.seed)


def _play_stream(unit: Unit, folder: Path, policy_name: str) -> None:
    """Let a rule play the training episodes of a unit's seed, and keep what learning curves show."""
    policy = make_policy(policy_name, unit.world, unit.seed)
    values = play_training_stream(unit.world, policy, unit.seed, unit.episodes)
    write_json(folder / TRAINING_FILE, {"episodes": {headline_of(unit.world.kind, unit.world): values}})
