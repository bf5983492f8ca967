# SPDX-License-Identifier: Apache-2.0
"""What a report says of floors, of an earlier report and of other libraries."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.bench import peers, suite
from edgegen.platform.bench.earlier import read_earlier
from edgegen.platform.bench.floors import Least, Rates, measure_rates
from edgegen.platform.bench.measuring import BenchRun, Measurement
from edgegen.platform.bench.offloading import bench_simulator
from edgegen.platform.cli import app

RATES = Rates(operations_s=100.0, moved_bytes_s=10.0)
RATE = Measurement("steps", "steps/s", 4.0, 2.0, 3, 10, Least(operations=1.0, moved_bytes=1.0))
COST = Measurement("update", "s/update", 0.4, 0.5, 3, 10, Least(operations=20.0, moved_bytes=0.5))


def _report(**changes: Any) -> suite.BenchReport:
    machine = {"processor": "P", "device": "cpu", "cores": 2, "torch_threads": 1}
    report = suite.BenchReport("demo", 0, True, machine, (RATE, COST, dataclasses.replace(COST, name="x", least=None)))
    return dataclasses.replace(report, **changes)


def _shown(table: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_floor_is_what_takes_longer_and_the_distance_how_often_it_fits() -> None:
    assert RATES.floor_s(Least(operations=1.0, moved_bytes=1.0)) == pytest.approx(0.1)  # memory
    assert RATES.floor_s(Least(operations=20.0, moved_bytes=0.5)) == pytest.approx(0.2)  # arithmetic
    assert suite.distance_to_floor(RATE, RATES) == pytest.approx(5.0)  # 1/2 s a step, 0.1 s at least
    assert suite.distance_to_floor(COST, RATES) == pytest.approx(2.5)
    assert suite.distance_to_floor(dataclasses.replace(COST, least=None), RATES) is None
    shown = _shown(_report(rates=RATES).table())
    assert "5.0x" in shown
    assert "2.5x" in shown


def test_the_machine_is_measured() -> None:
    rates = measure_rates(repeats=1)
    assert rates.operations_s > 1e8
    assert rates.moved_bytes_s > 1e8


def test_the_simulator_knows_its_least() -> None:
    first, _ = bench_simulator(load_scenario("demo", {"slots": 2}), 1, repeats=1, seed=0)
    assert first.least is not None


def test_what_was_faster_earlier_is_told_for_rates_and_costs(tmp_path: Path) -> None:
    assert suite.faster(RATE, 1.0) == pytest.approx(2.0)
    assert suite.faster(COST, 1.0) == pytest.approx(2.0)
    file = tmp_path / "old.json"
    file.write_text(json.dumps(_report(measurements=(RATE,)).to_json()))
    assert read_earlier(file) == {"steps": 2.0}
    shown = _shown(_report().table({"steps": 8.0}))
    assert "0.25x" in shown
    assert shown.count("0.25x") == 1  # what was not measured earlier is not compared


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no report"),
        ('{"format": "edgegen-bench-9", "measurements": []}', "edgegen-bench-1"),
        ("[]", "is no report"),
    ],
)
def test_what_is_no_report_is_refused_before_anything_is_measured(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_earlier(file)
    run = CliRunner().invoke(app, ["bench", "--compare", str(file)])
    assert run.exit_code == 2
    assert words in run.output


def test_peers_are_related_to_ours() -> None:
    rows = tuple(
        dataclasses.replace(RATE, name=name, cpu=cpu)
        for name, cpu in (
            ("other plays", 2.0),
            (f"{peers.OURS} plays, E = 1", 10.0),
            (f"{peers.OURS} plays, E = 4", 60.0),
        )
    )
    shown = _shown(_report(peers=rows).peers_table())
    assert "5.0x" in shown
    assert "30.0x" in shown


def test_our_runner_and_the_plain_loop_play_the_same_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SCENARIO", "demo")
    monkeypatch.setattr(peers, "COPIES", 2)
    monkeypatch.setattr(peers, "installed", lambda module: module == "pettingzoo")
    rows: Iterator[Measurement] = peers.peers(BenchRun(True, 0, "cpu", lambda name: None))
    names = [row.name for row in rows if row.cpu > 0 and row.work > 0]
    assert names == [
        "a plain loop over PettingZoo plays", f"{peers.OURS} plays, E = 1", f"{peers.OURS} plays, E = 2"
    ]  # fmt: skip
