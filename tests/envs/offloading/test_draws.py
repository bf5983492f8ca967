# SPDX-License-Identifier: Apache-2.0
"""Arrivals: paired across policies and copies, reproducible, and distributed as the scenario says."""

import numpy as np
import pytest
import torch

from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.view import Tasks

FIELDS = ("present", "size_mbit", "workload_gcycles", "result_mbit")


def same(a: Tasks, b: Tasks) -> bool:
    return all(torch.equal(getattr(a, field), getattr(b, field)) for field in FIELDS)


@pytest.mark.parametrize("name", ["demo", "ladts-paper:n10"])
def test_an_episode_depends_on_seed_and_number_alone(name: str) -> None:
    scenario = load_scenario(name)
    together = draw_episodes(scenario, 7, range(2, 6))
    for place, number in enumerate(range(2, 6)):
        alone = draw_episodes(scenario, 7, range(number, number + 1))
        assert same(alone, Tasks(*(getattr(together, field)[place : place + 1] for field in FIELDS)))
    assert not torch.equal(draw_episodes(scenario, 8, range(2, 6)).present, together.present)


def test_global_generators_play_no_part() -> None:
    scenario = load_scenario("demo")
    first = draw_episodes(scenario, 1, range(2))
    np.random.seed(99)  # noqa: NPY002 - the global generator is the point
    torch.manual_seed(99)
    assert same(first, draw_episodes(scenario, 1, range(2)))


def test_shape_and_padding() -> None:
    scenario = load_scenario("demo")
    tasks = draw_episodes(scenario, 0, range(3))
    assert tasks.present.shape == (3, scenario.slots + 1, scenario.servers, scenario.max_tasks)
    # Present tasks come first: no place after an empty one is taken.
    assert not (tasks.present[..., 1:] & ~tasks.present[..., :-1]).any()
    counts = tasks.present.sum(-1)
    assert int(counts.min()) >= scenario.tasks_per_slot.low
    assert int(counts.max()) == scenario.tasks_per_slot.high
    assert tasks.slot(4).present.shape == (3, scenario.servers, scenario.max_tasks)
    assert tasks.at_index(2).present.shape == (3, scenario.slots + 1, scenario.servers)


def test_distribution_of_the_demo() -> None:
    scenario = load_scenario("demo")
    tasks = draw_episodes(scenario, 3, range(40))
    there = tasks.present
    assert there.sum(-1).double().mean() == pytest.approx(8, abs=0.1)  # {1..15}
    assert tasks.size_mbit[there].double().mean() == pytest.approx(3.5, abs=0.02)  # [2, 5)
    assert tasks.workload_gcycles[there].double().mean() == pytest.approx(1.5, abs=0.02)  # 0.2 * 7.5
    assert float(tasks.workload_gcycles.max()) <= scenario.max_workload_gcycles
    offered = (tasks.workload_gcycles * there).sum((2, 3)).double().mean()
    assert offered / sum(scenario.capacity_gcycles_s) == pytest.approx(scenario.load, rel=0.02)


def test_published_instance_depends_on_the_index_alone() -> None:
    scenario = load_scenario("ladts-paper")
    tasks = draw_episodes(scenario, 3, range(2), dtype=torch.float64)
    rho = np.random.RandomState(1).uniform(0.1024, 0.3072, 50)
    z = np.random.RandomState(1).randint(1, 15, 50)
    r = np.random.RandomState(1).uniform(0.6, 1.0, 50)
    np.testing.assert_allclose(tasks.workload_gcycles[1, 30, 7].numpy(), rho * z, rtol=1e-12)
    np.testing.assert_allclose(tasks.result_mbit[0, 11, 19].numpy(), r, rtol=1e-12)
    assert tasks.size_mbit[0, 0, 0, 0] != tasks.size_mbit[0, 0, 1, 0]
    assert tasks.present.sum((1, 2, 3)).double().mean() == pytest.approx(60 * 20 * 25.5, rel=0.03)


def test_types_differ_only_by_rounding() -> None:
    scenario = load_scenario("demo")
    single, double = (draw_episodes(scenario, 5, range(1), dtype=t) for t in (torch.float32, torch.float64))
    assert torch.equal(single.size_mbit.double(), double.size_mbit)
    torch.testing.assert_close(single.workload_gcycles.double(), double.workload_gcycles, rtol=1e-6, atol=0)
