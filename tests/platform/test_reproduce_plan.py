# SPDX-License-Identifier: Apache-2.0
"""Studies as data: what a file may say, and which units of work follow from it."""

import copy
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.named_files import names_in
from edgegen.platform.cli import app
from edgegen.platform.engine.tuning import Tuning
from edgegen.platform.runs.rule_search import within_budget
from edgegen.platform.studies.files import STUDY_FOLDER, read_study
from edgegen.platform.studies.plan import make_plan
from edgegen.platform.studies.spec import FULL, QUICK, StudySpec

STUDY: dict[str, Any] = {
    "name": "small",
    "title": "A small study",
    "methods": {
        "lad": {"title": "LAD-TS", "algorithm": "ladts", "preset": "paper"},
        "dqn": {"title": "DQN-TS", "algorithm": "ladts", "preset": "dqn-ts"},
        "ppo": {"title": "PPO", "algorithm": "ppo", "preset": "stock", "settings": {"hidden": 8}},
    },
    "experiments": [
        {
            "name": "curves",
            "title": "Curves",
            "methods": ["lad", "dqn", "ppo"],
            "rules": ["capacity-weighted", "opt-ts"],
            "scenarios": ["demo"],
            "figures": ["curves", "final"],
            "quick": {"methods": ["lad"], "method_episodes": {"lad": 4}},
        },
        {
            "name": "tasks",
            "title": "Tasks",
            "methods": ["lad"],
            "rules": ["capacity-weighted"],
            "scenarios": ["demo"],
            "axis": {"label": "N", "field": "scenario.tasks_per_slot.high", "values": [5, 15]},
            "figures": ["axis"],
        },
        {
            "name": "steps",
            "title": "Steps",
            "methods": ["lad", "dqn"],
            "rules": ["capacity-weighted"],
            "scenarios": ["demo"],
            "axis": {"label": "I", "field": "denoising_steps", "values": [3, 5]},
            "figures": ["axis"],
        },
    ],
    "full": {"seeds": [0, 1], "episodes": 8, "evaluation_episodes": 4, "evaluation_seed": 1000},
    "quick": {"seeds": [0], "episodes": 6, "evaluation_episodes": 2, "evaluation_seed": 1000},
}


def spec(**changes) -> StudySpec:
    return StudySpec.model_validate({**copy.deepcopy(STUDY), **changes})


def trainings(plan, experiment: str, label: str) -> list[str]:
    (found,) = (part for part in plan.experiments if part.experiment.name == experiment)
    return [identity for cell in found.cells if cell.label == label for identity in cell.units]


def test_what_is_the_same_is_trained_once():
    plan = make_plan(spec(), FULL)
    lad = trainings(plan, "curves", "lad")
    assert len(lad) == len(set(lad)) == 2  # a unit for each seed
    # 15 tasks at most, and five steps, are what the scenario and the preset have anyway.
    assert trainings(plan, "tasks", "lad")[2:] == lad
    assert trainings(plan, "steps", "lad")[2:] == lad
    # A network without a chain has no use for its steps, but it is another setting, so it is trained twice.
    assert len(set(trainings(plan, "steps", "dqn"))) == 4
    kinds = [unit.kind for unit in plan.units.values()]
    assert kinds.count("training") == 2 * (3 + 1 + 1 + 1)
    assert kinds.count("stream") == 2 * 2  # both rules on the training episodes of both seeds
    assert kinds.count("play") == 3  # the static rule in two worlds, Opt-TS in one
    assert kinds.count("tuning") == 2 * 2  # the rule with constants in both worlds, for each seed


def tuned(plan) -> dict[str, list[str]]:
    return {
        part.experiment.name: sorted({cell.label for cell in part.cells if cell.seeds and not cell.learned})
        for part in plan.experiments
    }


def test_rules_are_tuned_where_something_is_trained_with_the_seeds_and_episodes_of_the_training():
    plan = make_plan(spec(), FULL)
    assert tuned(plan) == {name: ["priced-greedy (tuned)"] for name in ("curves", "tasks", "steps")}
    tunings = [unit for unit in plan.units.values() if unit.kind == "tuning"]
    assert {(unit.seed, unit.episodes) for unit in tunings} == {(0, 8), (1, 8)}
    longer = make_plan(spec(full={**STUDY["full"], "method_episodes": {"ppo": 12}}), FULL, ["curves"])
    assert {unit.episodes for unit in longer.units.values() if unit.kind == "tuning"} == {12}  # the longest training
    curves = STUDY["experiments"][0]
    none = {**curves, "tuned": []}
    assert tuned(make_plan(spec(experiments=[none]), FULL)) == {"curves": []}
    only_rules = {**curves, "methods": [], "figures": ["final"], "quick": {}}
    assert tuned(make_plan(spec(experiments=[only_rules]), FULL)) == {"curves": []}
    quick = {**curves, "quick": {"methods": ["lad"], "tuned": []}}
    plans = [make_plan(spec(experiments=[quick]), size) for size in (FULL, QUICK)]
    assert [tuned(plan)["curves"] for plan in plans] == [["priced-greedy (tuned)"], []]


def test_the_episodes_that_tune_a_learner_s_start_are_in_the_budget_of_the_rule():
    fleet = {"title": "joint", "algorithm": "fleet", "preset": "joint", "settings": {"tune_trials": 10}}
    known = {**fleet, "settings": {"prices": {}}}
    experiment = {
        "name": "one",
        "title": "One",
        "methods": ["fleet"],
        "rules": ["earliest"],
        "tuned": ["price-greedy"],
        "scenarios": ["fleet-8"],
        "figures": ["final"],
    }
    splits = []
    for method in (fleet, known):
        plan = make_plan(spec(methods={"fleet": method}, experiments=[experiment]), FULL)
        tunings = [unit for unit in plan.units.values() if isinstance(unit, Tuning)]
        splits.append({(unit.start, unit.episodes, *unit.changed.values()) for unit in tunings})
    start = 10 * 32 + 3 * 16 * 32  # trials, then at most two finalists and the defaults, sixteen times as long
    assert splits == [{(start, 8, *within_budget(8 + start))}, {(0, 8, *within_budget(8))}]


def test_identity_is_what_decides_the_result_and_nothing_else():
    plan = make_plan(spec(), FULL)
    base = trainings(plan, "curves", "lad")
    more = make_plan(spec(full={**STUDY["full"], "evaluation_episodes": 50}), FULL)
    assert trainings(more, "curves", "lad") == base  # only judged anew
    assert len(more.units[base[0]].evaluations) == 1
    renamed = spec(methods={**STUDY["methods"], "lad": {"title": "Other", "algorithm": "ladts", "preset": "paper"}})
    assert trainings(make_plan(renamed, FULL), "curves", "lad") == base
    for method in ({"settings": {"hidden": 21}}, {"preset": "d2sac-ts"}):
        changed = spec(methods={**STUDY["methods"], "lad": {**STUDY["methods"]["lad"], **method}})
        assert not set(trainings(make_plan(changed, FULL), "curves", "lad")) & set(base)
    longer = make_plan(spec(full={**STUDY["full"], "episodes": 9}), FULL)
    assert not set(trainings(longer, "curves", "lad")) & set(base)


def test_the_quick_size_is_its_own():
    plan = make_plan(spec(), QUICK, ["curves"])
    (experiment,) = plan.experiments
    assert [(cell.label, cell.seeds, cell.episodes) for cell in experiment.cells] == [
        ("lad", (0,), 4),
        ("priced-greedy (tuned)", (0,), 4),
        ("capacity-weighted", (), 4),
        ("opt-ts", (), 4),
    ]
    assert next(iter(experiment.evaluations.values())).episodes == 2


def test_one_training_is_judged_in_many_worlds():
    experiment = {
        "name": "unseen",
        "title": "Unseen",
        "methods": ["lad"],
        "rules": ["capacity-weighted"],
        "train_on": "demo",
        "scenarios": ["stable:b5", "demo"],
    }
    plan = make_plan(spec(experiments=[experiment]), FULL)
    units = [unit for unit in plan.units.values() if unit.kind == "training"]
    assert [unit.seed for unit in units] == [0, 1]
    assert {unit.world.name for unit in units} == {"demo"}
    units += [unit for unit in plan.units.values() if unit.kind == "tuning"]
    assert {unit.world.name for unit in units} == {"demo"}  # rules are tuned there, too
    assert [[evaluation.world.name for evaluation in unit.evaluations] for unit in units] == [["stable:b5", "demo"]] * 4


@pytest.mark.parametrize("name", names_in(STUDY_FOLDER))
@pytest.mark.parametrize("size", [FULL, QUICK])
def test_shipped_studies_are_sound(name, size):
    plan = make_plan(read_study(name), size)
    units = [unit for unit in plan.units.values() if unit.kind == "training"]
    assert units
    if size == FULL:
        fewest = 3 if name == "t2drl-ablation" else 5  # its effects are many times what seeds differ by
        for experiment in plan.experiments:
            assert all(len(cell.seeds) >= fewest for cell in experiment.cells if cell.seeds)
            assert all(evaluation.episodes >= 30 for evaluation in experiment.evaluations.values())
    for experiment in plan.experiments:
        kinds = {plan.units[identity].kind for cell in experiment.cells for identity in cell.units}
        assert ("tuning" in kinds) == ("training" in kinds)
    if name == "t2drl":
        presets = {key: plan.spec.methods[key].preset for key in ("t2drl", "paper", "ddpg", "ours")}
        assert presets == {"t2drl": "two-timescale", "paper": "paper", "ddpg": "ddpg", "ours": "improved"}
        assert plan.spec.methods["t2drl"].title == "T2DRL"
    if name.startswith("t2drl"):
        assert all("oracle" in experiment.experiment.rules for experiment in plan.experiments)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            ("experiments", 0, "methods"),
            ["lda"],
            "unknown method 'lda'; methods are lad, dqn, ppo. Did you mean 'lad'?",
        ),
        (("experiments", 0, "rules"), ["opt-t", "capacity-weighted"], "Did you mean 'opt-ts'?"),
        (("experiments", 0, "rules"), ["opt-ts"], "the reference 'capacity-weighted' is not among the rules opt-ts"),
        (
            ("experiments", 0, "tuned"),
            ["priced-gredy"],
            "tuned names 'priced-gredy', but rules with constants for scenario 'demo' are priced-greedy. Did you mean",
        ),
        (("experiments", 0, "quick"), {"tuned": ["opt-ts"]}, "quick.tuned names 'opt-ts', but rules with constants"),
        (("quick", "tuned"), ["priced-greedy"], "quick.tuned is for experiments"),
        (("experiments", 0, "scenarios"), ["dmeo"], "Did you mean 'demo'?"),
        (("experiments", 0, "scenarios"), ["t2drl-default"], "can not play the scenario 't2drl-default'"),
        (("experiments", 0, "figures"), ["axis"], "figure 'axis' and the field axis need one another"),
        (("experiments", 0, "figuers"), ["axis"], "Did you mean 'figures'?"),
        (("experiments", 0, "baseline"), "lda", "baseline is 'lda', but must be one of the methods lad, dqn"),
        (("experiments", 1, "baseline"), "lad", "baseline is for experiments without an axis"),
        (("experiments", 1, "axis", "field"), "scenario.tasks.high", "has no field 'tasks.high'"),
        (("experiments", 1, "axis", "field"), "denoising_step", "no method has the setting 'denoising_step'"),
        (("experiments", 1, "axis", "values"), [5, 5], "none may occur twice"),
        (("experiments", 1, "axis", "values"), [-5], "is -5, but"),
        (("experiments", 1, "quick"), {"values": [7]}, "quick.values names 7.0, but the axis has"),
        (("experiments", 1, "name"), "curves", "two experiments are called 'curves'"),
        (("methods", "lad", "algorithm"), "lads", "algorithm is 'lads', but must be one of ladts, t2drl, fleet, ppo"),
        (("methods", "lad", "preset"), "papre", "Did you mean 'paper'?"),
        (("methods", "ppo", "settings"), {"hiden": 3}, "Did you mean 'hidden'?"),
        (("full", "seeds"), [0, 0], "no seed may occur twice"),
        (("quick",), {"seeds": [0]}, "quick.episodes is missing"),
        (("full", "settings"), {"copies": 8, "hiden": 3}, "no method has the setting 'hiden'. Did you mean 'hidden'?"),
        (("labels",), {"least-dely": "Least"}, "labels names 'least-dely', but the rules and scenarios of the"),
        (("full", "skip"), True, "full.skip is for experiments"),
        (("quick", "values"), [5], "quick.values is for experiments"),
        (("full", "method_episodes"), {"lda": 3}, "full.method_episodes names 'lda', but methods are lad, dqn, ppo"),
        (("experiments", 0, "published"), {"source": "x", "final": {"lda": 1}}, "published names 'lda'"),
        (
            ("experiments", 0, "published"),
            {"source": "x", "claims": [{"text": "x", "kind": "ratio", "method": "lad", "reference": "dqn"}]},
            "a claim of kind ratio needs at_most",
        ),
    ],
)
def test_wrong_studies_are_refused_in_one_sentence(tmp_path, path, value, sentence):
    data = copy.deepcopy(STUDY)
    inner: Any = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    result = CliRunner().invoke(app, ["reproduce", str(file), "--quick" if path[-1] == "quick" else "--list", "--list"])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert sentence in line


def test_unknown_studies_and_experiments_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"Unknown study 'ladst'; .* Did you mean 'ladts'"):
        read_study("ladst")
    with pytest.raises(InputError, match=r"Unknown study 'ladts:quick'"):  # only scenarios have variants
        read_study("ladts:quick")
    with pytest.raises(InputError, match="There is no study file"):
        read_study(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"has no experiment 'taks'; .* Did you mean 'tasks'"):
        make_plan(spec(), FULL, ["taks"])
    with pytest.raises(InputError, match="Nothing is left"):
        make_plan(spec(experiments=[{**STUDY["experiments"][0], "quick": {"skip": True}}]), QUICK)


def test_a_scenario_file_is_looked_for_beside_the_study_then_in_the_working_folder(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    experiment = {
        **STUDY["experiments"][0],
        "scenarios": ["world.yaml"],
        "train_on": "world.yaml",
        "figures": ["final"],
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "experiments": [experiment]}))
    command = ["reproduce", str(file), "--list"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert f"There is no scenario file '{tmp_path}/world.yaml'" in refused.stderr
    for folder, slots in ((here, 6), (tmp_path, 7)):
        (folder / "world.yaml").write_text(f"extends: demo\nslots: {slots}\n")
        assert CliRunner().invoke(app, command).exit_code == 0
        plan = make_plan(read_study(str(file)), FULL, file=file)
        worlds: list[Any] = [unit.world for unit in plan.units.values()]
        assert {world.slots for world in worlds} == {slots}
        assert {cell.scenario for part in plan.experiments for cell in part.cells} == {"world.yaml"}
