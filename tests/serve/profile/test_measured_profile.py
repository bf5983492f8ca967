# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from edgegen.serve.profile.curve_report import Provenance
from edgegen.serve.profile.loads import Loads
from edgegen.serve.profile.measured_profile import model_profile
from edgegen.serve.profile.measurements import BatchTimes, Holding, Profile, ProfileRequest, StepPoint
from edgegen.serve.profile.picture_quality import Estimate

STEPS = (1, 2, 4, 8)
PROVENANCE = Provenance("edgegen profile", "a processor, 2 cores", {"torch": "2.4"}, "2030-01-02")
LOADS = Loads(9.0, (3.0, 5.0, 4.0), (1.0, 1.0, 1.0))
WRONG = (100.0, 55.0, 8.0, 10.0)


def made_up(*, noise=(0.0, 0.0, 0.0), loads=LOADS, device="cpu", further=0.25, measure="inaccuracy", values=WRONG):
    """A profile without a model: 0.1 s per step and 0.5 s beside them, every round late by its noise."""
    points = []
    for steps, value in zip(STEPS, values, strict=True):
        times = tuple(0.1 * steps + 0.5 + late for late in noise)
        quality = {measure: Estimate(value, max(0.0, value - 5), min(100.0, value + 5), 2.0)}
        points.append(StepPoint(steps, tuple(9 * time for time in times), times, 0.01, quality))
    batches = tuple(
        BatchTimes(count, (99.0,) * len(noise), tuple(0.9 + 0.4 * further * (count - 1) + late for late in noise))
        for count in (1, 2, 4, 8)
    )
    request = ProfileRequest("toy", STEPS, device=device)
    holding = Holding(9.0, 1.0, 2.0, 0.1, None, 0.5, loads)
    return Profile(request, 2.0, (64, 64, 3), 1, holding, tuple(points), 4, batches)


def test_medians_make_the_line_and_the_batch_curve():
    found = model_profile(made_up(noise=(0.0, 0.0, 5.0)), PROVENANCE)  # one busy round of three moves no median
    assert (found.step_s, found.fixed_s, found.further_picture) == pytest.approx((0.1, 0.5, 0.25))
    assert [point.time_s for point in found.batch] == pytest.approx([0.9, 1.0, 1.2, 1.6])
    assert found.batch_steps is not None
    for point in found.batch:
        assert point.time_s == pytest.approx(found.time_s(found.batch_steps, point.pictures))


def test_intervals_are_as_wide_as_the_rounds_differ():
    same = model_profile(made_up(), PROVENANCE).intervals
    assert same.step_s == pytest.approx((0.1, 0.1))
    assert same.further_picture == pytest.approx((0.25, 0.25))
    assert model_profile(made_up(noise=(0.0, 0.1, 0.2)), PROVENANCE).intervals.fixed_s == pytest.approx((0.5, 0.7))
    once = model_profile(made_up(noise=(0.0,)), PROVENANCE).intervals
    assert once.step_s is None
    # Student's t of two degrees of freedom is 4.303; the standard error of 3, 4 and 5 is 1 / sqrt(3).
    assert same.load_s == pytest.approx((4 - 4.303 / math.sqrt(3), 4 + 4.303 / math.sqrt(3)), abs=2e-3)


def test_loads_are_told_by_where_the_model_comes_from():
    found = model_profile(made_up(), PROVENANCE)
    assert (found.load_s, found.load_from_host_s, found.host) == (4.0, 1.0, "files")
    assert (found.size_gb, found.peak_gb) == (2.0, 0.5)
    # A GPU takes the pipeline from the host; its clock is the wall.
    moved = model_profile(made_up(loads=Loads(9.0, (4.0,), (1.0,), (0.2, 0.2)), device="cuda:0"), PROVENANCE)
    assert (moved.load_from_host_s, moved.host) == (0.2, "pipeline")
    assert moved.step_s == pytest.approx(0.9)
    # Where files can not be put out of the cache, the first load is the best that is known.
    assert model_profile(made_up(loads=Loads(9.0, (), (1.0,))), PROVENANCE).load_s == 9.0


def test_quality_is_what_is_not_wrong():
    found = model_profile(made_up(), PROVENANCE)
    assert [(point.steps, point.quality) for point in found.quality] == [(1, 0.0), (2, 0.45), (4, 0.92), (8, 0.9)]
    assert (found.quality[1].low, found.quality[1].high) == (0.4, 0.5)
    # Half of the best, 0.46, is reached with 4 steps; the lower end of the best, 0.87, too.
    assert (found.least_steps, found.full_steps) == (4, 4)
    assert "judge" in found.quality_of


def test_quality_of_models_without_a_judge_is_how_far_they_have_come():
    found = model_profile(made_up(measure="distance", values=(40.0, 30.0, 10.0, 0.0)), PROVENANCE)
    assert [point.quality for point in found.quality] == [0.0, 0.25, 0.75, 1.0]
    assert "not how good" in found.quality_of
    assert (found.least_steps, found.full_steps) == (4, 8)


def test_the_profile_says_where_it_was_measured():
    found = model_profile(made_up(), PROVENANCE)
    assert (found.machine, found.device, found.threads) == ("a processor, 2 cores", "cpu", 1)
    assert "2030-01-02" in found.measured
