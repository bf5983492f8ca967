"""Tune's state survives being killed at any moment."""

import json
from types import SimpleNamespace

from edgegen.platform.sweeps.state import StateKeeper, forget, keep_state, put_state_back

SESSION = "2030-01-02_03-04-05"


def write_session(folder, session, content):
    for name in (
        f"experiment_state-{session}.json",
        f"searcher-state-{session}.pkl",
        f"search_gen_state-{session}.json",
    ):
        (folder / name).write_text(f"{name} {content}")


def test_a_torn_state_is_replaced_by_the_last_whole_one(tmp_path):
    staging, experiment = tmp_path / "staging", tmp_path / "search"
    staging.mkdir()
    experiment.mkdir()
    (experiment / "tuner.pkl").write_text("tuner")
    assert keep_state(staging, experiment) is None  # Tune has written nothing yet
    assert not put_state_back(experiment)
    for content in ("first", "second", "third"):
        write_session(staging, SESSION, content)
        keep_state(staging, experiment)
        (experiment / "tuner.pkl").write_text("")  # just being copied onto itself
    write_session(experiment, SESSION, "torn"[:2])
    write_session(experiment, "2030-09-09_09-09-09", "a later session that was killed at once")
    assert put_state_back(experiment)
    names = sorted(path.name for path in experiment.iterdir())
    assert names == sorted(
        ["tuner.pkl", *(f"{kind}-{SESSION}.{end}" for kind, end in
         (("experiment_state", "json"), ("searcher-state", "pkl"), ("search_gen_state", "json")))]
    )  # fmt: skip
    assert (experiment / f"searcher-state-{SESSION}.pkl").read_text().endswith("third")
    assert (experiment / "tuner.pkl").read_text() == "tuner"
    assert len(list((tmp_path / "search-states").glob("0*"))) == 2  # older ones are dropped


def test_half_a_copy_is_not_a_state(tmp_path):
    staging, experiment = tmp_path / "staging", tmp_path / "search"
    staging.mkdir()
    experiment.mkdir()
    (experiment / "tuner.pkl").write_text("tuner")
    write_session(staging, SESSION, "whole")
    keep_state(staging, experiment)
    half = tmp_path / "search-states" / ".000000001.part"
    half.mkdir()
    write_session(half, SESSION, "half")
    assert put_state_back(experiment)
    assert (experiment / f"experiment_state-{SESSION}.json").read_text().endswith("whole")
    write_session(staging, SESSION, "next")
    keep_state(staging, experiment)  # in the way of the leftover
    assert put_state_back(experiment)
    assert (experiment / f"experiment_state-{SESSION}.json").read_text().endswith("next")
    forget(experiment)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staging"]


def test_the_state_is_kept_when_and_only_when_something_happened(tmp_path):
    staging, experiment = tmp_path / "staging", tmp_path / "search"
    staging.mkdir()
    experiment.mkdir()
    (experiment / "tuner.pkl").write_text("tuner")
    storage = SimpleNamespace(experiment_driver_staging_path=str(staging), experiment_fs_path=str(experiment))
    trial = SimpleNamespace(trial_id="a", status="RUNNING", last_result=None, checkpoint=None, storage=storage)
    keeper = StateKeeper()
    write_session(staging, SESSION, json.dumps("x"))
    states = tmp_path / "search-states"
    keeper.on_step_end(0, [])
    assert not states.exists()
    numbers = []
    for change in ({}, {}, {"last_result": {"history": [1]}}, {}, {"checkpoint": SimpleNamespace(path="c")}, {}):
        vars(trial).update(change)
        keeper.on_step_end(0, [trial])
        numbers.append(max(int(path.name) for path in states.glob("0*")))
    assert numbers == [0, 0, 1, 1, 2, 2]
