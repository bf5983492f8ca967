# SPDX-License-Identifier: Apache-2.0
"""What can be said of the processes of a training, and what is refused in one sentence."""

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.cluster.processes import make_processes


def test_asynchronous_training_has_one_of_each_at_least():
    made = make_processes(asynchronous=True, num_env_runners=0, num_learners=2)
    assert (made.num_env_runners, made.num_learners) == (1, 2)
    assert make_processes().num_env_runners == 0
    assert make_processes(**made.model_dump()) == made  # a run's file says all of it


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"replay_shards": 2}, "replay_shards is 2, but means nothing without asynchronous"),
        ({"asynchronous": True, "staleness": 1}, "staleness"),
        ({"asynchronous": True, "staleness": float("inf")}, "staleness"),
    ],
)
def test_what_makes_no_sense_is_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        make_processes(**values)


def test_asynchronous_training_in_one_process_is_refused(make_config):
    with pytest.raises(InputError, match="num_env_runners is 0, but asynchronous training needs at least one"):
        make_config().asynchronous().build_algo()
