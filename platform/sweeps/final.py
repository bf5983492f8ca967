# SPDX-License-Identifier: Apache-2.0
"""The final training: settings of the best trials, and the preset, with seeds of their own, as units of the engine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.platform.engine import runner as engine
from edgegen.platform.engine.doing import ERROR_FILE, Effort, is_done, read_json, unit_folder
from edgegen.platform.engine.unit import GREEDY, SAMPLED, Evaluation, Unit, plain
from edgegen.platform.sweeps.checked import CheckedSweep, make_sweep
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, WAITING, TrialView, Watcher
from edgegen.platform.sweeps.training import (
    EPISODES,
    OBJECTIVE,
    STATE_FILE,
    Schedule,
    SeedsTraining,
    newest_checkpoint,
    seed_folder,
)

RUN_FOLDER = "run"


@dataclass(frozen=True)
class FinalTraining(Unit):
    """One seed of the final training.

    Its folder holds ``run/checkpoint_…/``, the newest checkpoint, which stays.

    Attributes:
        sweep: The sweep, as plain values.
        schedule: The values of the space that are followed.
        judged: World that it is validated in.
    """

    kind: ClassVar[str] = "final"
    sweep: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = ()
    judged: Mapping[str, Any] = field(default_factory=dict)

    @property
    def essence(self) -> dict[str, Any]:
        """See :meth:`Unit.essence`: also the values that change under way, and what is reported on the way."""
        return {
            **super().essence,
            "schedule": [list(part) for part in self.schedule],
            "report_every": self.sweep["budget"]["report_every"],
            "env_runners": self.sweep["resources"]["env_runners"],
            "validation": self.sweep["validation"],
            "metric": self.sweep["metric"],
            **({"objectives": goals} if (goals := self.sweep.get("objectives")) else {}),
            "judged": self.judged,
        }

    @property
    def bundles(self) -> tuple[Mapping[str, float], ...]:
        """See :meth:`Unit.bundles`."""
        resources = self.sweep["resources"]
        own = {"CPU": resources["cpus"], **({"GPU": resources["gpus"]} if resources["gpus"] else {})}
        return (own, *[{"CPU": 1.0}] * resources["env_runners"])

    @property
    def modes(self) -> Mapping[str, bool]:
        """See :meth:`Unit.modes`: as it was validated."""
        sampled = self.sweep["validation"]["actions"] == SAMPLED
        return {SAMPLED: True} if sampled else {GREEDY: False}

    def work(self, folder: Path, effort: Effort) -> None:
        """See :meth:`Unit.work`."""
        run = folder / RUN_FOLDER
        run.mkdir(exist_ok=True)
        world = {**self.judged, "name": self.world.name, "description": self.world.description}
        training = SeedsTraining(make_sweep(self.sweep, world), [self.seed], self.schedule)
        try:
            if (found := newest_checkpoint(run)) is not None:
                training.load(found)
                effort.resumed(training.episodes)
            while not training.over:
                report = training.report()
                _keep(training, run)
                effort.note(report[EPISODES], report[OBJECTIVE])
        finally:
            training.close()

    def policy(self, folder: Path, evaluation: Evaluation) -> Policy:
        """See :meth:`Unit.policy`."""
        return make_policy(str(self.policy_folder(folder)), evaluation.world, evaluation.seed)

    def policy_folder(self, folder: Path) -> Path:
        """Where the policy of a finished training is."""
        checkpoint = newest_checkpoint(folder / RUN_FOLDER)
        if checkpoint is None:
            raise FileNotFoundError(folder / RUN_FOLDER)
        return seed_folder(checkpoint, self.seed) / "policy"


def _keep(training: SeedsTraining, run: Path) -> None:
    """Write a checkpoint, which appears whole, and drop the one before."""
    target = run / f"checkpoint_{len(training.history):06d}"
    temporary = run / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    training.save(temporary)
    temporary.replace(target)
    for old in run.glob("checkpoint_*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def final_training(
    sweep: CheckedSweep, label: str, seed: int, schedule: Schedule, evaluation: Evaluation
) -> FinalTraining:
    """Return the unit of some settings and a seed."""
    spec = sweep.spec
    values = dict(schedule[0][1])
    settings = sweep.settings(values)
    return FinalTraining(
        title=f"{label}, seed {seed}",
        world=sweep.training_world(values),
        name=spec.algorithm,
        settings=settings.model_dump(mode="json"),
        changed=settings.model_dump(mode="json", exclude_defaults=True),
        preset=spec.preset,
        seed=seed,
        episodes=spec.budget.episodes,
        evaluations=(evaluation,),
        sweep=spec.model_dump(mode="json"),
        schedule=[(start, dict(later)) for start, later in schedule],
        judged=plain(sweep.world),
    )


class FinalStand(engine.Watcher):
    """How the final trainings stand, told to whoever watches trials; a watcher of the engine.

    Args:
        units: The trainings, in the order of the entries.
        root: The folder they live in.
        watchers: Are told.
    """

    def __init__(self, units: Sequence[FinalTraining], root: Path, watchers: Sequence[Watcher]) -> None:
        self._units = {unit.identity: unit for unit in units}
        self._root = root
        self._watchers = watchers
        self._rows: dict[str, tuple[int, float]] = {}
        self._views = {
            unit.identity: view_of(
                unit, n, root, FINISHED if is_done(unit, unit_folder(root, unit.identity)) else WAITING
            )
            for n, unit in enumerate(units)
        }

    @property
    def views(self) -> list[TrialView]:
        """The trainings as trials, in their order."""
        return list(self._views.values())

    def started(self, unit: Unit) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        self._tell(unit.identity, RUNNING)

    def noted(self, rows: Mapping[str, tuple[int, float]]) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        for identity, row in rows.items():
            view = self._views.get(identity)
            if view is not None and not view.ended and row != self._rows.get(identity):
                self._rows[identity] = row
                self._tell(identity, view.status)

    def finished(self, unit: Unit) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        self._tell(unit.identity, FINISHED)

    def failed(self, unit: Unit, again: bool) -> None:
        """See :class:`~edgegen.platform.engine.runner.Watcher`."""
        self._tell(unit.identity, WAITING if again else FAILED)

    def _tell(self, identity: str, status: str) -> None:
        before = self._views.get(identity)
        if before is None:  # a rule that is compared with
            return
        self._views[identity] = view_of(self._units[identity], before.number, self._root, status)
        for watcher in self._watchers:
            watcher.watch(self.views, [self._views[identity]])


def view_of(unit: FinalTraining, number: int, root: Path, status: str) -> TrialView:
    """Describe a final training as the trial of an entry."""
    folder = unit_folder(root, unit.identity)
    checkpoint = newest_checkpoint(folder / RUN_FOLDER)
    state = {"history": (), "schedule": ()} if checkpoint is None else read_json(checkpoint / STATE_FILE)
    error = folder / ERROR_FILE
    return TrialView(
        identity=unit.identity,
        number=number,
        status=status,
        config={"entry": number},
        history=tuple(state["history"]),
        schedule=tuple((start, values) for start, values in state["schedule"]),
        checkpoint=checkpoint,
        error=error if error.is_file() else None,
    )
