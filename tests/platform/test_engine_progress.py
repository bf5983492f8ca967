# SPDX-License-Identifier: Apache-2.0
"""What people see: how much is done, and a time left that follows from what units of the same kind took."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edgegen.platform.engine import progress as module
from edgegen.platform.engine.doing import unfinished, unit_folder
from edgegen.platform.engine.progress import UnitProgress
from edgegen.platform.engine.unit import Unit
from edgegen.platform.studies.plan import Plan, make_plan
from edgegen.platform.studies.spec import FULL, StudySpec

STUDY = {
    "name": "timed",
    "title": "Timed",
    "methods": {
        "lad": {"title": "LAD-TS", "algorithm": "ladts", "preset": "paper"},
        "dqn": {"title": "DQN-TS", "algorithm": "ladts", "preset": "dqn-ts"},
    },
    "experiments": [
        {
            "name": "final",
            "title": "Final",
            "methods": ["lad", "dqn"],
            "rules": ["capacity-weighted"],
            "tuned": [],
            "scenarios": ["demo"],
        }
    ],
    "full": {"seeds": [0, 1, 2], "episodes": 10, "evaluation_episodes": 2, "evaluation_seed": 0},
    "quick": {"seeds": [0], "episodes": 10, "evaluation_episodes": 2, "evaluation_seed": 0},
}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def plan() -> Plan:
    return make_plan(StudySpec.model_validate(STUDY), FULL)


def finish(unit: Unit, runs: Path, wall_s: float) -> None:
    folder = unit_folder(runs, unit.identity)
    folder.mkdir(parents=True)
    (folder / "unit.json").write_text(json.dumps(unit.described()))
    names = [evaluation.file_name for evaluation in unit.evaluations]
    (folder / "done.json").write_text(json.dumps({"evaluations": names, "wall_s": wall_s}))


def shown(plan: Plan, runs: Path, jobs: int = 1) -> tuple[UnitProgress, io.StringIO]:
    text = io.StringIO()
    return UnitProgress("timed", list(plan.units.values()), runs, jobs, Console(file=text, width=200)), text


def test_time_left_follows_from_what_is_known(tmp_path, plan, clock):
    lads = [unit for unit in plan.units.values() if unit.title.startswith("LAD")]
    dqns = [unit for unit in plan.units.values() if unit.title.startswith("DQN")]
    empty, _ = shown(plan, tmp_path)
    assert empty.seconds_left() is None
    assert "0 of 7 units, 0 running, 0 s elapsed, time left unknown" in empty.headline()

    finish(lads[0], tmp_path, 100)
    finish(dqns[0], tmp_path, 30)
    finish(next(unit for unit in plan.units.values() if unit.kind == "play"), tmp_path, 1)
    progress, _ = shown(plan, tmp_path)
    assert [unit.identity for unit in unfinished(plan.units.values(), tmp_path)] == [
        unit.identity for unit in (*lads[1:], *dqns[1:])
    ]
    assert progress.seconds_left() == pytest.approx(2 * 100 + 2 * 30)
    assert shown(plan, tmp_path, jobs=2)[0].seconds_left() == pytest.approx((2 * 100 + 2 * 30) / 2)

    # A unit under way is measured by itself: here it runs at half the speed.
    progress.started(lads[1])
    clock.now += 1
    progress.noted({lads[1].identity: (1, 5.0)})
    clock.now += 80
    progress.noted({lads[1].identity: (5, 4.0)})
    assert progress.seconds_left() == pytest.approx(5 * 20 + 100 + 2 * 30)
    assert "3 of 7 units, 1 running, 1 min 21 s elapsed" in progress.headline()


def test_a_resumed_unit_is_not_measured_by_what_was_done_before(tmp_path, plan, clock):
    unit = next(iter(plan.units.values()))
    progress, _ = shown(plan, tmp_path)
    progress.started(unit)
    clock.now += 1
    progress.noted({unit.identity: (6, 5.0)})  # it went on from a checkpoint
    clock.now += 10
    progress.noted({unit.identity: (7, 5.0)})
    assert progress._cost(unit) == pytest.approx(3 * 10)


def test_a_log_file_gets_a_line_for_every_unit(tmp_path, plan, clock):
    first, second = list(plan.units.values())[:2]
    progress, text = shown(plan, tmp_path)
    with progress.shown():
        progress.started(first)
        clock.now += 12
        finish(first, tmp_path, 12)
        progress.finished(first)
        progress.started(second)
        progress.failed(second, again=True)
        progress.started(second)
        progress.failed(second, again=False)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("LAD-TS, demo, seed 0: done in 12 s; 1 of 7 units, 0 running, 12 s elapsed, about")
    assert "failed, will be tried again" in lines[1]
    assert "1 failed" in lines[2]


def test_a_terminal_gets_a_table(tmp_path, plan, clock):
    unit = next(iter(plan.units.values()))
    progress, text = shown(plan, tmp_path)
    progress.started(unit)
    progress.noted({unit.identity: (3, 4.567)})
    progress.console.print(progress.render())
    table = text.getvalue()
    assert "LAD-TS, demo, seed 0" in table
    assert "3 of 10" in table
    assert "4.567" in table
    assert "0 of 7 units, 1 running" in table


def test_a_unit_whose_default_has_changed_since_is_done_again(tmp_path, plan):
    unit = next(iter(plan.units.values()))
    finish(unit, tmp_path, 1)
    assert unit not in unfinished(plan.units.values(), tmp_path)
    file = unit_folder(tmp_path, unit.identity) / "unit.json"
    found = json.loads(file.read_text())
    found["settings"]["gamma"] = 0.5  # as if the default had been another one
    file.write_text(json.dumps(found))
    assert unit in unfinished(plan.units.values(), tmp_path)
    del found["settings"]["gamma"]  # as if there had been no such setting
    file.write_text(json.dumps(found))
    assert unit not in unfinished(plan.units.values(), tmp_path)
