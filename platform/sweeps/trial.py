"""A trial: the same settings trained with one or several seeds in one process, validated as they go.

Every seed is an ordinary training of edgegen. Checkpoints hold all of it, replay and generators included, so that a
trial that was cut off continues with the very numbers it would have had.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from ray.tune import Trainable

from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.rllib.private import parameter_groups
from edgegen.platform.files import write_json
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.study import Study, make_study

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.algorithm import JointAlgorithm

SWEEP_FILE = "sweep.json"
"""In the sweep's folder: what the sweep is."""
ENTRIES_FILE = "entries.json"
"""In the sweep's folder: what the final training trains."""
STATE_FILE = "trial.json"
"""In a checkpoint: what is not an algorithm's own."""
OBJECTIVE = "objective"
EPISODES = "episodes"

Values = dict[str, Any]


class SweepTrial(Trainable):  # type: ignore[misc]  # Ray has no types
    """One trial of a sweep, as Ray Tune runs it.

    Its config holds ``folder``, where the sweep is described; ``stage``, the name of Tune's experiment; and either
    ``settings``, the values of the space, or ``entry``, a number in the list of the final training.

    A report holds the metric's mean over the seeds (``objective``), the training episodes so far (``episodes``) and
    the ``history`` of all reports of this training. Values that changed on the way (population-based training) are in
    ``schedule``: pairs of the episodes after which, and the values that hold from there on.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Build the algorithms."""
        prefer_one_thread()
        quiet_libraries()
        self.algorithms: dict[int, JointAlgorithm] = {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; starting a process anew takes longer than many a report."""
        self.cleanup()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Release what the algorithms hold, and the empty folders that RLlib makes for their logs."""
        for algorithm in self.algorithms.values():
            algorithm.stop()
            shutil.rmtree(algorithm.logdir, ignore_errors=True)
        self.algorithms.clear()

    def _begin(self, config: Mapping[str, Any]) -> None:
        folder = Path(config["folder"])
        self.study: Study = make_study(read_json(folder / SWEEP_FILE)["spec"])
        self.seeds: tuple[int, ...] = self.study.spec.seeds
        self.plan: list[tuple[int, Values]] = [(0, dict(config.get("settings", {})))]
        if "entry" in config:
            entry = read_json(folder / ENTRIES_FILE)[config["entry"]]
            self.seeds = (entry["seed"],)
            self.plan = [(start, values) for start, values in entry["schedule"]]
        self.own_folder = folder / config["stage"] / self.trial_id
        self.history: list[dict[str, Any]] = []
        self.resumed_at = 0
        self._build(self.plan[0][1])
        self.schedule: list[tuple[int, Values]] = [(0, self.values)]

    @property
    def episodes(self) -> int:
        """Training episodes that every seed has finished."""
        return min(len(algorithm.episodes) for algorithm in self.algorithms.values())

    def _planned(self, episodes: int) -> Values:
        """The values for a point of the training."""
        return next(values for start, values in reversed(self.plan) if start <= episodes)

    def _build(self, values: Values) -> None:
        self.values = values
        resources = self.study.spec.resources
        for seed in self.seeds:
            config = (
                self.study.learner.config()
                .world(self.study.training_world(values))
                .training(**self.study.settings(values).model_dump())
                .env_runners(num_env_runners=resources.env_runners)
                .learners(num_gpus_per_learner=resources.gpus)
                .debugging(seed=seed, log_level="ERROR")
            )
            self.algorithms[seed] = config.build_algo()

    def step(self) -> dict[str, Any]:
        """Train to the next report and validate."""
        if not self.history and (found := newest_checkpoint(self.own_folder)) is not None:
            self.load_checkpoint(str(found))  # written, but the driver was killed before it heard of it
        if self._planned(self.episodes) != self.values:
            with tempfile.TemporaryDirectory() as here:
                self.save_checkpoint(here)
                self.load_checkpoint(here)
        budget = self.study.spec.budget
        # Not by the number of reports: an iteration may play more episodes than lie between two of them, and a report
        # without training in between would be the one before.
        target = min(budget.episodes, budget.report_every * (self.episodes // budget.report_every + 1))
        seeds = {str(seed): self._train(seed, target) for seed in self.seeds}
        objective = float(np.mean([report["validation"] for report in seeds.values()]))
        if not math.isfinite(objective):
            raise ArithmeticError(f"{self.study.metric} is {objective} after {self.episodes} episodes")
        self.history.append({EPISODES: self.episodes, OBJECTIVE: objective, "seeds": seeds, "process": self._process()})
        return {
            OBJECTIVE: objective,
            EPISODES: self.episodes,
            "history": list(self.history),
            "schedule": list(self.schedule),
            "done": self.episodes >= budget.episodes,
        }

    def _train(self, seed: int, episodes: int) -> dict[str, float]:
        """Train one seed to a number of episodes; returns what to report of it."""
        algorithm = self.algorithms[seed]
        before = len(algorithm.episodes)
        losses: dict[str, float] = {}
        while len(algorithm.episodes) < episodes:
            losses = _losses(algorithm.train())
        validation = self.study.spec.validation
        results = evaluate(
            self.study.world,
            algorithm.policy(),
            validation.episodes,
            validation.seed,
            explore=validation.actions == "sampled",
            validation=True,
        )
        headline = [episode[self.study.learner.headline] for episode in algorithm.episodes[before:]]
        return {
            "validation": float(np.mean(results[self.study.metric])),
            "training": float(np.mean(headline)),
            **losses,
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

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all of every seed, and its policy as ``edgegen`` loads it."""
        folder = Path(checkpoint_dir)
        for seed, algorithm in self.algorithms.items():
            own = seed_folder(folder, seed)
            own.mkdir()
            algorithm.save_to_path(str(own / "algorithm"))
            training = {
                "algorithm": self.study.learner.name,
                "preset": self.study.spec.preset,
                "settings": self.study.settings(self.values).model_dump(),
                "seed": seed,
                "episodes": len(algorithm.episodes),
                "sweep": self.study.spec.name,
            }
            save_policy(algorithm.policy(), own / "policy", self.study.training_world(self.values), training)
        state = {"history": self.history, "schedule": self.schedule, "sizes": _sizes(folder)}
        write_json(folder / STATE_FILE, state)  # last: it says that the rest is complete

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a checkpoint, this trial's own or, in population-based training, another's."""
        folder = Path(str(checkpoint))
        state = read_json(folder / STATE_FILE)
        episodes = state["history"][-1][EPISODES] if state["history"] else 0
        if (planned := self._planned(episodes)) != self.values:
            self.cleanup()
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
        self.schedule = [(start, values) for start, values in state["schedule"]]
        if self.schedule[-1][1] != self.values:
            self.schedule.append((episodes, self.values))


def seed_folder(checkpoint: Path, seed: int) -> Path:
    """Where a checkpoint holds what belongs to one training seed: ``algorithm/`` and ``policy/``."""
    return checkpoint / f"seed-{seed}"


def read_json(path: Path) -> Any:
    """Read a file that this program wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint in a trial's folder with the most reports, or None."""
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
