"""Training runs: a folder with checkpoints that resume exactly, a record in MLflow, and a policy to use.

A run folder holds ``run.json`` (all that is needed to rebuild the algorithm), ``episodes.json``, the learning curve,
and ``checkpoint-<episodes>/`` with ``algorithm/`` (RLlib's state, replay and generators included) and ``policy/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgegen.algorithms.learners import find_learner
from edgegen.algorithms.registry import latest_checkpoint
from edgegen.envs.errors import InputError
from edgegen.envs.provisioning_scenario import ProvisioningScenario
from edgegen.envs.scenario import Scenario
from edgegen.platform.cluster.processes import Processes, make_processes
from edgegen.platform.files import check_writable_folder

RUN_FILE = "run.json"
MAX_RESTARTS = 3


@dataclass(frozen=True)
class ClusterUse:
    """How a call of train or resume uses a cluster; not part of the run.

    Attributes:
        address: Ray cluster to use; a private one if None.
        wait_s: How long to wait for room, s; as for ``ArrayConfig.placement``.
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
        algorithm: Name of the algorithm.
        preset: Its preset.
        overrides: Its settings that differ from the preset.
        episodes: Episodes to train for, counted over all copies.
        seed: Root of every generator.
        processes: Env runners and learners.
        checkpoint_every: Episodes between checkpoints; there is always one at the end.
        cluster: Where to run.
        tracking: Whether to record the run in MLflow.
    """

    scenario: Scenario | ProvisioningScenario
    out: Path
    algorithm: str = "ladts"
    preset: str = "improved"
    overrides: dict[str, Any] = field(default_factory=dict)
    episodes: int = 200
    seed: int = 0
    processes: Processes = field(default_factory=Processes)
    checkpoint_every: int = 50
    cluster: ClusterUse = field(default_factory=ClusterUse)
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


@dataclass(frozen=True)
class Listener:
    """Who is told how a training goes.

    Attributes:
        on_episode: Called after every training step.
        on_notice: Called with a sentence about something out of the ordinary; it is logged if there is nobody.
    """

    on_episode: Callable[[EpisodeReport], None] | None = None
    on_notice: Callable[[str], None] | None = None


def train(request: TrainRequest, on_episode: Callable[[EpisodeReport], None] | Listener | None = None) -> TrainResult:
    """Train from the beginning.

    Raises:
        InputError: If the request is impossible, the run folder holds a run already, or the cluster has no room.
    """
    from edgegen.platform.training_run import TrainingRun

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
        **request.processes.model_dump(),
        "checkpoint_every": request.checkpoint_every,
        "episodes": request.episodes,
        "mlflow_run_id": None,
    }
    return TrainingRun(request.out, run, request.cluster, request.tracking, _listener(on_episode)).go(None)


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
        InputError: If there is no run, its checkpoint is damaged, or the cluster has no room.
    """
    from edgegen.platform.training_run import TrainingRun

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
    run |= make_processes(**{**processes_of(run), **(processes or {})}).model_dump()
    check_writable_folder(out)
    return TrainingRun(out, run, cluster or ClusterUse(), tracking, _listener(on_episode)).go(checkpoint)


def processes_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's file says of its processes."""
    return {name: run[name] for name in Processes.model_fields if name in run}


def _listener(on_episode: Callable[[EpisodeReport], None] | Listener | None) -> Listener:
    return on_episode if isinstance(on_episode, Listener) else Listener(on_episode)
