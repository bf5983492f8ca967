# SPDX-License-Identifier: Apache-2.0
import json
from typing import Any

import pytest
from rich.console import Console

from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.bench import fleet, measuring
from edgegen.platform.bench import offloading as bench
from edgegen.platform.bench.suite import run_bench
from edgegen.platform.files import write_json

# Numbers belong to machines: these tests look at the structure only.


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "SCENARIO", "demo")
    monkeypatch.setattr(measuring, "COPIES", (1, 2))
    monkeypatch.setattr(bench, "POLICY_COPIES", 2)
    monkeypatch.setattr(fleet, "COPIES", 2)
    monkeypatch.setattr(fleet, "SIZES", (2, 3))
    return load_scenario("demo", {"slots": 3})


def test_the_suite_measures_simulator_rules_and_policy(small, tmp_path):
    told: list[Any] = []
    report = run_bench(quick=True, seed=1, on_measurement=told.append, training=False)
    names = [row.name for row in report.measurements]
    assert "simulator, E = 2" in names
    assert "arrivals, E = 1" in names
    assert {"PettingZoo, parallel form", "PettingZoo, vector form, E = 2"} <= set(names)
    assert "provisioning simulator, E = 2" in names
    assert "requests, E = 1" in names
    assert {"fleet, price-greedy, E = 2", "fleet, price-greedy, S = 3", "fleet, networks, E = 2"} <= set(names)
    assert all(any(name.startswith(f"{rule} decides") for name in names) for rule in RULES)
    assert any(name.startswith("LAD-TS paper decides") for name in names)
    assert any(name.startswith("LAD-TS improved decides") for name in names)
    assert all(row.wall > 0 and row.cpu > 0 and row.unit and row.repeats for row in report.measurements)
    assert told
    write_json(tmp_path / "bench.json", report.to_json())
    data = json.loads((tmp_path / "bench.json").read_text())
    assert data["machine"]["torch_threads"] >= 1
    assert data["machine"]["processor"]
    assert data["quick"] is True
    assert len(data["measurements"]) == len(names)
    console = Console(width=150)
    with console.capture() as captured:
        console.print(report.table())
    assert "decisions/s" in captured.get()


def test_a_numbered_cpu_is_measured_as_one(small):
    report = run_bench(quick=True, training=False, device="cpu:0")
    assert max(row.work for row in report.measurements if row.name.startswith("simulator")) > 0
    assert not any("4096" in row.name for row in report.measurements)
    assert report.machine["device"] == "cpu:0"


def test_measuring_a_policy_counts_its_tasks(small):
    row = bench.bench_policy(small, make_rule("local"), 4, repeats=2, seed=0)
    assert row.unit == "decisions/s"
    assert 4 * 5 <= row.work <= 4 * 5 * 15


def test_replaying_the_simulator_starts_from_empty_queues(small):
    first, arrivals = bench.bench_simulator(small, 2, repeats=2, seed=0)
    assert first.work > 0
    assert arrivals.work > first.work  # one more slot is drawn than is scheduled


@pytest.mark.e2e
def test_training_is_measured_per_episode(small):
    row = bench.bench_training(small, episodes=2, seed=0)
    assert row.unit == "s/episode"
    assert row.repeats == 2
    assert row.wall > 0


def test_forks_count_labelled_decisions_and_the_ways_that_were_tried(monkeypatch):
    monkeypatch.setattr(fleet, "FORKED_COPIES", 1)
    scenario = load_scenario("fleet-8", {"frames": 2, "sites": 2, "speed": [1, 2], "memory_gb": [8, 8]})
    decisions, ways = fleet.bench_forks(scenario, measuring.BenchRun(True, 0, "cpu", print))
    assert (decisions.unit, ways.unit) == ("decisions/s", "ways/s")
    assert 3 * decisions.work <= ways.work <= 5 * decisions.work  # two sites and the cloud, or five shares
    assert decisions.work > 0
