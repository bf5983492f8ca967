"""Trials are ordinary trainings: their numbers do not depend on company, interruption or process."""

import shutil

import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.platform.files import write_json
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.sweeps.study import make_study
from edgegen.platform.sweeps.trial import SweepTrial, newest_checkpoint, read_json

SPEC = {
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

    def make(values=None, entry=None, **changes):
        write_json(tmp_path / "sweep.json", {"spec": {**SPEC, **changes}})
        config = {"folder": str(tmp_path), "stage": "search"}
        made.append(SweepTrial({**config, **({"settings": values} if entry is None else {"entry": entry})}))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        shutil.rmtree(one.logdir, ignore_errors=True)


def numbers(trial):
    """Reports without what differs between processes."""
    return [{name: value for name, value in report.items() if name != "process"} for report in trial.history]


def test_a_trial_is_the_training_of_its_settings_judged_on_validation_arrivals(trial, tmp_path):
    one = trial(FIRST)
    results = [one.train() for _ in range(3)]
    assert [result["episodes"] for result in results] == [4, 8, 12]
    assert [result["done"] for result in results] == [False, False, True]
    study = make_study(SPEC)
    for seed in (0, 3):
        algorithm = (
            study.learner.config()
            .world(study.world)
            .training(**study.settings(FIRST).model_dump())
            .debugging(seed=seed)
        ).build_algo()
        while len(algorithm.episodes) < 12:
            algorithm.train()
        judged = evaluate(study.world, algorithm.policy(), 4, 5, validation=True)
        report = results[-1]["history"][-1]["seeds"][str(seed)]
        assert report["validation"] == judged["mean_delay_s"].mean()
        assert report["validation"] != evaluate(study.world, algorithm.policy(), 4, 5)["mean_delay_s"].mean()
        last = [episode["delay_mean_s"] for episode in algorithm.episodes[8:]]
        assert report["training"] == pytest.approx(sum(last) / 4)
        algorithm.stop()
        shutil.rmtree(algorithm.logdir)
    means = [report["validation"] for report in results[-1]["history"][-1]["seeds"].values()]
    assert results[-1]["objective"] == pytest.approx(sum(means) / 2)

    (tmp_path / "saved").mkdir()
    one.save_checkpoint(str(tmp_path / "saved"))
    policy = make_policy(str(tmp_path / "saved" / "seed-3"), study.world)
    assert evaluate(study.world, policy, 4, 5, validation=True)["mean_delay_s"].mean() == means[1]


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
    assert [report["process"]["resumed_at_episodes"] for report in again.history] == [0, 4, 4]
    assert again.schedule == [(0, FIRST)]


def test_changed_values_hold_from_there_on_and_can_be_followed_again(trial, tmp_path):
    donor = trial(FIRST)
    donor.train()
    (tmp_path / "copied").mkdir()
    donor.save_checkpoint(str(tmp_path / "copied"))
    copier = trial(SECOND)
    copier.load_checkpoint(str(tmp_path / "copied"))
    rates = {
        group["lr"]
        for algorithm in copier.algorithms.values()
        for name, optimizer in algorithm.learner_group._learner._named_optimizers.items()
        for group in optimizer.param_groups
        if name.endswith("actor")
    }
    assert rates == {SECOND["actor_lr"]}  # a checkpoint holds the donor's
    copier.train()
    copier.train()
    assert copier.schedule == [(0, FIRST), (4, SECOND)]
    donor.train()
    assert numbers(donor)[0] == numbers(copier)[0]
    assert numbers(donor)[1] != numbers(copier)[1]

    write_json(tmp_path / "entries.json", [{"seed": 0, "schedule": copier.schedule}])
    followed = trial(entry=0)
    assert followed.seeds == (0,)
    for _ in range(3):
        followed.train()
    for ours, theirs in zip(followed.history, copier.history, strict=True):
        assert ours["seeds"]["0"] == theirs["seeds"]["0"]
    assert followed.schedule == copier.schedule
    state = read_json(tmp_path / "copied" / "trial.json")
    assert len(state["history"]) == 1


def test_a_world_that_varies_is_trained_in_and_not_judged_in(trial):
    name = "scenario.tasks_per_slot.high"
    one = trial({name: 2}, space={name: {"int": [1, 3]}}, scheduler={"kind": "none"}, overrides={"slots": 4}, seeds=[0])
    one.train()
    assert all(
        algorithm.config.env_config["scenario"]["tasks_per_slot"]["high"] == 2 for algorithm in one.algorithms.values()
    )
    assert one.study.world.tasks_per_slot.high == 15
