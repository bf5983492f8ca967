# SPDX-License-Identifier: Apache-2.0
"""One call of train or resume: the loop, its checkpoints and records, and restarts when parts of a cluster are lost."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.algorithms.core.catalog import CHECKPOINT_PREFIX, checkpoints, latest_checkpoint
from edgegen.algorithms.methods.registry import Method, find_method
from edgegen.algorithms.stop_signals import StopRequest, noting_stops, stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.platform.cluster.processes import RESTART_WAIT_S, RunnerWatch, is_cluster_fault, make_processes
from edgegen.platform.files import draw_or_tell, write_json
from edgegen.platform.process import prefer_one_thread, quiet_ray
from edgegen.platform.records.tracking import Store, Tracker
from edgegen.platform.runs.training import RUN_FILE, ClusterUse, EpisodeReport, Listener, TrainResult, processes_of

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.algorithm import JointAlgorithm

EPISODES_FILE = "episodes.json"
CURVE_FILE = "learning_curve.png"
KEPT_CHECKPOINTS = 2
TRACKED = ("entropy_nats", "temperature", "q_mean")
"""Metrics of learners that are tracked beside their losses."""
_NAME_LIMIT = 200
"""Characters of a run's name in MLflow."""

logger = logging.getLogger(__name__)


class TrainingRun:
    """One call of train or resume."""

    def __init__(self, out: Path, run: dict[str, Any], cluster: ClusterUse, tracking: bool, listener: Listener) -> None:
        self.out = out
        self.run = run
        self.cluster = cluster
        self.tracking = tracking
        self.listener = listener
        self.processes = make_processes(**processes_of(run))
        self.learner: Method = find_method(run["algorithm"])
        self.scenario = self.learner.build_scenario(dict(run["scenario"]))
        self.tracker: Tracker | None = None
        self._tracked_episodes = 0
        self._figures: dict[str, float] | None = None
        self._stop_request = StopRequest()

    def go(self, checkpoint: Path | None) -> TrainResult:
        """Train, from the beginning or from a checkpoint.

        Raises:
            KeyboardInterrupt: If it was asked to stop before there was anything to save, or asked twice.
        """
        with stopping_as_ctrl_c():
            return self._go(checkpoint)

    def _go(self, checkpoint: Path | None) -> TrainResult:
        started = time.perf_counter()
        prefer_one_thread()
        store = Store(self.out) if self.tracking else None  # a wrong address is to be found before anything is started
        status = "FAILED"
        try:
            with self._session():
                if store is not None:  # a cluster that does not start is to leave no record
                    self.tracker = self._open_tracker(store)
                    self.run["mlflow_run_id"] = self.tracker.run_id
                episodes, saved, interrupted, cpu_seconds = self._train_through_faults(checkpoint)
            with noting_stops():  # all is done; whoever asks to stop now waits for the records
                self._publish(episodes.get(self._headline[0], []), saved)
            status = "KILLED" if interrupted else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
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
            asynchronous=self._figures,
        )

    def _session(self) -> AbstractContextManager[None]:
        """A Ray session where something runs elsewhere, or was asked to; RLlib needs none for what runs here."""
        if self.cluster.address is None and not self.processes.remote:
            quiet_ray()
            return nullcontext()
        from edgegen.algorithms.rllib.ray_session import ray_session

        return ray_session(self.cluster.address, **({} if self.cluster.address else self.processes.session_options()))

    def notice(self, sentence: str) -> None:
        """Tell about something out of the ordinary."""
        self.listener.tell(sentence)

    def _train_through_faults(self, checkpoint: Path | None) -> tuple[dict[str, list[float]], Path, bool, float]:
        """Train; where learners, all runners or their machines are lost, start anew from the latest checkpoint.

        Returns:
            What was measured of every episode, the last checkpoint, whether it was asked to stop, and the processor
            time of this process, s.
        """
        attempt, cpu_started = 0, time.process_time()
        wait_s = self.cluster.wait_s
        while True:
            try:
                episodes, saved, interrupted = self._train_once(checkpoint, wait_s)
                return episodes, saved, interrupted, time.process_time() - cpu_started
            except Exception as error:
                if not is_cluster_fault(error):
                    raise
                if self._stop_request.asked:  # whatever ends this process may have ended the cluster's as well
                    raise KeyboardInterrupt from None
                newest = latest_checkpoint(self.out)
                attempt = attempt + 1 if newest == checkpoint else 1
                checkpoint = newest
                wait_s = max(RESTART_WAIT_S, wait_s or 0.0)
                if attempt > self.cluster.max_restarts:
                    where = f"; continue with --resume {self.out}" if checkpoint else ""
                    raise InputError(
                        f"A part of the cluster was lost ({first_line(error)}) after {self.cluster.max_restarts} "
                        f"restarts without a new checkpoint in between{where}."
                    ) from None
                begin = f"from {checkpoint.name}" if checkpoint else "from the beginning, there is no checkpoint yet"
                self.notice(
                    f"A part of the cluster was lost ({first_line(error)}); restart {attempt} of at most "
                    f"{self.cluster.max_restarts} {begin}."
                )

    def _train_once(self, checkpoint: Path | None, wait_s: float | None) -> tuple[dict[str, list[float]], Path, bool]:
        watch = RunnerWatch(self.notice)
        with watch.listening():
            algorithm = self._build(checkpoint, wait_s)
            with noting_stops() as self._stop_request:
                try:
                    write_json(self.out / RUN_FILE, self.run)
                    interrupted = self._loop(algorithm, watch)
                    saved = self._save(algorithm)  # asynchronous training finishes what is under way first
                    self._figures = algorithm.figures()
                    return _columns(algorithm.episodes), saved, interrupted
                finally:
                    self._stop(algorithm)

    def _stop(self, algorithm: JointAlgorithm) -> None:
        """Stop what is still there of an algorithm; what is lost can not be stopped."""
        try:
            algorithm.stop()
        except Exception as error:
            if not is_cluster_fault(error):
                raise
            logger.debug("while stopping: %s", error)

    def _build(self, checkpoint: Path | None, wait_s: float | None) -> JointAlgorithm:
        config = self.learner.config().world(self.scenario).training(**self.run["settings"])
        config = self.processes.apply(config, wait_s).debugging(seed=self.run["seed"], log_level="ERROR")
        algorithm: JointAlgorithm = config.build_algo()
        if checkpoint is not None:
            try:
                algorithm.restore_from_path(str((checkpoint / "algorithm").resolve()))
            except Exception as error:  # whatever a damaged pickle or a missing file can raise
                self._stop(algorithm)
                if is_cluster_fault(error):
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise InputError(
                    f"The checkpoint '{checkpoint}' is damaged or of another version and can not be resumed: {reason}; "
                    "remove it to resume from the one before, if there is one."
                ) from None
        return algorithm

    def _loop(self, algorithm: JointAlgorithm, watch: RunnerWatch) -> bool:
        """Train until done or asked to stop; returns whether it was asked to.

        A checkpoint on the way that can not be written costs a notice, not the training: the one before is whole.
        """
        episodes = int(self.run["episodes"])
        every = int(self.run["checkpoint_every"])
        saved_at = len(algorithm.episodes)
        while (done := len(algorithm.episodes)) < episodes:
            if self._stop_request.asked:
                return True
            result = algorithm.train()
            watch.look(algorithm)
            self._report(algorithm, result, done)
            finished = len(algorithm.episodes)
            if finished - saved_at >= every and finished < episodes:
                try:
                    self._save(algorithm)
                except InputError as error:
                    self.notice(f"{error} Training goes on; the next attempt is after {every} more episodes.")
                saved_at = finished
        return False

    def _report(self, algorithm: JointAlgorithm, result: dict[str, Any], done: int) -> None:
        if self.tracker is not None:
            # Episodes that are played again after a restart were recorded the first time.
            rows: list[tuple[int, dict[str, float]]] = [
                (number + 1, {f"episode/{name}": value for name, value in algorithm.episodes[number].items()})
                for number in range(max(done, self._tracked_episodes), len(algorithm.episodes))
            ]
            self._tracked_episodes = max(self._tracked_episodes, len(algorithm.episodes))
            self.tracker.log_metrics([*rows, (algorithm.slots_sampled, self._per_slot(algorithm, result))])
        if self.listener.on_episode is not None:
            recent = [episode[self._headline[0]] for episode in algorithm.episodes[-10:]]
            mean = sum(recent) / len(recent) if recent else float("nan")
            finished = len(algorithm.episodes)
            together = algorithm.settings.copies * max(1, self.processes.num_env_runners)
            left = -(-max(0, int(self.run["episodes"]) - finished) // together) * together
            report = EpisodeReport(finished, finished + left, self._headline[1], mean)
            self.listener.on_episode(report)

    def _per_slot(self, algorithm: JointAlgorithm, result: dict[str, Any]) -> dict[str, float]:
        """Losses and the like, and how many updates there were, by module if there are several."""
        values: dict[str, float] = {}
        for module_id, updates in algorithm.updates.items():
            prefix = f"slot/{module_id}/" if len(algorithm.updates) > 1 else "slot/"
            values[f"{prefix}updates"] = float(updates)
            for name, value in result.get("learners", {}).get(module_id, {}).items():
                if name in TRACKED or name.endswith("_loss"):
                    values[prefix + name] = float(value)
        for name, value in (algorithm.figures() or {}).items():
            values[f"slot/asynchronous/{name}"] = value
        return values

    def _save(self, algorithm: JointAlgorithm) -> Path:
        """Write a checkpoint that appears whole or not at all, and drop the oldest ones."""
        from safetensors import SafetensorError

        from edgegen.algorithms.core.codec import save_policy

        algorithm.settle()
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
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = (getattr(error, "strerror", None) or first_line(error)).lower()
            raise InputError(
                f"The checkpoint '{target}' can not be written: {reason}; earlier checkpoints are unharmed."
            ) from None
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        write_json(self.out / EPISODES_FILE, _columns(algorithm.episodes))
        for old in checkpoints(self.out)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _open_tracker(self, store: Store) -> Tracker:
        settings = self.run["settings"]
        parameters = {
            "algorithm": self.run["algorithm"],
            "preset": self.run["preset"],
            "scenario": self.scenario.name,
            **_rounded(kind_of(self.scenario).size(self.scenario)),
            "seed": self.run["seed"],
            "num_env_runners": self.processes.num_env_runners,
            "num_learners": self.processes.num_learners,
            **{f"{self.run['algorithm']}.{name}": value for name, value in settings.items()},
        }
        name = f"{self.run['algorithm']}-{self.run['preset']}-{self.scenario.name}-seed{self.run['seed']}"
        if changes := self.run.get("changes"):
            name = f"{name}, {changes}"
        if len(name) > _NAME_LIMIT:
            name = f"{name[: _NAME_LIMIT - 3]}..."
        return Tracker(name, parameters, {"out": str(self.out)}, self.run["mlflow_run_id"], store)

    def _publish(self, headline: list[float], checkpoint: Path) -> None:
        """Say what the world was, draw the learning curve, and hand the results to MLflow."""
        scenario_file = self.out / "scenario.yaml"
        scenario_file.write_text(dump_yaml(self.scenario.model_dump(mode="json")), encoding="utf-8")
        curve = draw_or_tell(lambda: self._draw(headline), self.notice)[:1]
        if self.tracker is not None:
            for path in (*curve, scenario_file, self.out / RUN_FILE, self.out / EPISODES_FILE):
                self.tracker.log_file(path)
            self.tracker.log_folder(checkpoint, "checkpoint")

    def _draw(self, headline: list[float]) -> list[Path]:
        """Draw the learning curve; returns the files written, .png first."""
        from edgegen.platform.figures.plots import plot_training

        title = f"{self.run['algorithm']} {self.run['preset']} on {self.scenario.name}"
        return plot_training(headline, self.out / CURVE_FILE, title, self._headline[1])

    @property
    def _headline(self) -> tuple[str, str]:
        """What learning curves show, and its label."""
        return self.learner.headline_in(self.scenario)


def _columns(episodes: list[dict[str, float]]) -> dict[str, list[float]]:
    """Turn a list of records into lists by name."""
    names = episodes[0] if episodes else {}
    return {name: [episode[name] for episode in episodes] for name in names}


def _rounded(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as a table of runs shows them."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in sizes.items()}
