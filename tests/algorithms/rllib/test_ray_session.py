# SPDX-License-Identifier: Apache-2.0
"""A private cluster that does not start: patience, one sentence, and nothing left behind."""

import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest
import ray

from edgegen.algorithms import stop_signals
from edgegen.algorithms.rllib import ray_session as module
from edgegen.algorithms.rllib.ray_session import ATTEMPTS, ray_session, start_patiently
from edgegen.algorithms.stop_signals import stopping_as_ctrl_c
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cluster.processes import Processes
from edgegen.platform.runs import training_run
from edgegen.platform.runs.training import TrainRequest, train

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup."


@pytest.fixture(autouse=True)
def nothing_received(monkeypatch):
    monkeypatch.setattr(stop_signals, "_last_s", -float("inf"))


@pytest.fixture
def starts(monkeypatch):
    """What happens at each start of Ray, in turn: an exception, or something to call; then it works."""
    outcomes: list[Any] = []
    made = []

    def init(**options):
        made.append(options)
        if outcomes:
            outcome = outcomes.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            outcome()

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return outcomes, made


def test_a_slow_machine_gets_another_chance(starts):
    outcomes, made = starts
    outcomes += [Exception(SLOW), ValueError("Can't find a `node_ip_address.json` file")]
    with ray_session(num_cpus=1):
        pass
    assert len(made) == 3
    assert all(options["address"] == "local" for options in made)


def test_what_never_starts_is_one_sentence(starts):
    outcomes, made = starts
    outcomes += [Exception(f"{SLOW}\nand more")] * ATTEMPTS
    with pytest.raises(InputError) as refused, ray_session():
        pass
    assert len(made) == ATTEMPTS
    assert str(refused.value) == (
        f"Ray did not start on this machine in {ATTEMPTS} attempts: {SLOW.rstrip('.')}; free some of its processors, "
        "memory or disk and try again."
    )


def test_faults_of_the_program_are_not_tried_again(starts):
    outcomes, made = starts
    outcomes.append(TypeError("init() got an unexpected keyword argument"))
    with pytest.raises(TypeError), ray_session():
        pass
    assert len(made) == 1


def sleeper(*marks):
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *marks])


@pytest.mark.parametrize("error", [Exception(SLOW), KeyboardInterrupt()])
def test_processes_of_a_start_that_failed_are_ended_and_no_others(error):
    earlier, others = sleeper("/site-packages/ray/core/raylet"), []
    strays: list[Any] = []

    def start():
        if not strays:
            strays.append(sleeper("/site-packages/ray/core/gcs_server"))
            others.append(sleeper())
            raise error

    try:
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                start_patiently(start)
        else:
            start_patiently(start)
        assert not psutil.pid_exists(strays[0].pid)
        assert earlier.poll() is None
        assert others[0].poll() is None
    finally:
        for process in (earlier, *others, *strays):
            process.kill()
            process.wait()


def test_the_handler_of_sigterm_stays_whose_it_is(starts):
    outcomes, _ = starts
    outcomes.append(lambda: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))  # as ray.init does
    with stopping_as_ctrl_c(), ray_session(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_cluster_that_does_not_start_leaves_no_record_and_no_folder(starts, monkeypatch, tmp_path):
    outcomes, _ = starts
    outcomes += [Exception(SLOW)] * ATTEMPTS
    records = []

    class Store:
        def __init__(self, out):
            pass

        def create_run(self, *arguments):
            records.append(arguments)

    monkeypatch.setattr(training_run, "Store", Store)
    with pytest.raises(InputError, match="Ray did not start"):
        train(
            TrainRequest(load_scenario("demo", {"slots": 4}), tmp_path / "run", processes=Processes(num_env_runners=1))
        )
    assert records == []
    assert list(tmp_path.iterdir()) == []


def test_what_ray_waits_for_is_not_less_than_it_was(starts, monkeypatch):
    monkeypatch.delenv("RAY_gcs_server_port_wait_time_s", raising=False)
    with ray_session():
        assert os.environ.get("RAY_gcs_server_port_wait_time_s") == str(module.PORT_WAIT_S)  # noqa: SIM112 - its name
