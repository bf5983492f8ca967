# SPDX-License-Identifier: Apache-2.0
"""Whole studies: done once, resumed after a kill, the same numbers again, recorded once."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.core.errors import InputError
from edgegen.platform.engine.doing import run_unit
from edgegen.platform.studies.files import read_study
from edgegen.platform.studies.plan import make_plan
from edgegen.platform.studies.run import ReproduceRequest, reproduce
from edgegen.platform.studies.spec import FULL, QUICK, StudySpec
from edgegen.platform.studies.units import TRAINING_FILE

TINY = {"slots": 4, "tasks_per_slot.high": 3}
QUIET = {"replay_warmup": 8, "batch_size": 8, "hidden": 8}
STUDY: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "methods": {
        "lad": {"title": "LAD-TS", "algorithm": "ladts", "preset": "paper", "settings": QUIET},
        "ppo": {"title": "PPO", "algorithm": "ppo", "preset": "stock", "settings": {"hidden": 8, "minibatch": 16}},
    },
    "experiments": [
        {
            "name": "curves",
            "title": "Curves",
            "methods": ["lad", "ppo"],
            "rules": ["capacity-weighted", "opt-ts"],
            "scenarios": ["demo"],
            "overrides": TINY,
            "figures": ["curves", "final"],
            "quick": {"methods": ["lad"]},
        },
        {
            "name": "tasks",
            "title": "Tasks",
            "methods": ["lad"],
            "rules": ["capacity-weighted"],
            "scenarios": ["demo"],
            "overrides": {"slots": 4},
            "axis": {"label": "N", "field": "scenario.tasks_per_slot.high", "values": [3]},
            "figures": ["axis"],
        },
    ],
    "full": {"seeds": [0, 1], "episodes": 4, "evaluation_episodes": 3, "evaluation_seed": 7},
    "quick": {"seeds": [0], "episodes": 4, "evaluation_episodes": 3, "evaluation_seed": 7},
    "checkpoint_every": 2,
}


def run(folder: Path, size=FULL, report_only=False, tracking=False):
    plan = make_plan(StudySpec.model_validate(STUDY), size)
    request = ReproduceRequest(plan, folder / "runs", folder / "out", None, 1, tracking, report_only)
    return reproduce(request, Console(quiet=True))


def cells(folder: Path, study: str, experiment: str):
    return json.loads((folder / study / "data" / f"{experiment}.json").read_text())["cells"]


def stamps(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}


@pytest.mark.e2e
def test_a_study_from_nothing_to_report_and_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    first = run(tmp_path, tracking=True)
    # Two seeds of LAD-TS, which both experiments share, two of PPO, two rules, each also on two training streams, and
    # two seeds of a rule that is tuned.
    assert (first.done, first.found, first.failed) == (4 + 2 + 4 + 2, 0, {})
    text = first.report.read_text()
    assert "| `priced-greedy (tuned)` |" in text
    assert (
        "`priced-greedy (tuned)`: 1 trials \N{MULTIPLICATION SIGN} 1 training episodes \N{MULTIPLICATION SIGN} " in text
    )
    assert "No tuned rule stands" not in text
    assert sorted(first.drawn) == ["curves-curves", "curves-final", "tasks-axis"]
    assert first.report.read_text().startswith("# Tiny")
    assert {path.name for path in tmp_path.glob("runs/units/*/*") if path.name == "run"} == set()

    units = stamps(tmp_path, "runs/units/*/done.json")
    made = stamps(tmp_path, "out/**/*.*")
    figure = tmp_path / "out" / "reproduce-tiny" / "figures" / "curves-final.png"
    figure.unlink()
    again = run(tmp_path, tracking=True)
    assert (again.done, again.found, again.drawn) == (0, 12, ("curves-final",))
    assert stamps(tmp_path, "runs/units/*/done.json") == units
    touched = {path.name for path, at in stamps(tmp_path, "out/**/*.*").items() if made.get(path) != at}
    assert touched == {"curves-final.png", "curves-final.svg", "drawn.json"}

    check_records(tmp_path, first)
    for path in tmp_path.glob("runs"):
        path.rename(tmp_path / "gone")
    before = first.report.read_text()
    first.report.unlink()
    only = run(tmp_path, report_only=True)
    assert (only.done, only.drawn) == (0, ())
    assert only.report.read_text() == before

    other = tmp_path / "other"
    same = run(other, QUICK)
    assert same.done == 1 + 2 + 2 + 1
    assert [page.read_text().splitlines()[0] for page in (first.report, same.report)] == ["# Tiny", "# Tiny (quick)"]
    found, wanted = (cells(base / "out", name, "curves") for base, name in
                     ((other, "reproduce-tiny-quick"), (tmp_path, "reproduce-tiny")))  # fmt: skip
    of_seed_0 = {part["label"]: part for part in wanted}
    for part in found:
        full = of_seed_0[part["label"]]
        assert part["curves"] == full["curves"][:1]
        for mode, metrics in part["evaluation"].items():
            assert metrics == {metric: values[:1] for metric, values in full["evaluation"][mode].items()}


def check_records(folder: Path, outcome) -> None:
    """One parent, a child for each unit, and their ids in the data."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("edgegen").experiment_id])
    (parent,) = (record for record in runs if record.data.tags["edgegen.role"] == "study")
    children = [record for record in runs if record.data.tags["edgegen.role"] == "unit"]
    assert len(children) == outcome.done
    assert {record.data.tags["mlflow.parentRunId"] for record in children} == {parent.info.run_id}
    assert {record.info.status for record in runs} == {"FINISHED"}
    data = json.loads((folder / "out/reproduce-tiny/data/curves.json").read_text())
    ids = {record.data.tags["edgegen.unit"]: record.info.run_id for record in children}
    assert {unit: part["mlflow_run"] for unit, part in data["provenance"]["units"].items()} == ids
    assert data["provenance"]["mlflow_parent"] == parent.info.run_id
    assert parent.info.run_id in outcome.report.read_text()
    (lad,) = (part for part in data["cells"] if part["label"] == "lad")
    (child,) = (record for record in children if record.info.run_name == "LAD-TS, demo, seed 1")
    curve = client.get_metric_history(child.info.run_id, "training/delay_mean_s")
    assert [point.value for point in curve] == pytest.approx(lad["curves"][1])
    assert [point.step for point in curve] == [1, 2, 3, 4]
    judged = lad["evaluation"]["greedy"]["mean_delay_s"][1]
    assert child.data.metrics["greedy/mean_delay_s"] == pytest.approx(sum(judged) / len(judged))
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "report")} >= {"report/reproduce-tiny.md"}


def kill_with_all_children(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver and all it started at once, as a power cut would: its workers alone would go on for seconds."""
    parent = psutil.Process(driver.pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        process.suspend()  # so that nobody sees the others die
    for process in family:
        process.kill()
    driver.wait()


@pytest.mark.e2e
def test_a_killed_study_repeats_no_finished_unit_and_continues_the_one_under_way(tmp_path):
    study = {**STUDY, "experiments": [STUDY["experiments"][0]], "checkpoint_every": 2}
    study["experiments"][0] = {**study["experiments"][0], "methods": ["lad"], "overrides": {"slots": 12}}
    study["full"] = {**STUDY["full"], "episodes": 8}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "edgegen.platform.cli", "reproduce", str(file), "--jobs", "1", "--no-tracking"]
    command += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]

    def under_way() -> bool:
        """One training is done, another has a checkpoint."""
        return bool(list(tmp_path.glob("runs/units/*/done.json"))) and bool(
            list(tmp_path.glob("runs/units/*/run/checkpoint-*/policy"))
        )

    with (tmp_path / "log.txt").open("w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while not under_way() and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
        kill_with_all_children(driver)
    assert driver.returncode == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    finished = stamps(tmp_path, "runs/units/*/done.json")
    assert finished

    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    after = {path: json.loads(path.read_text()) for path in tmp_path.glob("runs/units/*/done.json")}
    ((resumed, at),) = [
        (path.parent, found["resumed_at"])
        for path, found in after.items()
        if path not in finished and found["resumed_at"]
    ]
    assert 0 < at[0] < 8

    # What was cut off and continued is what it would have been.
    unit = make_plan(read_study(str(file)), FULL).units[resumed.name]
    with ray_session(num_cpus=1):
        run_unit(unit, tmp_path / "whole", lambda *_: None)
    for name in (TRAINING_FILE, *(evaluation.file_name for evaluation in unit.evaluations)):
        continued, whole = (json.loads((folder / name).read_text()) for folder in (resumed, tmp_path / "whole"))
        for found in (continued, whole):
            found.pop("decision_wall_s", None)
        assert continued == whole


@pytest.mark.e2e
def test_a_unit_that_fails_is_left_out_and_said(tmp_path):
    plan = make_plan(StudySpec.model_validate(STUDY), QUICK, ["tasks"])
    (training,) = (unit for unit in plan.units.values() if unit.kind == "training")
    broken = {**plan.units, training.identity: replace(training, settings={"actor": "nonsense"})}
    request = ReproduceRequest(
        replace(plan, units=broken), tmp_path / "runs", tmp_path / "out", None, 1, tracking=False
    )
    outcome = reproduce(request, Console(quiet=True))
    assert (outcome.report, outcome.done) == (None, 2)  # the rules were played and tuned all the same
    assert "nonsense" in outcome.failed[training.title]
    error = tmp_path / "runs" / "units" / training.identity / "error.txt"
    assert "Traceback" in error.read_text()


def test_a_report_needs_data(tmp_path):
    with pytest.raises(InputError, match=r"There is no data in .*reproduce-tiny/data' to report of"):
        run(tmp_path, report_only=True)
    assert not (tmp_path / "runs").exists()
