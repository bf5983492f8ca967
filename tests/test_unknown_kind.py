# SPDX-License-Identifier: Apache-2.0
"""A kind of world that nobody knows: every command and every file that may hold one answers with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.methods.registry import headline_of, methods_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.kinds import DEFAULT_KIND, kind_named, kinds
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.platform.bench.offloading import untrained_policy
from edgegen.platform.cli import app
from edgegen.platform.engine.doing import UNIT_FILE, _is_of
from edgegen.platform.files import write_json
from edgegen.platform.records.model_flavor import _load_pyfunc
from edgegen.platform.runs.training import RUN_FILE
from edgegen.platform.studies import data as study_data
from edgegen.platform.studies.plan import make_plan
from edgegen.platform.studies.spec import QUICK, StudySpec
from edgegen.platform.sweeps.checked import make_sweep

SAYS = "'moon', but must be offloading or provisioning or fleet."


@pytest.fixture
def moon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario file of an unknown kind, in the present folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "moon.yaml"
    path.write_text("kind: moon\nname: far\n", encoding="utf-8")
    return path


def traces(folder: Path) -> None:
    """Write what commands want beside a scenario."""
    (folder / "trace.csv").write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n", encoding="utf-8")
    (folder / "trace.parquet").touch()


def refused(*arguments: Any) -> str:
    """Run a command line; returns the one sentence it was refused with."""
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    (line,) = result.stderr.strip().splitlines()
    return line


TAKE_A_SCENARIO = [
    ["scenarios"],
    ["evaluate", "local", "--scenario"],
    ["compare", "--scenario"],
    ["compare", "--set", "slots=3", "--scenario"],
    ["compare", "router=local cacher=lru", "--scenario"],
    ["train", "--scenario"],
    ["train", "t2drl", "--scenario"],
    ["train", "t2drl", "--set", "frames=2", "--scenario"],
    ["tune", "priced-greedy", "--scenario"],
    ["play", "--policy", "earliest", "--out", "page.html"],
    ["scaling", "--scenario"],
    ["scaling", "t2drl", "--scenario"],
    ["replay", "--trace", "trace.csv", "--out", "out.csv", "--scenario"],
    ["trace", "fit", "trace.parquet", "--out", "new.yaml", "--scenario"],
    ["trace", "compare", "trace.parquet"],
]
TAKE_A_SERVICE = [
    ["serve", "--config"],
    ["loadtest", "--policy", "earliest", "--config"],
    ["trace", "fit", "trace.parquet", "--out", "new.yaml", "--config"],
    ["k8s", "render", "--out", "new"],
]


def commands(found: Any, name: str = "") -> dict[str, set[str]]:
    """Names of the parameters of a command, or of all in a group, by the command's name."""
    if not hasattr(found, "commands"):
        return {name: {parameter.name for parameter in found.params}}
    parts = (commands(one, f"{name} {word}".strip()) for word, one in found.commands.items())
    return {command: parameters for part in parts for command, parameters in part.items()}


def test_no_command_that_takes_a_scenario_or_a_service_is_left_out() -> None:
    """Sweeps, studies, runs and policies, which name scenarios in files of their own, have tests of their own."""
    known = commands(typer.main.get_command(app))

    def tried(lines: list[list[str]]) -> set[str]:
        return {next(name for name in (" ".join(line[:2]), line[0]) if name in known) for line in lines}

    assert tried(TAKE_A_SCENARIO) == {name for name, own in known.items() if own & {"scenario", "files"}}
    assert tried(TAKE_A_SERVICE) == {name for name, own in known.items() if own & {"config", "service"}}


@pytest.mark.parametrize("command", TAKE_A_SCENARIO, ids=" ".join)
@pytest.mark.parametrize("way", ["states it", "extends it", "is a variant"])
def test_commands_that_take_a_scenario_refuse_it(moon: Path, command: list[str], way: str) -> None:
    traces(moon.parent)
    given = str(moon)
    if way == "extends it":
        given = str(moon.with_name("near.yaml"))
        Path(given).write_text("extends: moon.yaml\n", encoding="utf-8")
    elif way == "is a variant":
        given = f"{moon}:full"
    line = refused(*command, given)
    assert line.endswith(SAYS)
    assert "moon.yaml': the field 'kind' is 'moon'" in line
    assert not list(moon.parent.glob("runs*"))


@pytest.mark.parametrize("command", TAKE_A_SERVICE, ids=" ".join)
def test_commands_that_take_a_service_refuse_it(moon: Path, command: list[str]) -> None:
    traces(moon.parent)
    line = refused(*command, moon)
    assert (
        line == "Service config 'far': the field 'kind' is 'moon', but it must be offloading or provisioning or fleet."
    )
    assert not list(moon.parent.glob("new*"))


@pytest.mark.parametrize("kind", [None, 3, ["offloading"], {}, True, "Offloading", "", "offloading "])
def test_what_is_no_name_of_a_kind_is_refused_as_well(moon: Path, kind: Any) -> None:
    moon.write_text(yaml.safe_dump({"kind": kind, "name": "far"}), encoding="utf-8")
    assert "but must be offloading or provisioning or fleet." in refused("compare", "--scenario", moon)
    with pytest.raises(InputError, match="must be offloading or provisioning or fleet"):
        build_scenario({"kind": kind, "name": "far"})


def test_a_name_nearby_is_suggested(moon: Path) -> None:
    moon.write_text("kind: ofloading\n", encoding="utf-8")
    assert refused("compare", "--scenario", moon).endswith("Did you mean 'offloading'?")


def test_a_sweep_in_such_a_world_is_refused(moon: Path) -> None:
    spec = {
        "algorithm": "ladts",
        "scenario": "moon.yaml",
        "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
        "budget": {"trials": 1, "episodes": 2, "report_every": 2},
    }
    file = moon.with_name("sweep.yaml")
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert refused("sweep", file, "--no-tracking").endswith(SAYS)
    with pytest.raises(InputError, match=r"Sweep 'far': .*'moon', but must be"):  # as a trial reads it
        make_sweep({**spec, "name": "far", "scenario": str(moon)})
    assert sorted(path.name for path in moon.parent.iterdir()) == ["moon.yaml", "sweep.yaml"]


STUDY = {
    "name": "far",
    "title": "Far",
    "full": {"seeds": [0], "episodes": 1, "evaluation_episodes": 1, "evaluation_seed": 0},
    "quick": {"seeds": [0], "episodes": 1, "evaluation_episodes": 1, "evaluation_seed": 0},
    "experiments": [{"name": "one", "title": "One", "rules": ["capacity-weighted"], "scenarios": ["demo"]}],
}


def test_a_study_in_such_a_world_is_refused(moon: Path) -> None:
    file = moon.with_name("study.yaml")
    experiment = {**STUDY["experiments"][0], "scenarios": [str(moon)]}  # type: ignore[index]
    file.write_text(yaml.safe_dump({**STUDY, "experiments": [experiment]}), encoding="utf-8")
    line = refused("reproduce", file, "--no-tracking", "--out", "out", "--runs", "runs")
    assert line.startswith("Study 'far', experiment 'one': ")
    assert line.endswith(SAYS)
    assert sorted(path.name for path in moon.parent.iterdir()) == ["moon.yaml", "study.yaml"]


def test_data_of_a_study_of_such_a_kind_are_refused(moon: Path) -> None:
    file = moon.with_name("study.yaml")
    file.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    data = moon.parent / "out" / "reproduce-far" / "data"
    data.mkdir(parents=True)
    stored = {"format": study_data.FORMAT, "experiment": STUDY["experiments"][0], "kind": "moon"}  # type: ignore[index]
    write_json(data / "one.json", stored)
    line = refused("reproduce", file, "--report-only", "--out", "out")
    assert (
        line == f"The data in 'out/reproduce-far/data/one.json' can not be used: The kind of a study's data is {SAYS}"
    )
    with pytest.raises(InputError, match="'moon', but must be"):
        study_data.marl_eval({**stored, "cells": []})


def test_a_unit_of_such_a_kind_is_not_taken_for_one_of_ours(moon: Path) -> None:
    """Its folder is the unit's own, so it is done anew."""
    (unit, *_) = make_plan(StudySpec.model_validate(STUDY), QUICK).units.values()
    found = json.loads(json.dumps(unit.described()))
    write_json(moon.parent / UNIT_FILE, found)
    assert _is_of(unit, moon.parent)
    found["world"]["kind"] = "moon"
    write_json(moon.parent / UNIT_FILE, found)
    assert not _is_of(unit, moon.parent)


@pytest.mark.parametrize("algorithm", ["ladts", "t2drl"])
def test_a_run_of_such_a_kind_is_not_resumed(moon: Path, algorithm: str) -> None:
    run = {"algorithm": algorithm, "scenario": {"kind": "moon", "name": "far"}, "settings": {}}
    folder = moon.parent / "run"
    (folder / "checkpoint-000001").mkdir(parents=True)
    write_json(folder / RUN_FILE, run)
    line = refused("train", "--resume", folder, "--no-tracking")
    assert line == f"Scenario 'far': the field 'kind' is {SAYS}"


def test_a_policy_of_such_a_kind_is_not_loaded(moon: Path) -> None:
    scenario, folder = load_scenario("demo"), moon.parent / "policy"
    save_policy(untrained_policy(scenario, "paper", 0), folder, scenario, {})
    load_policy(folder, scenario)
    manifest = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    manifest["scenario"]["kind"] = "moon"
    write_json(folder / "policy.json", manifest)
    for command in ("evaluate", "compare"):
        line = refused(command, folder)
        assert line.endswith(SAYS)
        assert "the field 'kind' of its scenario" in line
    with pytest.raises(InputError, match="'moon', but must be"):
        _load_pyfunc(str(folder))


def test_nothing_stands_in_for_a_kind_that_is_not_there() -> None:
    assert DEFAULT_KIND in kinds()
    for ask in (kind_named, headline_of):
        with pytest.raises(InputError, match="moon"):
            ask("moon")
    assert methods_for("moon") == []
