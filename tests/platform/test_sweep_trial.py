# SPDX-License-Identifier: Apache-2.0
"""Trials are ordinary trainings: their numbers do not depend on company, interruption or process."""

import json
import shutil
from typing import Any

import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.platform.engine.doing import read_json, run_unit, unit_folder
from edgegen.platform.engine.unit import Evaluation
from edgegen.platform.files import write_json
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.final import final_training, view_of
from edgegen.platform.sweeps.training import SeedsTraining, newest_checkpoint
from edgegen.platform.sweeps.trial import SweepTrial

SPEC: dict[str, Any] = {
    "name": "tiny",
    "algorithm": "ladts",
    "scenario": "demo",
    "overrides": {"slots": 4, "tasks_per_slot.high": 3},
    "settings": {"copies": 2, "replay_warmup": 8, "batch_size": 8, "updates_per_slot": 1},
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "searcher": {"kind": "random"},
    "scheduler": {"kind": "pbt"},
    "budget": {"trials": 2, "episodes": 12, "report_every": 4},
    "seeds": [0, 3],
    "validation": {"episodes": 4, "seed": 5},
}
FIRST, SECOND = {"actor_lr": 1e-3}, {"actor_lr": 5e-3}


@pytest.fixture(scope="module", autouse=True)
def ray():
    with ray_session(num_cpus=1):
        yield


@pytest.fixture
def trial(tmp_path):
    """Makes trials, and ends them."""
    made = []

    def make(values, **changes):
        write_json(tmp_path / "sweep.json", make_sweep({**SPEC, **changes}).described())
        made.append(SweepTrial({"folder": str(tmp_path), "stage": "search", "settings": values}))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        shutil.rmtree(one.logdir, ignore_errors=True)


def numbers(trial):
    """Reports without what differs between processes."""
    return [{name: value for name, value in report.items() if name != "process"} for report in trial.training.history]


def test_a_trial_is_the_training_of_its_settings_judged_on_validation_arrivals(trial, tmp_path):
    one = trial(FIRST)
    results = [one.train() for _ in range(3)]
    assert [result["episodes"] for result in results] == [4, 8, 12]
    assert [result["done"] for result in results] == [False, False, True]
    sweep = make_sweep(SPEC)
    for seed in (0, 3):
        algorithm = (
            sweep.learner.config()
            .world(sweep.world)
            .training(**sweep.settings(FIRST).model_dump())
            .debugging(seed=seed)
        ).build_algo()
        while len(algorithm.episodes) < 12:
            algorithm.train()
        judged = evaluate(sweep.world, algorithm.policy(), 4, 5, validation=True)
        report = results[-1]["reports"][-1]["seeds"][str(seed)]
        assert report["validation"] == judged["mean_delay_s"].mean()
        assert report["validation"] != evaluate(sweep.world, algorithm.policy(), 4, 5)["mean_delay_s"].mean()
        last = [episode["delay_mean_s"] for episode in algorithm.episodes[8:]]
        assert report["training"] == pytest.approx(sum(last) / 4)
        algorithm.stop()
        shutil.rmtree(algorithm.logdir)
    means = [report["validation"] for report in results[-1]["reports"][-1]["seeds"].values()]
    assert results[-1]["objective"] == pytest.approx(sum(means) / 2)

    (tmp_path / "saved").mkdir()
    one.save_checkpoint(str(tmp_path / "saved"))
    policy = make_policy(str(tmp_path / "saved" / "seed-3"), sweep.world)
    assert evaluate(sweep.world, policy, 4, 5, validation=True)["mean_delay_s"].mean() == means[1]


def test_no_validation_is_reported_twice_where_more_episodes_are_played_at_once(trial):
    at_once = {**SPEC["settings"], "copies": 6}
    one = trial(FIRST, seeds=[0], settings=at_once, budget={"trials": 2, "episodes": 16, "report_every": 4})
    results = [one.train() for _ in range(3)]
    assert [result["episodes"] for result in results] == [6, 12, 18]
    assert [result["done"] for result in results] == [False, False, True]


def test_an_interrupted_trial_continues_with_the_same_numbers(trial, tmp_path):
    whole = trial(FIRST)
    for _ in range(3):
        whole.train()
    cut = trial(FIRST)
    cut.train()
    # As if the driver had been killed right after this was written, before it could remember it.
    own = tmp_path / "search" / cut.trial_id / "checkpoint_000000"
    own.mkdir(parents=True)
    cut.save_checkpoint(str(own))
    torn = own.with_name("checkpoint_000001")
    shutil.copytree(own, torn)
    next(torn.glob("seed-3/policy/*.safetensors")).write_bytes(b"half")
    assert newest_checkpoint(own.parent) == own
    again = trial(SECOND)  # another trial's process takes over
    assert again.reset_config({"folder": str(tmp_path), "stage": "search", "settings": FIRST})
    again.train()
    again.train()
    assert numbers(again) == numbers(whole)
    assert [report["process"]["resumed_at_episodes"] for report in again.training.history] == [0, 4, 4]
    assert again.training.schedule == [(0, FIRST)]


def test_changed_values_hold_from_there_on_and_can_be_followed_again(trial, tmp_path):
    donor = trial(FIRST)
    donor.train()
    (tmp_path / "copied").mkdir()
    donor.save_checkpoint(str(tmp_path / "copied"))
    copier = trial(SECOND)
    copier.load_checkpoint(str(tmp_path / "copied"))
    rates = {
        group["lr"]
        for algorithm in copier.training.algorithms.values()
        for name, optimizer in algorithm.learner_group._learner._named_optimizers.items()
        for group in optimizer.param_groups
        if name.endswith("actor")
    }
    assert rates == {SECOND["actor_lr"]}  # a checkpoint holds the donor's
    copier.train()
    copier.train()
    assert copier.training.schedule == [(0, FIRST), (4, SECOND)]
    donor.train()
    assert numbers(donor)[0] == numbers(copier)[0]
    assert numbers(donor)[1] != numbers(copier)[1]

    followed = SeedsTraining(make_sweep(SPEC), [0], copier.training.schedule)
    for _ in range(3):
        followed.report()
    followed.close()
    for ours, theirs in zip(followed.history, copier.training.history, strict=True):
        assert ours["seeds"]["0"] == theirs["seeds"]["0"]
    assert followed.schedule == copier.training.schedule
    state = read_json(tmp_path / "copied" / "trial.json")
    assert len(state["history"]) == 1


def test_a_world_that_varies_is_trained_in_and_not_judged_in(trial):
    name = "scenario.tasks_per_slot.high"
    one = trial({name: 2}, space={name: {"int": [1, 3]}}, scheduler={"kind": "none"}, overrides={"slots": 4}, seeds=[0])
    one.train()
    assert all(
        algorithm.config.env_config["scenario"]["tasks_per_slot"]["high"] == 2
        for algorithm in one.training.algorithms.values()
    )
    assert one.training.sweep.world.tasks_per_slot.high == 15


def test_a_final_training_that_is_cut_off_goes_on_with_the_same_numbers(tmp_path):
    """It follows a schedule, and is cut off before the values change."""
    sweep = make_sweep(SPEC)
    evaluation = Evaluation(sweep.world, 3, 1000)
    unit = final_training(sweep, "trial 1", 7, [(0, FIRST), (8, SECOND)], evaluation)

    def cut(episodes, objective):
        raise KeyboardInterrupt

    folders = [unit_folder(tmp_path / root, unit.identity) for root in ("whole", "cut")]
    with pytest.raises(KeyboardInterrupt):
        run_unit(unit, folders[1], cut)
    assert view_of(unit, 2, tmp_path / "cut", "running").episodes == 4
    for folder in folders:
        run_unit(unit, folder, lambda *_: None)
    views = [view_of(unit, 2, tmp_path / root, "finished") for root in ("whole", "cut")]
    assert [len(view.history) for view in views] == [3, 3]
    for ours, theirs in zip(*(view.history for view in views), strict=True):
        assert {**ours, "process": None} == {**theirs, "process": None}
    assert [view.schedule for view in views] == [((0, FIRST), (8, SECOND))] * 2
    assert [report["process"]["resumed_at_episodes"] for report in views[1].history] == [0, 4, 8]
    assert read_json(folders[1] / "done.json")["resumed_at"] == [4]
    found = [json.loads((folder / evaluation.file_name).read_text())["modes"] for folder in folders]
    judged = evaluate(sweep.world, make_policy(str(unit.policy_folder(folders[0])), sweep.world), 3, 1000)
    assert found[0] == found[1]
    assert list(found[0]) == ["sampled"]
    assert found[0]["sampled"]["mean_delay_s"] == judged["mean_delay_s"].tolist()


def test_a_final_training_is_told_apart_by_what_decides_its_result():
    def identity(schedule=((0, FIRST),), seed=7, **changes):
        sweep = make_sweep({**SPEC, **changes})
        return final_training(sweep, "trial 1", seed, schedule, Evaluation(sweep.world, 3, 1000)).identity

    base = identity()
    assert identity(name="other", budget={**SPEC["budget"], "trials": 9}, seeds=[5]) == base
    others = [
        identity(schedule=((0, SECOND),)),
        identity(schedule=((0, FIRST), (4, SECOND))),
        identity(seed=8),
        identity(budget={**SPEC["budget"], "report_every": 6}),
        identity(validation={"episodes": 5, "seed": 5}),
        identity(overrides={**SPEC["overrides"], "slots": 5}),
    ]
    assert len({base, *others}) == 7
