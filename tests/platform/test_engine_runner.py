# SPDX-License-Identifier: Apache-2.0
"""Units on Ray: tried again where they were cut off, left out after that, with room for the processes they start."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.engine.doing import Effort, read_json, unfinished, unit_folder
from edgegen.platform.engine.runner import Watcher, room_for, run_units
from edgegen.platform.engine.unit import Evaluation, Play, Unit

WORLD = load_scenario("demo", {"slots": 2, "tasks_per_slot.high": 2})


@dataclass(frozen=True)
class Counting(Unit):
    """Counts to its episodes in a file, and fails at some of them, once."""

    kind: ClassVar[str] = "counting"
    fails_at: tuple[int, ...] = ()
    helpers: int = 0

    @property
    def bundles(self) -> tuple[Mapping[str, float], ...]:
        return ({"CPU": 1.0},) * (1 + self.helpers)

    def work(self, folder: Path, effort: Effort) -> None:
        file = folder / "count.txt"
        at = len(file.read_text()) if file.exists() else 0
        if at:
            effort.resumed(at)
        if self.helpers:
            helper = ray.remote(num_cpus=1)(lambda: "helped")
            (folder / "helped.txt").write_text(ray.get([helper.remote()] * self.helpers)[0])
        while at < self.episodes:
            at += 1
            file.write_text("x" * at)
            effort.note(at, float(at))
            if at in self.fails_at:
                raise ArithmeticError(f"it broke at {at}")

    def policy(self, folder: Path, evaluation: Evaluation) -> Any:
        raise NotImplementedError


class Heard(Watcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, unit: Unit) -> None:
        self.lines.append(f"{unit.name} started")

    def finished(self, unit: Unit) -> None:
        self.lines.append(f"{unit.name} finished")

    def failed(self, unit: Unit, again: bool) -> None:
        self.lines.append(f"{unit.name} failed{', again' if again else ''}")


@pytest.fixture(scope="module", autouse=True)
def two_cores():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can not import tests
    with ray_session(num_cpus=2):
        yield


@pytest.mark.e2e
def test_what_fails_is_tried_again_where_it_was_cut_off_then_left_out(tmp_path):
    once = Counting("once", WORLD, "once", episodes=4, fails_at=(2,))
    never = Counting("never", WORLD, "never", episodes=4, fails_at=(1, 2, 3))
    rule = Play("rule", WORLD, "local", evaluations=(Evaluation(WORLD, 2, 5),))
    units, heard = [once, never, rule], Heard()
    failed = run_units(units, tmp_path, [heard], jobs=1)
    assert failed == {never.identity: "ArithmeticError: it broke at 2"}
    assert heard.lines == [
        *("once started", "once failed, again", "never started", "never failed, again", "local started"),
        *("local finished", "once started", "once finished", "never started", "never failed"),
    ]
    folder = unit_folder(tmp_path, once.identity)
    assert read_json(folder / "done.json")["resumed_at"] == [2]
    assert not (folder / "error.txt").exists()
    assert "Traceback" in (unit_folder(tmp_path, never.identity) / "error.txt").read_text()
    assert unfinished(units, tmp_path) == [never]

    # Called again, only what is left is done, and now it passes the places where it failed.
    again = Heard()
    assert run_units(units, tmp_path, [again], jobs=1) == {}
    assert again.lines == ["never started", "never failed, again", "never started", "never finished"]


@pytest.mark.e2e
def test_a_unit_has_room_for_the_processes_that_it_starts(tmp_path):
    """Two units of two cores each on two cores: without room kept for both parts neither would ever end."""
    units = [Counting(f"{n}", WORLD, f"{n}", episodes=1, helpers=1) for n in range(2)]
    assert room_for(units) == 1
    assert room_for([Counting("one", WORLD, "one")]) == 2
    assert run_units(units, tmp_path, [], jobs=2) == {}
    for unit in units:
        assert (unit_folder(tmp_path, unit.identity) / "helped.txt").read_text() == "helped"
