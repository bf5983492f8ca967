# SPDX-License-Identifier: Apache-2.0
"""What the tests of both algorithms in RLlib share: a session, and what makes two trainings the same."""

import numpy as np
import pytest
import ray

from edgegen.algorithms.rllib.ray_session import ray_session


@pytest.fixture(scope="module")
def cluster():
    """Ray with four processors, gone at the end."""
    with ray_session(num_cpus=4):
        yield
    assert not ray.is_initialized()


def learned_weights(algorithm):
    """Every parameter of an algorithm, target networks included, by module and name."""
    state = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    return {f"{module}.{name}": np.asarray(value) for module in state for name, value in state[module].items()}


@pytest.fixture(scope="session")
def weights():
    return learned_weights


@pytest.fixture
def halved(tmp_path):
    """From what builds an algorithm to two after four iterations: one resumed in the middle, and one that was not."""
    made = []

    def train(build):
        whole, half = build(), build()
        made.append(whole)
        for _ in range(4):
            whole.train()
        for _ in range(2):
            half.train()
        path = half.save_to_path(str(tmp_path / "checkpoint"))
        half.stop()
        resumed = build()
        made.append(resumed)
        resumed.restore_from_path(path)
        for _ in range(2):
            resumed.train()
        return resumed, whole

    yield train
    for algorithm in made:
        algorithm.stop()


@pytest.fixture(scope="session")
def assert_same_training():
    """From two algorithms to nothing, or to the first thing in which their trainings differ."""

    def check(one, other):
        assert one.updates == other.updates
        assert one.episodes == other.episodes
        first, second = learned_weights(one), learned_weights(other)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert np.array_equal(value, second[name]), name

    return check
