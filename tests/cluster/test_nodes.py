# SPDX-License-Identifier: Apache-2.0
"""A training on several Ray nodes: where its processes go, what is refused, and what it survives."""

import json
import pickle
import resource
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import ray
from ray.util import placement_group, remove_placement_group

from edgegen.algorithms.core.catalog import latest_checkpoint
from edgegen.envs.core.errors import InputError
from edgegen.platform.cluster.local import LocalCluster
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.runs.training import ClusterUse, Listener, TrainRequest, resume, train

pytestmark = pytest.mark.e2e

PAIR = Processes(num_env_runners=2, num_learners=2, cpus_per_learner=0.5, placement="spread", fragment_length=3)
RUNNER = Processes(num_env_runners=1, fragment_length=3)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(workers=2, cpus=3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def request_for(small, quick, tmp_path_factory):
    def make(**changes):
        out = tmp_path_factory.mktemp("training") / "run"
        request = TrainRequest(small, out, overrides=quick, episodes=16, checkpoint_every=4, tracking=False)
        return replace(request, **changes)

    return make


class Striker:
    """Calls actions once a number of episodes has been finished, and keeps what was told."""

    def __init__(self, actions=()):
        self.actions = dict(actions)
        self.notices: list[str] = []
        self.listener = Listener(self.look, self.notices.append)

    def look(self, report):
        for episode in [number for number in self.actions if number <= report.episode]:
            self.actions.pop(episode)()


def weights(result):
    """Digest of the trained weights."""
    return json.loads((result.policy / "policy.json").read_text())["weights_sha256"]


def last_of(request):
    """Episodes after which the newest checkpoint of a training was written."""
    newest = latest_checkpoint(request.out)
    assert newest is not None
    return int(newest.name.removeprefix("checkpoint-"))


def wait_for(condition, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def spread(cluster, request_for):
    """Two env runners and two learners to which nothing happens, and where they were."""
    seen = []
    striker = Striker({2: lambda: seen.extend([cluster.runners(), cluster.learners()])})
    result = train(request_for(processes=PAIR), striker.listener)
    assert striker.notices == []
    return result, seen


def test_processes_are_spread_over_the_nodes(cluster, spread):
    _, (runners, learners) = spread
    assert len(runners) == len(learners) == 2
    assert {process.node for process in runners} == set(cluster.workers)  # not on the head, where the driver is
    assert {process.node for process in learners} <= set(cluster.workers)
    assert len({process.pid for process in runners + learners}) == 4


def test_their_room_is_given_back(cluster, spread):
    wait_for(lambda: ray.available_resources().get("CPU") == 6)


@pytest.mark.soak
def test_packed_processes_share_a_node(cluster, request_for):
    seen = []
    request = request_for(processes=Processes(num_env_runners=2, fragment_length=6), episodes=2)
    train(request, Striker({1: lambda: seen.extend(cluster.runners())}).listener)
    assert len(seen) == 2
    assert len({process.node for process in seen}) == 1


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        (
            {"num_learners": 4, "gpus_per_learner": 1},
            "There is no room for 4 learners with 1 CPU and 1 GPU each, but the Ray cluster has 6 CPUs and 0 GPUs on 3 "
            "nodes.",
        ),
        (
            {"num_env_runners": 7},
            "There is no room for 7 env runners with 1 CPU each, but the Ray cluster has 6 CPUs on 3 nodes.",
        ),
        (
            {"num_env_runners": 1, "cpus_per_env_runner": 4},
            "There is no room for 1 env runner with 4 CPUs, but no single node of the Ray cluster has 4 CPUs.",
        ),
    ],
)
def test_what_the_cluster_can_not_hold_is_refused_at_once(cluster, request_for, processes, sentence):
    with pytest.raises(InputError) as refused:
        train(request_for(processes=Processes(**processes)))
    assert str(refused.value) == sentence


def test_room_that_others_use_is_waited_for(cluster, request_for):
    wait_for(lambda: ray.available_resources().get("CPU") == 6)
    others = placement_group([{"CPU": 3}, {"CPU": 2}], strategy="SPREAD")
    assert others.wait(30)
    with pytest.raises(InputError, match=r"but after 0\.5 s only 1 CPU of the Ray cluster are free"):
        train(request_for(processes=Processes(num_env_runners=2), cluster=ClusterUse(wait_s=0.5)))
    remove_placement_group(others)
    wait_for(lambda: ray.available_resources().get("CPU") == 6)


@pytest.mark.soak
def test_a_lost_runner_comes_back_and_nobody_waits(cluster, request_for):
    def back():
        time.sleep(3.5)  # lost runners are looked for now and then only
        wait_for(lambda: len(cluster.runners()) == 2)

    striker = Striker({4: lambda: cluster.kill(cluster.runners()[0]), 8: back})
    result = train(request_for(processes=Processes(num_env_runners=2, fragment_length=3)), striker.listener)
    assert len(result.episodes["delay_mean_s"]) >= 16
    assert striker.notices[0].startswith("1 of 2 env runners lost, training goes on with 1:")
    assert striker.notices[1:] == ["1 lost env runners are back, training goes on with 2."]


@pytest.mark.soak
def test_lost_learners_and_nodes_cost_no_more_than_the_time_since_the_checkpoint(cluster, request_for, spread):
    whole, _ = spread
    striker = Striker(
        {
            6: lambda: cluster.kill(cluster.learners()[1]),
            10: lambda: cluster.kill_node(cluster.learners()[1].node),  # all fit on the node that is left
        }
    )
    result = train(request_for(processes=PAIR), striker.listener)
    cluster.add_worker()
    restarts = [notice for notice in striker.notices if "restart" in notice]
    assert "restart 1 of at most 3 from checkpoint-000004" in restarts[0]
    assert "restart 1 of at most 3 from checkpoint-000008" in restarts[1]  # progress in between starts the count anew
    assert len(restarts) == 2
    assert result.episodes == whole.episodes
    assert weights(result) == weights(whole)


def test_what_breaks_again_and_again_is_given_up(cluster, request_for):
    striker = Striker({1: lambda: cluster.kill(cluster.learners()[0])})
    request = request_for(processes=Processes(num_learners=1), cluster=ClusterUse(max_restarts=0))
    with pytest.raises(InputError, match=r"was lost .* after 0 restarts without a new checkpoint in between"):
        train(request, striker.listener)
    assert striker.notices == []


@pytest.mark.soak
def test_a_full_disk_costs_no_checkpoint_and_at_the_end_it_is_an_error(cluster, request_for):
    """The limit on the size of files stands for the disk: writing fails half-way, as on a full one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = train(request_for())
    request = request_for(processes=Processes(num_learners=1))
    seen = []

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    def heal():
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        seen.extend(sorted(path.name for path in request.out.iterdir() if "checkpoint" in path.name))

    striker = Striker({6: fill, 9: heal, 14: fill})
    try:
        with pytest.raises(InputError, match=r"checkpoint-000016' can not be written: .*; earlier .* are unharmed\.$"):
            train(request, striker.listener)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert seen == ["checkpoint-000004"]
    (notice,) = striker.notices
    assert notice.startswith(f"The checkpoint '{request.out}/checkpoint-000008' can not be written: ")
    assert notice.endswith("Training goes on; the next attempt is after 4 more episodes.")
    assert last_of(request) == 12
    assert weights(resume(request.out, tracking=False)) == weights(whole)


DRIVER = """
import pickle, sys
from edgegen.platform.runs.training import train
train(pickle.load(sys.stdin.buffer), lambda report: print(report.episode, flush=True))
"""


@pytest.mark.soak
def test_a_killed_driver_resumes_with_the_same_numbers(cluster, request_for):
    whole = train(request_for(processes=RUNNER))
    request = request_for(processes=RUNNER, cluster=ClusterUse(cluster.address))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    given, told = driver.stdin, driver.stdout
    assert given is not None
    assert told is not None
    with given:
        given.write(pickle.dumps(request))
    try:
        assert any(int(line) >= 6 for line in told)
    finally:
        driver.kill()
        driver.wait()
        told.close()
    assert last_of(request) < 16
    result = resume(request.out, tracking=False)
    assert result.episodes == whole.episodes
    assert weights(result) == weights(whole)


@pytest.mark.soak
def test_a_resumed_training_may_have_other_processes(cluster, request_for):
    request = request_for(episodes=4)
    train(request)
    more = resume(request.out, 8, tracking=False, processes={"num_env_runners": 2, "fragment_length": 3})
    run = json.loads((request.out / "run.json").read_text())
    assert (run["num_env_runners"], run["num_learners"], run["fragment_length"]) == (2, 0, 3)
    delays = more.episodes["delay_mean_s"]
    assert len(set(delays)) == len(delays) == 8  # everybody has arrivals of their own
    fewer = resume(request.out, 10, tracking=False, processes={"num_env_runners": 0})
    assert fewer.episodes["delay_mean_s"][:8] == delays
    assert len(fewer.episodes["delay_mean_s"]) == 10
