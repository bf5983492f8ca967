# SPDX-License-Identifier: Apache-2.0
"""How a training begins and ends, without Ray: its folder, its name, and who stops it."""

import contextlib
import json
import signal
import threading

import pytest

from edgegen.algorithms import stop_signals
from edgegen.algorithms.rllib import ray_session
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.runs import training_run
from edgegen.platform.runs.training import Listener, TrainRequest, resume, train
from edgegen.platform.runs.training_run import TrainingRun

STOPPING = ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGXCPU"]


@pytest.fixture(autouse=True)
def nothing_received(monkeypatch):
    monkeypatch.setattr(stop_signals, "_last_s", -float("inf"))


@pytest.fixture
def request_for(tmp_path):
    def make(out="run", **changes):
        changes = {"tracking": False, "episodes": 3, **changes}
        return TrainRequest(load_scenario("demo", {"slots": 4}), tmp_path / out, **changes)

    return make


class FakeAlgorithm:
    """Plays an episode per step; what happens in each is given."""

    def __init__(self, happenings=()):
        self.episodes = []
        self.updates = {}
        self.slots_sampled = 0
        self.notices = []
        self.happenings = list(happenings)
        self.config = type("Config", (), {"num_env_runners": 0})
        self.stopped = False

    def train(self):
        if self.happenings and (happening := self.happenings.pop(0)):
            happening()
        self.episodes.append({"delay_mean_s": 1.0})
        return {}

    def figures(self):
        return None

    def settle(self):
        pass

    def save_to_path(self, path):
        pass

    def policy(self):
        return None

    def stop(self):
        self.stopped = True


@pytest.fixture
def made(monkeypatch):
    """Lets trainings build what is given instead of an algorithm, without Ray."""

    def use(*algorithms):
        waiting = list(algorithms)
        monkeypatch.setattr(TrainingRun, "_build", lambda self, checkpoint, wait_s: waiting.pop(0))
        monkeypatch.setattr(TrainingRun, "_publish", lambda self, headline, checkpoint: None)
        monkeypatch.setattr(ray_session, "ray_session", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr("edgegen.algorithms.core.codec.save_policy", lambda policy, folder, *_: folder.mkdir())

    return use


class FakeTracker:
    """Remembers how the last run was called and ended."""

    ended: list[str]
    names: list[str]

    def __init__(self, name, parameters, tags, run_id=None, store=None):
        self.names.append(name)
        self.run_id, self.uri = "1", "sqlite:///x"

    def log_metrics(self, rows):
        pass

    def finish(self, status):
        self.ended.append(status)


@pytest.fixture
def tracked(monkeypatch):
    FakeTracker.ended, FakeTracker.names = [], []
    monkeypatch.setattr(training_run, "Tracker", FakeTracker)
    monkeypatch.setattr(training_run, "Store", lambda folder: object())
    return FakeTracker


def receive(*names):
    def raise_them():
        for name in names:
            signal.raise_signal(signal.Signals[name])

    return raise_them


@pytest.mark.parametrize("name", STOPPING)
def test_every_stop_finishes_the_episode_saves_and_is_recorded(name, request_for, made, tracked):
    algorithm = FakeAlgorithm([None, receive(name)])
    made(algorithm)
    result = train(request_for(episodes=100, tracking=True))
    assert result.interrupted
    assert len(algorithm.episodes) == 2
    assert (result.out / "checkpoint-000002").is_dir()
    assert tracked.ended == ["KILLED"]
    assert algorithm.stopped


def test_a_signal_while_the_checkpoint_is_written_does_not_tear_it(request_for, made, tracked, monkeypatch):
    algorithm = FakeAlgorithm()
    monkeypatch.setattr(algorithm, "save_to_path", lambda path: receive("SIGTERM")())
    made(algorithm)
    result = train(request_for(tracking=True))
    assert (result.out / "checkpoint-000003").is_dir()
    assert tracked.ended == ["FINISHED"]


def test_who_insists_is_obeyed_at_once(request_for, made, tracked, tmp_path):
    made(FakeAlgorithm([receive("SIGINT", "SIGINT")]))
    with pytest.raises(KeyboardInterrupt):
        train(request_for(tracking=True))
    assert tracked.ended == ["KILLED"]
    assert list(tmp_path.iterdir()) == []  # there is nothing to resume


def test_a_cluster_that_ends_with_this_process_is_not_waited_for(request_for, made):
    from edgegen.algorithms.rllib.algorithm import RunnersLostError

    def end_all():
        signal.raise_signal(signal.SIGTERM)
        raise RunnersLostError("all env runners are gone")

    made(FakeAlgorithm([end_all]))
    with pytest.raises(KeyboardInterrupt):
        train(request_for())


def test_two_trainings_of_the_same_name_get_a_folder_each(request_for, made, tmp_path):
    both = threading.Barrier(2)
    made(FakeAlgorithm([both.wait]), FakeAlgorithm([both.wait]))
    results = {}

    def start(rate):
        results[rate] = train(request_for(numbered=True, overrides={"actor_lr": rate}))

    threads = [threading.Thread(target=start, args=(rate,)) for rate in (0.001, 0.01)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.out.name for result in results.values()} == {"run", "run-2"}
    for rate, result in results.items():
        assert json.loads((result.out / "run.json").read_text())["settings"]["actor_lr"] == rate


def test_a_folder_that_was_named_is_used_once(request_for, made, tmp_path):
    refused = []

    def start_another():
        with pytest.raises(InputError) as error:
            train(request_for())
        refused.append(str(error.value))
        (tmp_path / "run" / "checkpoint-000000").mkdir()
        with pytest.raises(InputError) as error:
            resume(tmp_path / "run")
        refused.append(str(error.value))

    made(FakeAlgorithm([start_another]))
    train(request_for())
    with pytest.raises(InputError) as error:
        train(request_for())
    refused.append(str(error.value))
    assert "holds a run already, which another process is working on" in refused[0]
    assert "Another process is working on the run in" in refused[1]
    assert refused[2] == (
        f"'{tmp_path / 'run'}' holds a run already; continue it with --resume or choose another --out."
    )


def test_a_start_that_fails_can_be_tried_again(request_for, made, tmp_path):
    def fail():
        raise InputError("no room")

    made(FakeAlgorithm([fail]), FakeAlgorithm())
    with pytest.raises(InputError, match="no room"):
        train(request_for())
    assert list(tmp_path.iterdir()) == []
    assert len(train(request_for()).episodes["delay_mean_s"]) == 3


def test_a_start_that_was_killed_before_its_first_checkpoint_can_be_tried_again(request_for, made, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("run.json", ".lock"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        resume(tmp_path / "run")
    made(FakeAlgorithm())
    assert train(request_for()).out == tmp_path / "run"


def test_what_failed_after_a_checkpoint_is_kept(request_for, made, tmp_path):
    def fail():
        raise InputError("the world ended")

    made(FakeAlgorithm([None, fail]))
    with pytest.raises(InputError, match="the world ended"):
        train(request_for(checkpoint_every=1))
    assert (tmp_path / "run" / "checkpoint-000001").is_dir()
    assert (tmp_path / "run" / "run.json").is_file()


def test_what_was_set_is_told_where_runs_are_told_apart(request_for, made, tracked):
    notices: list[str] = []
    made(FakeAlgorithm())
    changes = {"overrides": {"actor_lr": 0.01}, "scenario_overrides": {"slots": 4}}
    result = train(request_for(numbered=True, tracking=True, **changes), Listener(on_notice=notices.append))
    assert notices == [f"The run goes to {result.out}, with slots=4, actor_lr=0.01."]
    assert tracked.names == ["ladts-improved-demo-seed0, slots=4, actor_lr=0.01"]
    assert json.loads((result.out / "run.json").read_text())["changes"] == "slots=4, actor_lr=0.01"


def test_a_long_name_is_cut(request_for, made, tracked):
    made(FakeAlgorithm())
    train(request_for(tracking=True, scenario_overrides={"description": "x" * 1000}))
    assert len(tracked.names[0]) == 200
