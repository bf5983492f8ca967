# SPDX-License-Identifier: Apache-2.0
"""What is predicted of asynchronous training, by hand."""

import pytest

from edgegen.platform.cluster.asynchronous_scaling import AsynchronousRow, AsynchronousScaling
from edgegen.platform.runs.statistics import mean_interval


def value(number):
    return mean_interval([number, number, number])


@pytest.fixture
def scaling():
    """A slot takes a runner 1 ms, the shard 0.02 ms, the driver 0.001 ms; an update 8 ms, one in four slots."""
    rows = tuple(
        AsynchronousRow(
            runners, value(400.0), value(100.0), value(2000.0), value(runner), value(0.02), value(8.0), value(0.001),
            10.0, 40.0, 80.0,
        )
        for runners, runner in ((1, 1.0), (4, 1.3))
    )  # fmt: skip
    return AsynchronousScaling(rows, updates_per_slot=0.25, staleness=4.0)


def test_every_part_has_a_ceiling_of_its_own(scaling):
    expected = {"runners": 64e3, "shards": 550e3, "learners": 500.0, "driver": 1e6}
    assert scaling.ceilings(64) == pytest.approx(expected)
    assert scaling.ceilings(67, 3)["shards"] == pytest.approx(600e3)  # one for six
    assert scaling.ceilings(67, 3)["learners"] == pytest.approx(1500)


def test_with_one_learner_learning_is_the_ceiling(scaling):
    assert scaling.predicted(8, 1) == (pytest.approx(500), "learners")


def test_learners_are_added_until_another_part_is_the_ceiling(scaling):
    assert scaling.learners_for(8) == 16  # 8,000 slots per second of 500 each
    assert scaling.predicted(8) == (pytest.approx(8000), "runners")
    assert scaling.predicted(1024) == (pytest.approx(1e6), "driver")
    entry = next(entry for entry in scaling.predictions() if entry["runners"] == 8)
    assert entry["processes"] == 8 + 16 + 2 + 1
    assert entry["speed_up"] == pytest.approx(8)
    assert entry["slots_per_s_one_learner"] == pytest.approx(500)


def test_on_few_cores_the_work_of_all_parts_is_shared(scaling):
    work = 1 + 2 + 0.02 + 0.001
    assert scaling.shared(1) == pytest.approx(1e3 / work)
    assert scaling.shared(2) == pytest.approx(500)  # the learner works all the time
    assert [len(table.columns) for table in scaling.tables()] == [9, 7]
