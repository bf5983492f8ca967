# SPDX-License-Identifier: Apache-2.0
"""Asynchronous training on real processes: what is counted, what is bounded, what a checkpoint keeps, and faults."""

import os
import signal

import numpy as np
import pytest
import ray

from edgegen.algorithms.rllib.asynchronous.algorithm import AsynchronousAlgorithm
from edgegen.algorithms.rllib.private_core import actors
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.offloading.view import ROUTER
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.runs.training import Listener, TrainRequest, resume, train

pytestmark = pytest.mark.e2e
SLOTS = 6
"""Of an episode."""


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray_session(num_cpus=4):
        yield


@pytest.fixture
def build(make_config):
    """From what differs to an algorithm with two runners."""
    made = []

    def make(learners=1, shards=2, staleness=4.0, **settings):
        config = make_config(replay_warmup=1, **settings).env_runners(num_env_runners=2, rollout_fragment_length=2)
        config.learners(num_learners=learners, num_cpus_per_learner=0.5)
        made.append(config.asynchronous(staleness, shards).build_algo())
        return made[-1]

    yield make
    for algorithm in made:
        algorithm.stop()


def held(algorithm):
    """What the shards report."""
    return ray.get([shard.report.remote() for shard in algorithm.shards])


def weights_of_learners(algorithm):
    def weights(learner):
        return {f"{m}.{n}": v.clone() for m, net in learner.networks().items() for n, v in net.state_dict().items()}

    return [result.get() for result in algorithm.learner_group.foreach_learner(weights)]


def test_all_that_is_played_is_learned_from_and_kept(build, make_config, tmp_path):
    algorithm = build(learners=2, updates_per_slot=3)  # so many that runners wait for learners
    assert isinstance(algorithm, AsynchronousAlgorithm)
    before = weights_of_learners(algorithm)[0]
    for _ in range(5):
        result = algorithm.train()
    assert result["asynchronous"]["staleness_slots_bound"] == 16  # four fragments of two slots by two runners
    algorithm.settle()
    slots, updates = algorithm.slots_sampled, algorithm.updates[ROUTER]
    assert slots == SLOTS * len(algorithm.episodes) >= 5 * 2 * SLOTS
    assert updates == 3 * slots
    assert algorithm.pace == (updates, slots)
    assert algorithm.replays == {}  # the driver holds no data
    reports = held(algorithm)
    assert [report["waiting"] + report["playing"] for report in reports] == [0, 0]
    assert sum(report["arrived"] for report in reports) == slots
    assert all(0 < report["rows"][ROUTER] <= 30 for report in reports)
    figures = algorithm.figures()
    assert 0 < figures["staleness_slots"] <= figures["staleness_slots_max"] <= 16
    assert figures["staleness_updates_max"] <= 3 * 16
    assert figures["runners_waited_s"] > 0
    first, second = weights_of_learners(algorithm)
    assert all(np.array_equal(first[name], second[name]) for name in first)  # one state, whatever each has drawn
    assert sum(not np.array_equal(first[name], before[name]) for name in first) > 5
    path = algorithm.save_to_path(str(tmp_path / "checkpoint"))
    assert len(list((tmp_path / "checkpoint" / "shards").iterdir())) == 2
    algorithm.stop()

    again = build(shards=3, updates_per_slot=3)  # another number of shards and of learners
    again.restore_from_path(path)
    assert again.slots_sampled == slots
    assert again.pace == (updates, slots)
    assert sum(report["rows"][ROUTER] for report in held(again)) == sum(report["rows"][ROUTER] for report in reports)
    restored = weights_of_learners(again)[0]
    assert all(np.array_equal(first[name], restored[name]) for name in first)
    again.train()
    again.settle()
    assert again.slots_sampled == SLOTS * len(again.episodes) > slots
    assert again.updates[ROUTER] == 3 * again.slots_sampled
    assert again.figures()["staleness_slots"] <= 16  # not as if weights were of the beginning
    again.stop()

    alone = make_config(replay_warmup=1, updates_per_slot=3).build_algo()  # the synchronous form goes on with it, too
    try:
        alone.restore_from_path(path)
        assert alone.replays[ROUTER].sizes.tolist() == [sum(report["rows"][ROUTER] for report in reports)]
        alone.train()
        assert alone.updates[ROUTER] == updates + 3 * SLOTS
    finally:
        alone.stop()


PROCESSES = Processes(num_env_runners=2, cpus_per_learner=0.5, fragment_length=2, asynchronous=True, replay_shards=2)


def finished(result):
    """Episodes of a training."""
    return len(next(iter(result.episodes.values())))


class Blow:
    """Listens to a training, and kills one of its processes after some episodes."""

    def __init__(self, kind, at=40):
        self.kind, self.at = kind, at
        self.struck = False
        self.notices: list[str] = []
        self.listener = Listener(self.look, self.notices.append)

    def look(self, report):
        if self.struck or report.episode < self.at:
            return
        alive = [actor for actor in actors() if actor["State"] == "ALIVE" and self.kind in actor["ActorClassName"]]
        os.kill(alive[0]["Pid"], signal.SIGKILL)
        self.struck = True


@pytest.fixture
def request_of(small, quick, tmp_path):
    def make(name, episodes=400):
        settings = {**quick, "replay_warmup": 1}
        return TrainRequest(
            small, tmp_path / name, overrides=settings, episodes=episodes, processes=PROCESSES, checkpoint_every=20,
            tracking=False,
        )  # fmt: skip

    return make


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "said"),
    [("JointEnvRunner", "1 of 2 env runners lost"), ("ShardActor", "was lost with"), ("Executable", "restart 1 of")],
)
def test_training_goes_on_after_a_process_is_killed(request_of, kind, said):
    blow = Blow(kind)
    result = train(request_of("run"), blow.listener)
    assert blow.struck
    assert any(said in notice for notice in blow.notices), blow.notices
    assert finished(result) >= 400
    assert result.asynchronous is not None
    assert result.asynchronous["staleness_slots_max"] <= 16 + 2  # a lost shard takes its limit along
    if kind == "JointEnvRunner":
        assert any("back" in notice for notice in blow.notices), blow.notices
    more = resume(result.out, 440)
    assert finished(more) >= 440
