# SPDX-License-Identifier: Apache-2.0
"""Training runs: a folder with checkpoints that resume exactly, a record in MLflow, and a policy to use.

A run folder holds ``run.json`` (all that is needed to rebuild the algorithm), ``episodes.json``, the learning curve,
and ``checkpoint-<episodes>/`` with ``algorithm/`` (RLlib's state, replay and generators included) and ``policy/``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgegen.algorithms.core.catalog import checkpoints, latest_checkpoint
from edgegen.algorithms.methods.registry import find_method
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.cluster.processes import Processes, make_processes
from edgegen.platform.run_folder import is_abandoned, take_again, take_new

RUN_FILE = "run.json"
MAX_RESTARTS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterUse:
    """How a call of train or resume uses a cluster; not part of the run.

    Attributes:
        address: Ray cluster to use; a private one if None.
        wait_s: How long to wait for room, s; as for ``JointConfig.placement``.
        max_restarts: Restarts from the latest checkpoint after a part of the cluster was lost, without a new
            checkpoint in between, before giving up.
    """

    address: str | None = None
    wait_s: float | None = None
    max_restarts: int = MAX_RESTARTS


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes:
        scenario: The world.
        out: Run folder.
        numbered: Whether to take ``out`` with the first free number behind it if there is anything of that name.
        algorithm: Name of the algorithm.
        preset: Its preset.
        overrides: Its settings that differ from the preset.
        scenario_overrides: What was changed in the scenario, to tell runs apart; the scenario has these values already.
        episodes: Episodes to train for, counted over all copies.
        seed: Root of every generator.
        processes: Env runners and learners.
        checkpoint_every: Episodes between checkpoints; there is always one at the end.
        cluster: Where to run.
        tracking: Whether to record the run in MLflow.
    """

    scenario: WorldScenario
    out: Path
    algorithm: str = "ladts"
    preset: str = "improved"
    overrides: dict[str, Any] = field(default_factory=dict)
    scenario_overrides: dict[str, Any] = field(default_factory=dict)
    episodes: int = 200
    seed: int = 0
    processes: Processes = field(default_factory=Processes)
    checkpoint_every: int = 50
    cluster: ClusterUse = field(default_factory=ClusterUse)
    tracking: bool = True
    numbered: bool = False

    @property
    def changes(self) -> dict[str, Any]:
        """All that was set otherwise than in the scenario's file and the preset."""
        return {**self.scenario_overrides, **self.overrides}


@dataclass(frozen=True)
class EpisodeReport:
    """Progress after some episodes.

    Attributes:
        episode: Episodes finished.
        episodes: Episodes there will be: those asked for, and as many more as finish together with the last of them.
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
        asynchronous: How old weights were, and what waited, by name; None of a synchronous training.
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
    asynchronous: dict[str, float] | None = None


@dataclass(frozen=True)
class Listener:
    """Who is told how a training goes.

    Attributes:
        on_episode: Called after every training step.
        on_notice: Called with a sentence about something out of the ordinary; it is logged if there is nobody.
    """

    on_episode: Callable[[EpisodeReport], None] | None = None
    on_notice: Callable[[str], None] | None = None

    def tell(self, sentence: str) -> None:
        """Tell about something out of the ordinary."""
        if self.on_notice is not None:
            self.on_notice(sentence)
        else:
            logger.warning("%s", sentence)


def train(request: TrainRequest, on_episode: Callable[[EpisodeReport], None] | Listener | None = None) -> TrainResult:
    """Train from the beginning.

    Raises:
        InputError: If the request is impossible, the run folder holds a run already, or the cluster has no room.
    """
    from edgegen.platform.runs.training_run import TrainingRun

    learner = find_method(request.algorithm)
    if request.episodes < 1:
        raise InputError(f"episodes is {request.episodes}, but must be at least 1.")
    settings = learner.make_settings(request.preset, request.overrides)
    run = {
        "algorithm": learner.name,
        "preset": request.preset,
        "changes": told(request.changes),
        "settings": settings.model_dump(),
        "scenario": request.scenario.model_dump(),
        "seed": request.seed,
        **request.processes.model_dump(),
        "checkpoint_every": request.checkpoint_every,
        "episodes": request.episodes,
        "mlflow_run_id": None,
    }
    listener = _listener(on_episode)
    with _taken(request, listener) as out:
        return TrainingRun(out, run, request.cluster, request.tracking, listener).go(None)


def resume(
    out: Path,
    episodes: int | None = None,
    on_episode: Callable[[EpisodeReport], None] | Listener | None = None,
    cluster: ClusterUse | None = None,
    tracking: bool = True,
    processes: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Continue an interrupted or finished run from its latest checkpoint.

    Args:
        out: Run folder.
        episodes: New total number of episodes; the one asked for at first if None.
        on_episode: Called as in :func:`train`.
        cluster: Where to run.
        tracking: Whether to continue the record in MLflow.
        processes: What is to differ from the processes it had, by name.

    Raises:
        InputError: If there is no run, another process is working on it, its checkpoint is damaged, or the cluster has
            no room.
    """
    from edgegen.platform.runs.training_run import TrainingRun

    _read_run(out)
    with take_again(out, "run") as taken:
        run, checkpoint = _read_run(taken.path)  # as whoever had it until now has left it
        if episodes is not None:
            run["episodes"] = episodes
        run |= make_processes(**{**processes_of(run), **(processes or {})}).model_dump()
        listener = _listener(on_episode)
        return TrainingRun(taken.path, run, cluster or ClusterUse(), tracking, listener).go(checkpoint)


def _read_run(out: Path) -> tuple[dict[str, Any], Path]:
    """Read what a run is, and find its latest checkpoint.

    Raises:
        InputError: If there is no run, it is damaged, or it has no checkpoint.
    """
    try:
        run: dict[str, Any] = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))
        learner = find_method(run["algorithm"])
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
        raise InputError(f"The run in '{out}' has no checkpoint to resume from; start it again.")
    return run, checkpoint


@contextmanager
def _taken(request: TrainRequest, listener: Listener) -> Iterator[Path]:
    """Take the folder of a new run for the length of a block; yields it.

    It is given back if the block fails before there is a checkpoint: nothing could be continued there.
    """
    if not request.numbered:
        _refuse_run_in(request.out)
    with take_new(request.out, "run", request.numbered) as taken:
        _refuse_run_in(taken.path)  # whoever was at work in it a moment ago may have finished
        if request.numbered:
            set_to = f", with {told(request.changes)}" if request.changes else ""
            listener.tell(f"The run goes to {taken.path}{set_to}.")
        try:
            yield taken.path
        except BaseException:
            if not checkpoints(taken.path):
                taken.give_back([RUN_FILE])
            raise


def _refuse_run_in(out: Path) -> None:
    """Refuse a folder with a run, but for one that was killed before its first checkpoint.

    Raises:
        InputError: If there is one.
    """
    if not (out / RUN_FILE).exists() and not checkpoints(out):
        return
    if not is_abandoned(out, [RUN_FILE]):
        raise InputError(f"'{out}' holds a run already; continue it with --resume or choose another --out.")


def told(changes: Mapping[str, Any]) -> str:
    """Settings by name as ``--set`` takes them, to be read by people."""
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def processes_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's file says of its processes."""
    return {name: run[name] for name in Processes.model_fields if name in run}


def _listener(on_episode: Callable[[EpisodeReport], None] | Listener | None) -> Listener:
    return on_episode if isinstance(on_episode, Listener) else Listener(on_episode)
