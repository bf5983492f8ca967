"""One unit of a study in its own folder: done once, resumed where it was cut off, kept as data.

A folder holds ``unit.json``, what the unit is; ``run/``, the training under way; and of what is finished
``policy/``, ``training.json``, ``evaluation-*.json`` and, last of all, ``done.json``. Each appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

import edgegen
from edgegen.algorithms.core.catalog import latest_checkpoint, make_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.methods.registry import headline_of
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.platform.files import write_json
from edgegen.platform.process import prefer_one_thread, quiet_libraries
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.studies.streams import play_training_stream
from edgegen.platform.studies.work import PLAY, PPO, STREAM, TRAINING, Evaluation, Unit

UNIT_FILE, TRAINING_FILE, DONE_FILE, EFFORT_FILE = "unit.json", "training.json", "done.json", "effort.json"
LOCK_FILE = ".lock"
RUN_FOLDER, POLICY_FOLDER = "run", "policy"
SAMPLED, GREEDY, RULE = "sampled", "greedy", "rule"
_EFFORT_EVERY_S = 5.0
_NAMES = ("name", "description")  # of a world; they decide nothing

OnProgress = Callable[[int, float], None]
"""Called with finished episodes and the recent value of what decides."""


class StoppedEarlyError(Exception):
    """The process was asked to stop; the unit goes on another time."""


def is_done(unit: Unit, folder: Path) -> bool:
    """Whether nothing is left to do of a unit."""
    done = read_done(folder)
    return (
        done is not None
        and all(evaluation.file_name in done["evaluations"] for evaluation in unit.evaluations)
        and _is_of(unit, folder)
    )


def _is_of(unit: Unit, folder: Path) -> bool:
    """Whether a folder holds this unit: its identity, and no other value where a default has changed since."""
    try:
        found = json.loads((folder / UNIT_FILE).read_text(encoding="utf-8"))
        here = json.loads(json.dumps(described(unit)))
        same = [
            all(found[part].get(name, value) == value for name, value in here[part].items() if name not in _NAMES)
            for part in ("settings", "world")
        ]
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all(same)


def read_done(folder: Path) -> dict[str, Any] | None:
    """Return what a finished unit says of itself, None if it is not finished."""
    try:
        done: dict[str, Any] = json.loads((folder / DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return done


def run_unit(unit: Unit, folder: Path, on_progress: OnProgress) -> None:
    """Do what is left of a unit.

    Another process that works on the same unit is waited for, and what it did is not done again.

    Raises:
        StoppedEarlyError: If the process was asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK_FILE):
        if not is_done(unit, folder):
            prefer_one_thread()
            quiet_libraries()
            _work(unit, folder, on_progress)


def _work(unit: Unit, folder: Path, on_progress: OnProgress) -> None:
    if not _is_of(unit, folder):
        for old in folder.iterdir():
            if old.name != LOCK_FILE:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        write_json(folder / UNIT_FILE, described(unit))
    with _Effort(folder) as effort:

        def note(episodes: int, recent: float) -> None:
            effort.keep()
            on_progress(episodes, recent)

        if unit.kind == TRAINING and not (folder / TRAINING_FILE).exists():
            effort.begin_training(folder)
            curve = _train_ppo(unit, folder, note) if unit.name == PPO else _train(unit, folder, note)
            write_json(folder / TRAINING_FILE, {"episodes": curve})
        elif unit.kind == STREAM:
            policy = make_policy(unit.name, unit.world, unit.seed)
            values = play_training_stream(unit.world, policy, unit.seed, unit.episodes)
            write_json(folder / TRAINING_FILE, {"episodes": {_headline(unit): values}})
        shutil.rmtree(folder / RUN_FOLDER, ignore_errors=True)  # checkpoints are large, and only for going on
        for evaluation in unit.evaluations:
            if not (folder / evaluation.file_name).exists():
                write_json(folder / evaluation.file_name, _evaluate(unit, folder, evaluation))
        done = {
            "identity": unit.identity,
            "evaluations": [evaluation.file_name for evaluation in unit.evaluations],
            **effort.total(),
            "version": edgegen.__version__,
            "code": code_digest(),
        }
        write_json(folder / DONE_FILE, done)


def described(unit: Unit) -> dict[str, Any]:
    """Return what a unit is, as plain values."""
    return {
        "identity": unit.identity,
        "kind": unit.kind,
        "title": unit.title,
        "name": unit.name,
        "preset": unit.preset,
        "settings": dict(unit.settings),
        "world": unit.world.model_dump(mode="json"),
        "seed": unit.seed,
        "episodes": unit.episodes,
    }


def _headline(unit: Unit) -> str:
    return headline_of(unit.world.kind)


def _train(unit: Unit, folder: Path, note: OnProgress) -> dict[str, list[float]]:
    from edgegen.platform.runs.training import RUN_FILE, TrainRequest, resume, train

    run = folder / RUN_FOLDER
    if (run / RUN_FILE).exists() and latest_checkpoint(run) is not None:
        result = resume(run, on_episode=lambda report: note(report.episode, report.recent), tracking=False)
    else:
        shutil.rmtree(run, ignore_errors=True)  # cut off before the first checkpoint
        request = TrainRequest(
            scenario=unit.world,
            out=run,
            algorithm=unit.name,
            preset=unit.preset,
            overrides=dict(unit.settings),
            episodes=unit.episodes,
            seed=unit.seed,
            checkpoint_every=unit.checkpoint_every,
            tracking=False,
        )
        result = train(request, lambda report: note(report.episode, report.recent))
    if result.interrupted:
        raise StoppedEarlyError
    _keep(folder, lambda target: shutil.copytree(result.policy, target))
    return {name: values[: unit.episodes] for name, values in result.episodes.items()}


def _train_ppo(unit: Unit, folder: Path, note: OnProgress) -> dict[str, list[float]]:
    from edgegen.platform.studies import ppo

    settings = ppo.PPOSettings(**unit.settings)
    run, world = folder / RUN_FOLDER, as_scenario(unit.world, OffloadingScenario)
    delays = ppo.train_ppo(world, settings, unit.episodes, unit.seed, run, unit.checkpoint_every, note)
    _keep(folder, lambda target: ppo.export_ppo(run, target))
    return {_headline(unit): delays[: unit.episodes]}


def _keep(folder: Path, copy: Callable[[Path], object]) -> None:
    """Put the policy in its place, whole."""
    temporary, target = folder / f".{POLICY_FOLDER}.part", folder / POLICY_FOLDER
    for old in (temporary, target):
        shutil.rmtree(old, ignore_errors=True)
    copy(temporary)
    temporary.replace(target)


def _evaluate(unit: Unit, folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    modes = {RULE: True} if unit.kind == PLAY else {SAMPLED: True, GREEDY: False}
    policy = _policy(unit, folder, evaluation)
    kind = kind_of(evaluation.world)
    results = {
        mode: evaluate(evaluation.world, policy, evaluation.episodes, evaluation.seed, explore)
        for mode, explore in modes.items()
    }
    return {
        "information": policy.information,
        "modes": {
            mode: {metric: result[metric].tolist() for metric in kind.metrics} for mode, result in results.items()
        },
        "decisions": sum(result.decisions for result in results.values()),
        "decision_wall_s": sum(result.decision_wall_s for result in results.values()),
    }


def _policy(unit: Unit, folder: Path, evaluation: Evaluation) -> Policy:
    world = evaluation.world
    if unit.kind == TRAINING and unit.name == PPO:
        from edgegen.platform.studies import ppo

        return ppo.load_ppo(folder / POLICY_FOLDER, as_scenario(world, OffloadingScenario))
    wanted = unit.name if unit.kind == PLAY else str(folder / POLICY_FOLDER)
    return make_policy(wanted, world, evaluation.seed)


class _Effort:
    """Counts what a unit takes over all its attempts, and where each went on."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / EFFORT_FILE
        try:
            self.before: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.before = {"wall_s": 0.0, "cpu_s": 0.0, "resumed_at": []}

    def __enter__(self) -> _Effort:
        self._wall, self._cpu, self._kept = time.perf_counter(), time.process_time(), 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self.keep(now=True)

    def begin_training(self, folder: Path) -> None:
        """Note at how many episodes this attempt begins, if it goes on from a checkpoint."""
        checkpoint = latest_checkpoint(folder / RUN_FOLDER)
        if checkpoint is not None:
            self.before["resumed_at"].append(int(checkpoint.name.rpartition("-")[2]))

    def total(self) -> dict[str, Any]:
        """Wall time and processor time so far, s, and the episodes at which attempts went on."""
        return {
            "wall_s": self.before["wall_s"] + time.perf_counter() - self._wall,
            "cpu_s": self.before["cpu_s"] + time.process_time() - self._cpu,
            "resumed_at": self.before["resumed_at"],
        }

    def keep(self, now: bool = False) -> None:
        """Write it down, so that a kill loses seconds of it only."""
        wall = time.perf_counter() - self._wall
        if now or wall - self._kept > _EFFORT_EVERY_S:
            self._kept = wall
            write_json(self.file, self.total())


@cache
def code_digest() -> str:
    """Return a short hash of the source that decides results: worlds, learners, and PPO."""
    root = Path(edgegen.__file__).parent
    digest = hashlib.sha256()
    for room in ("envs", "algorithms", "platform/studies"):
        for path in sorted((root / room).rglob("ppo.py" if room == "platform/studies" else "*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
