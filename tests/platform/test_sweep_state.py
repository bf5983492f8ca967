# SPDX-License-Identifier: Apache-2.0
"""Tune's state survives being killed at any moment."""

import json
import pickle
from types import SimpleNamespace

from edgegen.platform.sweeps.state import BYTES_PER_CHANGE, StateKeeper, forget, keep_state, put_state_back, trials_in

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


def state_of(name, values, status="RUNNING", how="0"):
    """What Tune writes of a trial."""
    what = {"trial_id": name, "status": status, "config": {"settings": values}}
    return json.dumps(what), how


class FakeTrial:
    def __init__(self, folder, name):
        self.trial_id, self.status, self.how = name, "RUNNING", 0
        self.config = {"folder": str(folder), "stage": "search", "settings": {"x": name}}
        staging, experiment = str(folder / "staging"), str(folder / "search")
        self.storage = SimpleNamespace(experiment_driver_staging_path=staging, experiment_fs_path=experiment)

    def get_json_state(self):
        return state_of(self.trial_id, {"x": self.trial_id}, self.status, str(self.how))


def test_changes_between_two_states_cost_what_changed_and_come_back(tmp_path, monkeypatch):
    staging, experiment, trials = tmp_path / "staging", tmp_path / "search", list[FakeTrial]()
    for folder in (staging, experiment):
        folder.mkdir()
    (experiment / "tuner.pkl").write_text("tuner")
    written = []

    def write():
        written.append(len(trials))
        data = {"trial_data": [trial.get_json_state() for trial in trials], "padding": "x" * 20_000}
        (staging / f"experiment_state-{SESSION}.json").write_text(json.dumps(data))
        limiter = {"max_concurrent": 2, "live_trials": {"a", "b"}, "num_unfinished_live_trials": 2}
        generator = {"counter": len(trials), "finished": False, "name:ConcurrencyLimiter": limiter}
        (staging / f"search_gen_state-{SESSION}.json").write_bytes(pickle.dumps(generator))

    monkeypatch.setattr("edgegen.platform.sweeps.state._Present.write", write)
    keeper = StateKeeper()
    states = tmp_path / "search-states"
    keeper.on_step_end(0, [])
    assert not states.exists()
    for name in "ab":
        trials.append(FakeTrial(tmp_path, name))
        keeper.on_step_end(0, trials)
    for _ in range(10):  # empty steps
        keeper.on_step_end(0, trials)
    assert written == [1]  # whole at first, then the second trial in the journal
    trials[0].how, trials[1].status = 1, "TERMINATED"
    for trial in trials:
        keeper.on_trial_save(0, trials, trial)
    keeper.on_step_end(0, trials)
    trials[0].how = 2
    keeper.on_trial_save(0, trials, trials[0])
    keeper.on_step_end(0, trials)
    (journal,) = states.glob("*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(line["trial"], line["what"] is None, line["how"]) for line in lines] == [
        ("b", False, "0"),
        ("a", False, "1"),
        ("b", False, "0"),
        ("a", True, "2"),
    ]
    with journal.open("a") as file:
        file.write('{"trial": "a", "wh')  # killed in the middle of a line
    assert put_state_back(experiment)
    assert [(trial["trial_id"], trial["status"]) for trial in trials_in(experiment)] == [
        ("a", "RUNNING"),
        ("b", "TERMINATED"),
    ]
    restored = json.loads((experiment / f"experiment_state-{SESSION}.json").read_text())
    assert [how for _, how in restored["trial_data"]] == ["2", "0"]
    generator = pickle.loads((experiment / f"search_gen_state-{SESSION}.json").read_bytes())
    assert generator["counter"] == 2
    limiter = {"max_concurrent": 2, "live_trials": {"a"}, "num_unfinished_live_trials": 1}
    assert generator["name:ConcurrencyLimiter"] == limiter  # what has ended takes no place
    assert not (experiment / "journal.jsonl").exists()


def test_whole_states_are_as_rare_as_they_are_large(tmp_path, monkeypatch):
    staging, trials = tmp_path / "staging", [FakeTrial(tmp_path, name) for name in "abc"]
    staging.mkdir()
    written = []

    def write():
        written.append(1)
        (staging / f"experiment_state-{SESSION}.json").write_text("x" * 100 * BYTES_PER_CHANGE)

    monkeypatch.setattr("edgegen.platform.sweeps.state._Present.write", write)
    keeper = StateKeeper()
    for step in range(1000):
        keeper.on_trial_save(step, trials, trials[0])
        keeper.on_step_end(step, trials)
    assert len(written) == 10
