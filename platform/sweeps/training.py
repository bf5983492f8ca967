# SPDX-License-Identifier: Apache-2.0
"""A training of a sweep: the same settings with one or several seeds in one process, validated as it goes.

Every seed is an ordinary training of edgegen. Checkpoints hold all of it, replay and generators included, so that a
training that was cut off continues with the very numbers it would have had.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.rllib.private import parameter_groups
from edgegen.platform.engine.doing import read_json
from edgegen.platform.files import write_json
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.checked import CheckedSweep
from edgegen.platform.sweeps.objectives import TRAINING_CPU

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.algorithm import JointAlgorithm

STATE_FILE = "trial.json"
"""In a checkpoint: what is not an algorithm's own."""
OBJECTIVE = "objective"
ALSO = "also"
"""In a report: values of further objectives, by metric; only where a sweep has some."""
EPISODES = "episodes"

Values = dict[str, Any]
Schedule = Sequence[tuple[int, Values]]
"""Pairs of the episodes after which, and the values of the space that hold from there on."""


class SeedsTraining:
    """Trains the same settings with some seeds, from report to report.

    A report holds the metric's mean over the seeds (``objective``), the training episodes so far (``episodes``), and
    what each seed achieved.

    Args:
        sweep: The sweep.
        seeds: Training seeds.
        plan: The values it is to have.

    Attributes:
        algorithms: The algorithms by seed.
        history: All reports of this training.
        schedule: The values it had.
    """

    def __init__(self, sweep: CheckedSweep, seeds: Sequence[int], plan: Schedule) -> None:
        self.sweep = sweep
        self.seeds = tuple(seeds)
        self.plan = list(plan)
        self.algorithms: dict[int, JointAlgorithm] = {}
        self.history: list[dict[str, Any]] = []
        self.resumed_at = 0
        self._trained_s: dict[str, float] = {str(seed): 0.0 for seed in self.seeds}
        self._build(self.plan[0][1])
        self.schedule: list[tuple[int, Values]] = [(0, self.values)]

    def close(self) -> None:
        """Release what the algorithms hold, and the empty folders that RLlib makes for their logs."""
        for algorithm in self.algorithms.values():
            algorithm.stop()
            shutil.rmtree(algorithm.logdir, ignore_errors=True)
        self.algorithms.clear()

    @property
    def episodes(self) -> int:
        """Training episodes that every seed has finished."""
        return min(len(algorithm.episodes) for algorithm in self.algorithms.values())

    @property
    def over(self) -> bool:
        """Whether it has all of its episodes."""
        return self.episodes >= self.sweep.spec.budget.episodes

    def _planned(self, episodes: int) -> Values:
        """The values for a point of the training."""
        return next(values for start, values in reversed(self.plan) if start <= episodes)

    def _build(self, values: Values) -> None:
        self.values = values
        resources = self.sweep.spec.resources
        for seed in self.seeds:
            config = (
                self.sweep.learner.config()
                .world(self.sweep.training_world(values))
                .training(**self.sweep.settings(values).model_dump())
                .env_runners(num_env_runners=resources.env_runners)
                .learners(num_gpus_per_learner=resources.gpus)
                .debugging(seed=seed, log_level="ERROR")
            )
            self.algorithms[seed] = config.build_algo()

    def report(self) -> dict[str, Any]:
        """Train to the next report and validate; returns the report."""
        if self._planned(self.episodes) != self.values:
            with tempfile.TemporaryDirectory() as here:
                self.save(Path(here))
                self.load(Path(here))
        budget = self.sweep.spec.budget
        # Not by the number of reports: an iteration may play more episodes than lie between two of them, and a report
        # without training in between would be the one before.
        target = min(budget.episodes, budget.report_every * (self.episodes // budget.report_every + 1))
        seeds = {str(seed): self._train(seed, target) for seed in self.seeds}
        objective = float(np.mean([report["validation"] for report in seeds.values()]))
        also = {
            each.metric: float(np.mean([report[ALSO][each.metric] for report in seeds.values()]))
            for each in self.sweep.also
        }
        for metric, value in {self.sweep.metric: objective, **also}.items():
            if not math.isfinite(value):
                raise ArithmeticError(f"{metric} is {value} after {self.episodes} episodes")
        report = {EPISODES: self.episodes, OBJECTIVE: objective, "seeds": seeds, "process": self._process()}
        self.history.append(report | ({ALSO: also} if also else {}))
        return self.history[-1]

    def _train(self, seed: int, episodes: int) -> dict[str, Any]:
        """Train one seed to a number of episodes; returns what to report of it."""
        algorithm = self.algorithms[seed]
        before = len(algorithm.episodes)
        losses: dict[str, float] = {}
        began = time.process_time()
        while len(algorithm.episodes) < episodes:
            losses = _losses(algorithm.train())
        self._trained_s[str(seed)] += time.process_time() - began
        validation = self.sweep.spec.validation
        results = evaluate(
            self.sweep.world,
            algorithm.policy(),
            validation.episodes,
            validation.seed,
            explore=validation.actions == "sampled",
            validation=True,
        )
        shown, _ = self.sweep.learner.headline_in(self.sweep.world)
        headline = [episode[shown] for episode in algorithm.episodes[before:]]
        also = {
            each.metric: self._trained_s[str(seed)]
            if each.metric == TRAINING_CPU
            else float(np.mean(results[each.metric]))
            for each in self.sweep.also
        }
        return {
            "validation": float(np.mean(results[self.sweep.metric])),
            "training": float(np.mean(headline)),
            **losses,
            **({ALSO: also} if also else {}),
        }

    def _process(self) -> dict[str, float]:
        """Processor time and memory of this process, and at how many episodes it took the trial over."""
        process = psutil.Process()
        times = process.cpu_times()
        return {
            "cpu_s": times.user + times.system,
            "memory_mb": process.memory_info().rss / 1e6,
            "resumed_at_episodes": float(self.resumed_at),
        }

    def save(self, folder: Path) -> None:
        """Write all of every seed, and its policy as ``edgegen`` loads it, to an empty folder."""
        for seed, algorithm in self.algorithms.items():
            own = seed_folder(folder, seed)
            own.mkdir()
            algorithm.save_to_path(str(own / "algorithm"))
            training = {
                "algorithm": self.sweep.learner.name,
                "preset": self.sweep.spec.preset,
                "settings": self.sweep.settings(self.values).model_dump(),
                "seed": seed,
                "episodes": len(algorithm.episodes),
                "sweep": self.sweep.spec.name,
            }
            save_policy(algorithm.policy(), own / "policy", self.sweep.training_world(self.values), training)
        state = {
            "history": self.history,
            "schedule": self.schedule,
            "trained_s": self._trained_s,
            "sizes": _sizes(folder),
        }
        write_json(folder / STATE_FILE, state)  # last: it says that the rest is complete

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, its own or, in population-based training, another's."""
        state = read_json(folder / STATE_FILE)
        episodes = state["history"][-1][EPISODES] if state["history"] else 0
        if (planned := self._planned(episodes)) != self.values:
            self.close()
            self._build(planned)
        same_values = state["schedule"][-1][1] == self.values
        for seed, algorithm in self.algorithms.items():
            step_sizes = [group["lr"] for group in parameter_groups(algorithm)]
            algorithm.restore_from_path(str(seed_folder(folder, seed) / "algorithm"))
            if not same_values:  # a checkpoint holds step sizes, too, as its own values have made them
                for group, step_size in zip(parameter_groups(algorithm), step_sizes, strict=True):
                    group["lr"] = step_size
        self.history = state["history"]
        self.resumed_at = episodes
        self._trained_s |= state.get("trained_s", {})
        self.schedule = [(start, values) for start, values in state["schedule"]]
        if self.schedule[-1][1] != self.values:
            self.schedule.append((episodes, self.values))


def seed_folder(checkpoint: Path, seed: int) -> Path:
    """Where a checkpoint holds what belongs to one training seed: ``algorithm/`` and ``policy/``."""
    return checkpoint / f"seed-{seed}"


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint in a training's folder with the most reports, or None."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint_*"):
        try:
            state = read_json(path / STATE_FILE)
            complete = state["sizes"] == _sizes(path)
        except (OSError, ValueError):  # cut off in the middle of being written, or just being deleted
            continue
        if complete:
            found.append((len(state["history"]), path))
    return max(found)[1] if found else None


def _sizes(folder: Path) -> dict[str, int]:
    """Sizes of the files that belong to the seeds, by relative name."""
    files = (path for path in folder.glob("seed-*/**/*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(files)}


def _losses(result: Mapping[str, Any]) -> dict[str, float]:
    """Losses of the last training step by name, with the module's where there are several modules."""
    modules = {name: values for name, values in result.get("learners", {}).items() if not name.startswith("__")}
    return {
        f"{module}/{name}" if len(modules) > 1 else name: float(value)
        for module, values in modules.items()
        for name, value in values.items()
        if name.endswith("_loss") and name != "total_loss"
    }
