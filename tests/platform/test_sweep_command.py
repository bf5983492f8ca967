# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.platform.cli import app
from edgegen.platform.engine.doing import ERROR_FILE, unit_folder
from edgegen.platform.files import write_text
from edgegen.platform.sweeps import run
from edgegen.platform.sweeps.checked import make_sweep

SPEC = {
    "name": "small",
    "algorithm": "ladts",
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "budget": {"trials": 1, "episodes": 4, "report_every": 4},
}


def refused(*arguments):
    """Run a wrong command line; returns the sentence it was refused with."""
    result = CliRunner().invoke(app, ["sweep", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["small.yml"], "Did you mean 'small.yaml'?"),
        (["small.yaml", "--set", "budget.trails=3"], "Did you mean 'trials'?"),
        (["small.yaml", "--set", "space.actor_lr={uniform: [-1, 1]}"], "space.actor_lr can not be -1.0"),
        (["small.yaml", "--json", "."], "is a folder"),
        (["small.yaml", "--out", "small.yaml/x"], "can not be written"),
        (["small.yaml", "--out", "."], "holds something that is no sweep"),
        (["small.yaml", "--storage", "bucket/folder"], "must be a URI of an object store, such as s3://BUCKET/FOLDER"),
        (["small.yaml", "--storage", "ftp://host/x"], "it can begin with s3://, gs://"),
        (["small.yaml", "--storage", "s3://"], "must be a URI of an object store"),
        (["small.yaml", "--storage", "s3://me:secret@bucket/x"], "Storage 's3://me:***@bucket/x' holds a password"),
        (["small.yaml", "--storage", "s3://bucket/x?colour=red"], "can not be used"),
        (["small.yaml", "--storage", "file:///dev/null/x"], "can not be written"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(file, arguments, sentence):
    assert sentence in refused(*arguments)
    assert [path.name for path in file.parent.iterdir()] == ["small.yaml"]


def test_a_wrong_tracking_server_leaves_nothing_behind(file, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert refused(file).startswith("MLflow at 'http://127.0.0.1:9' can not be used:")
    assert [path.name for path in file.parent.iterdir()] == ["small.yaml"]


def test_a_folder_with_a_sweep_is_only_resumed_and_only_as_it_began(file, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    described = folder / "sweep.json"
    described.write_text(json.dumps({"identity": "small-1", **make_sweep(SPEC).described()}))
    always = [file, "--out", folder, "--no-tracking"]
    assert "continue it with --resume" in refused(*always)
    changed = refused(*always, "--resume", "--set", "budget.trials=2", "--set", "seeds=[3]")
    assert "begun with other values of budget, seeds" in changed
    world = make_sweep({**SPEC, "overrides": {"slots": 5}}).described()["world"]
    described.write_text(json.dumps({"identity": "small-1", **make_sweep(SPEC).described(), "world": world}))
    assert "begun with other values of world;" in refused(*always, "--resume")
    described.write_text('{"identity": "small-1"')
    assert "sweep.json can not be read" in refused(*always, "--resume")
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.json"]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("final", "Every final training of the best trials failed; the first error is: ValueError: it broke."),
        ("bar", "The rule priced-greedy can not be compared with: ValueError: it broke."),
        ("play", "The rule capacity-weighted can not be compared with: ValueError: it broke."),
    ],
)
def test_units_that_fail_are_said_in_one_sentence(tmp_path, monkeypatch, kind, sentence):
    def fail(units, root, watchers, jobs, attempts, here):
        assert not here
        assert attempts == 4
        broken = [unit for unit in units if unit.kind == kind]
        for unit in broken:
            write_text(unit_folder(root, unit.identity) / ERROR_FILE, "Traceback\nValueError: it broke\n")
            for watcher in watchers:
                watcher.started(unit)
                watcher.failed(unit, again=False)
        return {unit.identity: "ValueError: it broke" for unit in broken}

    monkeypatch.setattr(run, "run_units", fail)
    monkeypatch.setattr(run, "room_for", lambda units: 1)
    sweep = make_sweep({**SPEC, "evaluation": {"rules": ["capacity-weighted", "least-delay"]}})
    started = run._Sweep(run.SweepRequest(sweep, tmp_path, tracking=False), Console(quiet=True))
    entry = {"name": "trial 0, seed 7", "label": "trial 0", "seed": 7, "schedule": [[0, {"actor_lr": 0.001}]]}
    with pytest.raises(InputError) as refused:
        started._final([entry])
    assert str(refused.value) == sentence
