# SPDX-License-Identifier: Apache-2.0
"""Shapes of distributions: against SciPy's, between their bounds, and in scenarios."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from edgegen.envs.core.distributions import Empirical, LogNormal, LogUniform, Pareto, Shape
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.provisioning.draws import draw_requests

GRID = (np.arange(200_000) + 0.5) / 200_000
"""Uniform numbers, as evenly as can be: their values have the moments of the distribution."""

LOW, HIGH = 2.0, 50.0
SHAPES: list[tuple[Shape, Any]] = [
    (LogNormal(median=6, sigma=0.8), stats.lognorm(0.8, scale=6)),
    (LogNormal(median=100, sigma=1.5), stats.lognorm(1.5, scale=100)),
    (LogUniform(), stats.loguniform(LOW, HIGH)),
    (Pareto(alpha=1.5), stats.pareto(1.5, scale=LOW)),
    (Pareto(alpha=1.0), stats.pareto(1.0, scale=LOW)),
    (Pareto(alpha=0.3), stats.pareto(0.3, scale=LOW)),
]


@pytest.mark.parametrize(("shape", "whole"), [pytest.param(*pair, id=str(pair[0])) for pair in SHAPES])
def test_values_are_those_of_scipys_distribution_cut_off_at_the_bounds(shape: Shape, whole: Any) -> None:
    values = shape.values(GRID, LOW, HIGH)
    first, last = whole.cdf(LOW), whole.cdf(HIGH)
    np.testing.assert_allclose(values, whole.ppf(first + GRID * (last - first)), rtol=1e-9)
    mean, _ = integrate.quad(lambda x: x * whole.pdf(x) / (last - first), LOW, HIGH)
    assert shape.mean(LOW, HIGH) == pytest.approx(mean, rel=1e-6)
    assert values.mean() == pytest.approx(mean, rel=1e-4)


def test_empirical_values_come_as_often_as_their_weights_say() -> None:
    shape = Empirical(points=(3, 5, 20), weights=(1, 0, 3))
    values, counts = np.unique(shape.values(GRID, LOW, HIGH), return_counts=True)
    assert values.tolist() == [3, 20]
    assert counts.tolist() == [50_000, 150_000]
    assert shape.mean(LOW, HIGH) == pytest.approx(15.75)
    assert Empirical(points=(1, 2)).mean(0, 9) == 1.5


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.001, 10), st.floats(1, 1e6), st.floats(0.05, 20), st.floats(0, 1, exclude_max=True), st.floats(0.01, 10)
)
def test_values_stay_within_the_bounds(low: float, factor: float, alpha: float, uniform: float, sigma: float) -> None:
    for shape in (Pareto(alpha=alpha), LogNormal(median=low * factor**0.5, sigma=sigma)):
        if shape.problem(low, low * factor):  # refused
            continue
        (value,) = shape.values(np.array([uniform]), low, low * factor)
        assert low <= value <= low * factor
        assert low * (1 - 1e-9) <= shape.mean(low, low * factor) <= low * factor * (1 + 1e-9)


def test_a_scenario_draws_its_shape_and_knows_its_load() -> None:
    steps = {"low": 1, "high": 100, "shape": {"kind": "pareto", "alpha": 1.5}}
    scenario = load_scenario("demo", {"steps": steps, "slots": 40})
    tasks = draw_episodes(scenario, 1, range(64))
    work = float((tasks.workload_gcycles * tasks.present)[:, :40].sum()) / (64 * 40 * scenario.slot_s)
    assert work == pytest.approx(scenario.work_gcycles_s, rel=0.05)
    assert float(tasks.workload_gcycles.max()) <= scenario.max_workload_gcycles
    again = draw_episodes(scenario, 1, range(3, 4))
    assert torch.equal(again.workload_gcycles[0], tasks.workload_gcycles[3])
    whole = load_scenario(
        "demo", {"steps": {**steps, "integer": True}, "cycles_per_step_gcycles": {"low": 1, "high": 1}}
    )
    values = draw_episodes(whole, 1, range(2)).workload_gcycles
    assert torch.equal(values, values.round())


def test_requests_of_the_other_kind_have_shapes_too() -> None:
    plain = load_scenario("t2drl-default")
    shaped = load_scenario(
        "t2drl-default", {"upload_mb.shape": {"kind": "empirical", "points": [5, 10], "weights": [3, 1]}}
    )
    one, two = (draw_requests(scenario, 4, range(4)) for scenario in (plain, shaped))
    assert set(two.upload_mbit.unique().tolist()) == {40.0, 80.0}
    assert torch.equal(one.result_mbit, two.result_mbit)
    assert torch.equal(one.model, two.model)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("steps.shape", {"kind": "zipf"}, "'lognormal'"),
        ("steps.shape", {"kind": "pareto"}, "alpha"),
        ("steps.shape", {"kind": "pareto", "alpha": 0}, "alpha"),
        ("size_mbit", {"low": 0, "high": 3, "shape": {"kind": "pareto", "alpha": 1}}, "pareto needs a low above 0"),
        ("steps.shape", {"kind": "lognormal", "median": 1e9, "sigma": 0.01}, "next to nothing of its mass"),
        ("steps.shape", {"kind": "empirical", "points": [1e6]}, "has the value 1e.06, which is not between low"),
        (
            "steps.shape",
            {"kind": "empirical", "points": [3], "weights": [1, 2]},
            "weights has 2 entries and points has 1",
        ),
        ("steps.shape", {"kind": "empirical", "points": [3], "weights": [0]}, "weights must not all be 0"),
        ("steps.shape", {"kind": "empirical", "points": []}, "points"),
        ("tasks_per_slot.shape", {"kind": "pareto", "alpha": 1}, "shape"),
    ],
)
def test_impossible_shapes_are_refused_in_one_sentence(field: str, value: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load_scenario("demo", {field: value})
    assert len(str(caught.value).splitlines()) == 1
