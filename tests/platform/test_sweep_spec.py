# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.platform.sweeps.checked import make_sweep, read_sweep, recalled

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "tune_configs").glob("*.yaml"))
SMALL = {
    "name": "small",
    "algorithm": "ladts",
    "scenario": "demo",
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "budget": {"trials": 4, "episodes": 32, "report_every": 8},
}


def changed(**changes):
    """Return the small sweep with values replaced, by name with double underscores for dots."""
    data: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in SMALL.items()}
    for name, value in changes.items():
        head, _, rest = name.partition("__")
        if rest:
            data.setdefault(head, {})[rest] = value
        else:
            data[head] = value
    return data


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_sweeps_are_valid(path):
    sweep = read_sweep(path)
    assert sweep.spec.description
    assert (
        sweep.settings({}).model_dump()
        == sweep.learner.make_settings(sweep.spec.preset, sweep.spec.settings).model_dump()
    )


def test_every_searcher_and_scheduler_is_shown_by_a_shipped_sweep():
    specs = [read_sweep(path).spec for path in CONFIGS]
    assert {spec.searcher.kind for spec in specs} == {"random", "tpe"}
    assert {spec.scheduler.kind for spec in specs} == {"none", "asha", "pbt"}
    assert {spec.algorithm for spec in specs} == {"ladts", "t2drl"}


def test_defaults_follow_the_algorithm():
    sweep = make_sweep(SMALL)
    assert (sweep.metric, sweep.mode, sweep.model) == ("mean_delay_s", "min", "edgegen-small")
    provisioning = make_sweep(changed(algorithm="t2drl", scenario=None))
    assert (provisioning.metric, provisioning.world.name) == ("mean_cost", "t2drl-contended")
    assert make_sweep(changed(algorithm="t2drl", scenario=None, metric="hit_ratio")).mode == "max"


def test_values_become_settings_and_worlds():
    sweep = make_sweep(
        changed(
            space={"actor_lr": {"uniform": [0.1, 1]}, "scenario.tasks_per_slot.high": {"int": [5, 9]}},
            settings={"hidden": 32},
            overrides={"slots": 7},
        )
    )
    values = {"actor_lr": 0.5, "scenario.tasks_per_slot.high": 6}
    settings = sweep.settings(values)
    assert (settings.actor_lr, settings.hidden, settings.sharing) == (0.5, 32, "full")
    world, own = sweep.training_world(values), sweep.world
    assert isinstance(world, OffloadingScenario)
    assert isinstance(own, OffloadingScenario)
    assert (world.tasks_per_slot.high, world.slots) == (6, 7)
    assert own.tasks_per_slot.high == 15  # trials are judged in the sweep's own world


def test_a_service_is_a_world():
    sweep = make_sweep(changed(scenario=None, service="demo"))
    assert isinstance(sweep.world, OffloadingScenario)
    assert sweep.world.capacity_gcycles_s == (1.0, 0.5, 0.25)


@pytest.mark.parametrize("field", ["scenario", "service"])
def test_a_trial_needs_no_file_that_the_sweep_names(field, tmp_path, monkeypatch):
    """Ray Tune runs it in a folder of its own, and a cluster on another machine."""
    shipped = ROOT / ("serve/configs" if field == "service" else "envs/scenarios") / "demo.yaml"
    (tmp_path / "own.yaml").write_text(shipped.read_text())
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(changed(**{"scenario": None, field: "own.yaml"})))
    monkeypatch.chdir(tmp_path)
    sweep = read_sweep(Path("sweep.yaml"), {"overrides.slots": 7})
    described = json.loads(json.dumps(sweep.described()))
    (tmp_path / "own.yaml").unlink()
    again = recalled(described)
    assert (again, again.described()) == (sweep, described)
    other = make_sweep(changed(algorithm="t2drl", scenario=None))
    assert recalled(other.described()) == other
    assert isinstance(again.world, OffloadingScenario)
    assert again.world.slots == 7


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"algorithm": "ladst"}, "Did you mean 'ladts'?"),
        ({"preset": "imporved"}, "Did you mean 'improved'?"),
        ({"scenario": "dmo"}, "Did you mean 'demo'?"),
        ({"service": "demo"}, "scenario and service both name the world"),
        ({"seraher": {}}, "Did you mean 'searcher'?"),
        ({"budget__trails": 4}, "unknown field 'budget.trails'"),
        ({"budget__trails": 4}, "Did you mean 'trials'?"),
        ({"budget__trials": 0}, "'budget.trials' is 0"),
        ({"budget__trials": True}, "'budget.trials' is True, but must be a number."),
        ({"budget__time_s": 1e39}, "'budget.time_s' is 1e+39, but must be finite"),
        ({"retrain": {"control": "yes"}}, "'retrain.control' is 'yes', but must be true or false."),
        ({"settings": {"hidden": 1e9}}, "'hidden' is 1000000000.0"),
        ({"settings": {"normalise": "yes"}}, "'normalise' is 'yes', but must be true or false."),
        ({"space__hidden": {"choice": [True, 8]}}, "space.hidden can not be True"),
        ({"budget__report_every": 64}, "must not exceed budget.episodes (32)"),
        ({"searcher": {"kind": "bayes"}}, "'searcher.kind' is 'bayes'"),
        ({"scheduler": {"kind": "asha", "grace_episodes": 33}}, "scheduler.grace_episodes is 33"),
        ({"space": {}}, "'space' is {}"),
        ({"space__actr_lr": {"uniform": [0, 1]}}, "Did you mean 'actor_lr'?"),
        ({"space__scenario.slts": {"int": [3, 4]}}, "Did you mean 'slots'?"),
        ({"space__scenario.capacity_gcycles_s": {"choice": [1, 2]}}, "capacity_gcycles_s"),
        ({"space__hidden": {"uniform": [8, 64]}}, "write int."),
        ({"space__actor_lr": {"log_uniform": [-1, 1]}}, "must begin above 0"),
        ({"space__actor_lr": {"uniform": [-1, 1]}}, "space.actor_lr can not be -1.0"),
        ({"space__actor_lr": {"unifrom": [0, 1]}}, "Did you mean 'uniform'?"),
        ({"space__actor_lr": {"uniform": [1, 0]}}, "must be below the second"),
        ({"space__actor_lr": {"uniform": [1]}}, "the lowest and the highest value"),
        ({"space__actor_lr": 0.1}, "must be one kind with its values"),
        ({"space__memory": {"choice": ["slot", "tsk"]}}, "space.memory can not be 'tsk'"),
        ({"space__hidden": {"choice": [8, 8]}}, "no value may occur twice"),
        ({"settings": {"actor_lr": 1e-3}}, "fixed in settings and varied in space"),
        ({"settings": {"hiden": 8}}, "Did you mean 'hidden'?"),
        ({"settings": {"hidden": -8}}, "'hidden' is -8"),
        ({"overrides": {"slts": 8}}, "Did you mean 'slots'?"),
        ({"metric": "mean_dealy_s"}, "Did you mean 'mean_delay_s'?"),
        ({"seeds": [101]}, "retrain.seeds holds 101"),
        ({"seeds": [1, 1]}, "no seed may occur twice"),
        ({"seeds": [-1]}, "'seeds.0' is -1"),
        ({"scheduler": {"kind": "pbt"}}, "write searcher: {kind: random}"),
        (
            {"scheduler": {"kind": "pbt"}, "searcher": {"kind": "random"}, "space__hidden": {"choice": [8, 16]}},
            "space names 'hidden', but scheduler pbt",
        ),
        (
            {
                "scheduler": {"kind": "pb2"},
                "searcher": {"kind": "random"},
                "space": {"batch_size": {"choice": [8, 16]}},
            },
            "space.batch_size is a choice, but scheduler pb2 moves numbers in ranges",
        ),
        ({"evaluation": {"rules": ["least-dealy"]}}, "Did you mean 'least-delay'?"),
        ({"resources": {"asynchronous": True}}, "resources.asynchronous is given, but trials are synchronous"),
        ({"model": "a/b"}, "'model' is 'a/b'"),
        ({"name": "../x"}, "'name' is '../x'"),
    ],
)
def test_wrong_names_and_values_are_refused_before_anything_runs(changes, sentence):
    with pytest.raises(InputError) as error:
        make_sweep(changed(**changes))
    assert sentence in str(error.value)
    assert "small" in str(error.value) or "name" in changes


def test_files_are_read_with_changes_and_relative_scenarios(tmp_path):
    (tmp_path / "world.yaml").write_text("extends: demo\nslots: 6\n")
    file = tmp_path / "mine.yaml"
    data = {name: value for name, value in SMALL.items() if name != "name"}
    file.write_text(yaml.safe_dump({**data, "scenario": "world.yaml"}).replace("0.0001", "1e-4"))
    sweep = read_sweep(
        file, {"budget.trials": 2, "space.hidden": {"choice": [8, 16]}, "overrides.tasks_per_slot.high": 3}
    )
    assert sweep.spec.name == "mine"
    assert isinstance(sweep.world, OffloadingScenario)
    assert (sweep.world.slots, sweep.world.tasks_per_slot.high) == (6, 3)
    assert sweep.spec.budget.trials == 2
    assert sweep.space["actor_lr"].low == 1e-4
    assert sweep.space["hidden"].values == (8, 16)


def test_a_file_is_looked_for_beside_the_sweep_then_in_the_working_folder(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "scenario": "world.yaml:more"}))
    with pytest.raises(InputError, match=rf"There is no scenario file '{tmp_path}/world.yaml'"):
        read_sweep(file)
    for folder, slots in ((here, 6), (tmp_path, 7)):
        text = f"extends: demo\nslots: {slots}\nvariants: {{more: {{tasks_per_slot.high: 5}}}}\n"
        (folder / "world.yaml").write_text(text)
        world = read_sweep(file).world
        assert isinstance(world, OffloadingScenario)
        assert (world.slots, world.tasks_per_slot.high) == (slots, 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[1]", "must hold a mapping"), ("a: [", "can not be read"), ("name: x", "the field 'algorithm' is missing")],
)
def test_files_that_are_no_sweeps_are_refused(tmp_path, text, sentence):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_sweep(tmp_path / "x.yaml")


def test_a_mistyped_file_is_refused_with_the_nearest_one(tmp_path):
    (tmp_path / "ladts.yaml").write_text("")
    with pytest.raises(InputError, match=r"Did you mean '.*/ladts.yaml'\?"):
        read_sweep(tmp_path / "ladst.yaml")


def test_validation_arrivals_are_those_of_no_evaluation_and_no_training():
    most = 2**32 - 1
    validation, evaluation = ([evaluation_seed(seed, kind) for seed in (0, most)] for kind in (True, False))
    assert most < validation[0] < validation[1] < evaluation[0]
