"""Training runs: a folder with checkpoints that resume exactly, a record in MLflow, and a policy to use.

A run folder holds ``run.json`` (all that is needed to rebuild the algorithm), ``episodes.json``, the learning curve,
and ``checkpoint-<episodes>/`` with ``algorithm/`` (RLlib's state, replay and generators included) and ``policy/``.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edgegen.algorithms.learners import Learner, find_learner
from edgegen.algorithms.registry import CHECKPOINT_PREFIX, latest_checkpoint
from edgegen.envs.errors import InputError
from edgegen.envs.provisioning_scenario import ProvisioningScenario
from edgegen.envs.scenario import Scenario
from edgegen.platform.files import check_writable_folder, write_json
from edgegen.platform.process import prefer_one_thread
from edgegen.platform.tracking import Tracker

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.algorithm import ArrayAlgorithm

RUN_FILE = "run.json"
EPISODES_FILE = "episodes.json"
CURVE_FILE = "learning_curve.png"
KEPT_CHECKPOINTS = 2
TRACKED = ("entropy_nats", "temperature", "q_mean")
"""Metrics of learners that are tracked beside their losses."""


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes:
        scenario: The world.
        out: Run folder.
        algorithm: Name of the algorithm.
        preset: Its preset.
        overrides: Its settings that differ from the preset.
        episodes: Episodes to train for, counted over all copies.
        seed: Root of every generator.
        num_env_runners: Remote env runners; 0 plays in this process.
        checkpoint_every: Episodes between checkpoints; there is always one at the end.
        address: Ray cluster to use; a private one if None.
        tracking: Whether to record the run in MLflow.
    """

    scenario: Scenario | ProvisioningScenario
    out: Path
    algorithm: str = "ladts"
    preset: str = "improved"
    overrides: dict[str, Any] = field(default_factory=dict)
    episodes: int = 200
    seed: int = 0
    num_env_runners: int = 0
    checkpoint_every: int = 50
    address: str | None = None
    tracking: bool = True


@dataclass(frozen=True)
class EpisodeReport:
    """Progress after some episodes.

    Attributes:
        episode: Episodes finished.
        episodes: Episodes asked for.
        label: What tells how good an episode was, with its unit; less is better.
        recent: Its mean over the last ten episodes.
    """

    episode: int
    episodes: int
    label: str
    recent: float


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        out: Run folder.
        policy: Folder of the exported policy.
        episodes: What was measured of every episode, while training and exploring, by name.
        seconds: Wall-clock time of this call, s.
        cpu_seconds: Processor time of this process in the training loop, s.
        interrupted: True if it was asked to stop early; ``--resume`` continues.
        mlflow_run_id: Run in MLflow, if tracked.
        mlflow_uri: Where that is.
        rivals: Rules to compare it with first.
    """

    out: Path
    policy: Path
    episodes: dict[str, list[float]]
    seconds: float
    cpu_seconds: float
    interrupted: bool
    mlflow_run_id: str | None
    mlflow_uri: str | None
    rivals: tuple[str, ...]


def train(request: TrainRequest, on_episode: Callable[[EpisodeReport], None] | None = None) -> TrainResult:
    """Train from the beginning.

    Raises:
        InputError: If the request is impossible, or the run folder holds a run already.
    """
    learner = find_learner(request.algorithm)
    if request.episodes < 1:
        raise InputError(f"episodes is {request.episodes}, but must be at least 1.")
    settings = learner.make_settings(request.preset, request.overrides)
    if (request.out / RUN_FILE).exists():
        raise InputError(f"'{request.out}' holds a run already; continue it with --resume or choose another --out.")
    check_writable_folder(request.out)
    run = {
        "algorithm": request.algorithm,
        "preset": request.preset,
        "settings": settings.model_dump(),
        "scenario": request.scenario.model_dump(),
        "seed": request.seed,
        "num_env_runners": request.num_env_runners,
        "checkpoint_every": request.checkpoint_every,
        "episodes": request.episodes,
        "mlflow_run_id": None,
    }
    return _Run(request.out, run, request.address, request.tracking, on_episode).go(None)


def resume(
    out: Path,
    episodes: int | None = None,
    on_episode: Callable[[EpisodeReport], None] | None = None,
    address: str | None = None,
    tracking: bool = True,
) -> TrainResult:
    """Continue an interrupted or finished run from its latest checkpoint.

    Args:
        out: Run folder.
        episodes: New total number of episodes; the one asked for at first if None.
        on_episode: Called as in :func:`train`.
        address: Ray cluster to use.
        tracking: Whether to continue the record in MLflow.

    Raises:
        InputError: If there is no run, or its checkpoint is damaged.
    """
    try:
        run = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))
        learner = find_learner(run["algorithm"])
        learner.build_scenario(dict(run["scenario"]))
        learner.make_settings(overrides=run["settings"])
        seen = {run[name] for name in ("seed", "num_env_runners", "checkpoint_every", "episodes")}
    except FileNotFoundError:
        raise InputError(f"'{out}' holds no run to resume: {RUN_FILE} is missing.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"The run in '{out}' is damaged: {RUN_FILE} can not be read ({error!r}).") from None
    del seen
    checkpoint = latest_checkpoint(out)
    if checkpoint is None:
        raise InputError(f"The run in '{out}' has no checkpoint to resume from; start it again in another folder.")
    if episodes is not None:
        run["episodes"] = episodes
    check_writable_folder(out)
    return _Run(out, run, address, tracking, on_episode).go(checkpoint)


class _Run:
    """One call of train or resume."""

    def __init__(
        self,
        out: Path,
        run: dict[str, Any],
        address: str | None,
        tracking: bool,
        on_episode: Callable[[EpisodeReport], None] | None,
    ) -> None:
        self.out = out
        self.run = run
        self.address = address
        self.tracking = tracking
        self.on_episode = on_episode
        self.learner: Learner = find_learner(run["algorithm"])
        self.scenario = self.learner.build_scenario(dict(run["scenario"]))
        self.tracker: Tracker | None = None

    def go(self, checkpoint: Path | None) -> TrainResult:
        from edgegen.algorithms.ray_session import ray_session

        started = time.perf_counter()
        prefer_one_thread()
        if self.tracking:
            self.tracker = self._open_tracker()
            self.run["mlflow_run_id"] = self.tracker.run_id
        status = "FAILED"
        try:
            with ray_session(self.address):
                algorithm = self._build(checkpoint)
                write_json(self.out / RUN_FILE, self.run)
                try:
                    cpu_started = time.process_time()
                    interrupted = self._loop(algorithm)
                    cpu_seconds = time.process_time() - cpu_started
                    episodes = _columns(algorithm.episodes)
                    saved = self._save(algorithm)
                finally:
                    algorithm.stop()
            self._publish(episodes.get(self.learner.headline, []), saved)
            status = "KILLED" if interrupted else "FINISHED"
        finally:
            if self.tracker is not None:
                self.tracker.finish(status)
        return TrainResult(
            out=self.out,
            policy=saved / "policy",
            episodes=episodes,
            seconds=time.perf_counter() - started,
            cpu_seconds=cpu_seconds,
            interrupted=interrupted,
            mlflow_run_id=self.tracker.run_id if self.tracker else None,
            mlflow_uri=self.tracker.uri if self.tracker else None,
            rivals=self.learner.rivals,
        )

    def _build(self, checkpoint: Path | None) -> ArrayAlgorithm:
        config = (
            self.learner.config()
            .world(self.scenario)
            .training(**self.run["settings"])
            .env_runners(num_env_runners=self.run["num_env_runners"])
            .debugging(seed=self.run["seed"], log_level="ERROR")
        )
        algorithm: ArrayAlgorithm = config.build_algo()
        if checkpoint is not None:
            try:
                algorithm.restore_from_path(str((checkpoint / "algorithm").resolve()))
            except Exception as error:  # whatever a damaged pickle or a missing file can raise
                algorithm.stop()
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise InputError(
                    f"The checkpoint '{checkpoint}' is damaged and can not be resumed: {reason}; "
                    "remove it to resume from the one before, if there is one."
                ) from None
        return algorithm

    def _loop(self, algorithm: ArrayAlgorithm) -> bool:
        """Train until done or asked to stop; returns whether it was asked to."""
        episodes = int(self.run["episodes"])
        every = int(self.run["checkpoint_every"])
        saved_at = len(algorithm.episodes)
        with _stop_requests() as asked_to_stop:
            while (done := len(algorithm.episodes)) < episodes:
                if asked_to_stop.is_set():
                    return True
                result = algorithm.train()
                self._report(algorithm, result, done)
                finished = len(algorithm.episodes)
                if finished - saved_at >= every and finished < episodes:
                    self._save(algorithm)
                    saved_at = finished
        return False

    def _report(self, algorithm: ArrayAlgorithm, result: dict[str, Any], done: int) -> None:
        if self.tracker is not None:
            rows: list[tuple[int, dict[str, float]]] = [
                (number + 1, {f"episode/{name}": value for name, value in algorithm.episodes[number].items()})
                for number in range(done, len(algorithm.episodes))
            ]
            self.tracker.log_metrics([*rows, (algorithm.slots_sampled, self._per_slot(algorithm, result))])
        if self.on_episode is not None:
            recent = [episode[self.learner.headline] for episode in algorithm.episodes[-10:]]
            mean = sum(recent) / len(recent) if recent else float("nan")
            report = EpisodeReport(
                len(algorithm.episodes), int(self.run["episodes"]), self.learner.headline_label, mean
            )
            self.on_episode(report)

    def _per_slot(self, algorithm: ArrayAlgorithm, result: dict[str, Any]) -> dict[str, float]:
        """Losses and the like, and how many updates there were, by module if there are several."""
        values: dict[str, float] = {}
        for module_id, updates in algorithm.updates.items():
            prefix = f"slot/{module_id}/" if len(algorithm.updates) > 1 else "slot/"
            values[f"{prefix}updates"] = float(updates)
            for name, value in result.get("learners", {}).get(module_id, {}).items():
                if name in TRACKED or name.endswith("_loss"):
                    values[prefix + name] = float(value)
        return values

    def _save(self, algorithm: ArrayAlgorithm) -> Path:
        """Write a checkpoint that appears whole or not at all, and drop the oldest ones."""
        from edgegen.algorithms.export import save_policy

        finished = len(algorithm.episodes)
        target = self.out / f"{CHECKPOINT_PREFIX}{finished:06d}"
        temporary = self.out / f".{target.name}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            algorithm.save_to_path(str((temporary / "algorithm").resolve()))
            training = {name: self.run[name] for name in ("algorithm", "preset", "settings", "seed")}
            save_policy(algorithm.policy(), temporary / "policy", self.scenario, {**training, "episodes": finished})
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"The checkpoint '{target}' can not be written: {(error.strerror or str(error)).lower()}; "
                "earlier checkpoints are unharmed."
            ) from None
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        write_json(self.out / EPISODES_FILE, _columns(algorithm.episodes))
        complete = sorted(self.out.glob(f"{CHECKPOINT_PREFIX}*"))
        for old in complete[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _open_tracker(self) -> Tracker:
        settings = self.run["settings"]
        parameters = {
            "algorithm": self.run["algorithm"],
            "preset": self.run["preset"],
            "scenario": self.scenario.name,
            **_size(self.scenario),
            "seed": self.run["seed"],
            "num_env_runners": self.run["num_env_runners"],
            **{f"{self.run['algorithm']}.{name}": value for name, value in settings.items()},
        }
        name = f"{self.run['algorithm']}-{self.run['preset']}-{self.scenario.name}-seed{self.run['seed']}"
        return Tracker(name, parameters, {"out": str(self.out)}, self.run["mlflow_run_id"])

    def _publish(self, headline: list[float], checkpoint: Path) -> None:
        """Draw the learning curve and hand the results to MLflow."""
        from edgegen.platform.plots import plot_training

        curve = self.out / CURVE_FILE
        title = f"{self.run['algorithm']} {self.run['preset']} on {self.scenario.name}"
        plot_training(headline, curve, title, self.learner.headline_label)
        scenario_file = self.out / "scenario.yaml"
        scenario_file.write_text(
            yaml.safe_dump(json.loads(self.scenario.model_dump_json()), sort_keys=False), encoding="utf-8"
        )
        if self.tracker is not None:
            for path in (curve, scenario_file, self.out / RUN_FILE, self.out / EPISODES_FILE):
                self.tracker.log_file(path)
            self.tracker.log_folder(checkpoint, "checkpoint")


def _columns(episodes: list[dict[str, float]]) -> dict[str, list[float]]:
    """Turn a list of records into lists by name."""
    names = episodes[0] if episodes else {}
    return {name: [episode[name] for episode in episodes] for name in names}


def _size(scenario: Scenario | ProvisioningScenario) -> dict[str, Any]:
    """What of a scenario is worth a column in a table of runs."""
    if isinstance(scenario, ProvisioningScenario):
        return {"cells": scenario.cells, "users": scenario.users, "models": scenario.models}
    return {"servers": scenario.servers, "load": round(scenario.load, 4)}


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or termination request into an event; a second one interrupts at once.

    An episode is then finished and saved instead of being torn apart in the middle.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
