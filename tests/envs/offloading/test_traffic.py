# SPDX-License-Identifier: Apache-2.0
"""Traffic that varies: means kept, chains as long as promised, the same for every policy, and off by default."""

import numpy as np
import pytest
import torch

from edgegen.envs.core.chains import two_states
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading import scenario as envs_scenario
from edgegen.envs.offloading.draws import draw_episodes
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.traffic import Bursts, Diurnal, HotSpots, Traffic, modulated
from edgegen.envs.offloading.view import Tasks

SMALL = {"tasks_per_slot.high": 6, "slots": 50}


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, number]) for number in range(count)]


def scenario(**traffic: object) -> OffloadingScenario:
    return load_scenario("demo", {**SMALL, "traffic": traffic}, OffloadingScenario)


def test_levels_of_bursts_by_hand() -> None:
    bursts = Bursts(factor=4, mean_calm_slots=12, mean_burst_slots=4)
    assert bursts.burst_share == 0.25
    # 0.75 x + 0.25 * 4 x = 1
    assert bursts.levels == pytest.approx((1 / 1.75, 4 / 1.75))


def test_lengths_of_the_two_states_are_those_asked_for() -> None:
    second = two_states(rngs(400), 500, 1, 12, 4)[..., 0]
    assert second.mean() == pytest.approx(0.25, abs=0.01)
    assert second[:, 0].mean() == pytest.approx(0.25, abs=0.07)  # from the beginning
    begins = (second[:, 1:] & ~second[:, :-1]).sum()
    assert second.sum() / begins == pytest.approx(4, abs=0.2)
    assert (~second).sum() / begins == pytest.approx(12, abs=0.5)


def test_common_bursts_are_common_and_others_are_not() -> None:
    common = Bursts(factor=4, mean_calm_slots=5, mean_burst_slots=5)
    for bursts, alike in ((common, True), (common.model_copy(update={"scope": "per_server"}), False)):
        traffic = Traffic(bursts=bursts)
        factors = traffic.draw(rngs(4), 60, 3)
        assert factors.shape == (4, 60, 3)
        assert bool((factors == factors[..., :1]).all()) == alike


def test_the_day_by_hand() -> None:
    wave = Diurnal(amplitude=0.5, period_slots=4, phase=0.25).draw(rngs(2), 5)
    np.testing.assert_allclose(wave[0, :, 0], [1.5, 1, 0.5, 1, 1.5])
    drawn = Diurnal(amplitude=0.5, period_slots=4).draw(rngs(50), 4)
    assert drawn.mean() == pytest.approx(1)  # over whole days, wherever they begin
    assert len(np.unique(drawn[:, 0, 0])) == 50


def test_hot_spots_by_hand() -> None:
    # 2 of 4 servers get 3 times the tasks: weights 3, 3, 1, 1 over their mean, 2.
    spots = HotSpots(servers=2, factor=3, drawn="fixed")
    np.testing.assert_allclose(spots.factors(4), [1.5, 1.5, 0.5, 0.5])
    np.testing.assert_allclose(HotSpots(weights=(1, 2, 3), drawn="fixed").factors(3), [0.5, 1, 1.5])
    assert (spots.draw(rngs(2), 4) == spots.factors(4)).all()
    moved = HotSpots(servers=1, factor=9).draw(rngs(60), 3)[:, 0]
    assert {int(at) for at in moved.argmax(1)} == {0, 1, 2}
    np.testing.assert_allclose(moved.mean(1), 1)


def test_rounding_keeps_the_mean_and_never_goes_beyond() -> None:
    counts = np.full((30, 40, 5), 3)
    made = modulated(counts, np.full((30, 40, 5), 0.85), rngs(30))
    assert set(np.unique(made)) == {2, 3}
    assert made.mean() == pytest.approx(2.55, abs=0.03)


@pytest.mark.parametrize(
    "traffic",
    [
        {"bursts": {"factor": 5, "mean_calm_slots": 6, "mean_burst_slots": 3}},
        {"diurnal": {"amplitude": 0.7, "period_slots": 50}},
        {"hot_spots": {"servers": 2, "factor": 4}},
        {
            "bursts": {"factor": 2, "mean_calm_slots": 4, "mean_burst_slots": 4, "scope": "per_server"},
            "diurnal": {"amplitude": 0.3, "period_slots": 10},
            "hot_spots": {"weights": [1, 2, 3, 4, 5]},
        },
    ],
)
def test_the_load_is_that_of_what_arrives(traffic: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    world = scenario(**traffic)
    plain = load_scenario("demo", SMALL)
    assert world.load == pytest.approx(plain.load)  # per task; the factors have a mean of 1
    tasks = draw_episodes(world, 1, range(250))
    work = float((tasks.workload_gcycles * tasks.present).double().sum()) / (250 * 51)
    assert work == pytest.approx(world.work_gcycles_s, rel=0.05)
    by_index = (tasks.workload_gcycles * tasks.present).double().mean((0, 1, 2)).numpy()
    np.testing.assert_allclose(by_index, world.work_by_index_gcycles, atol=0.12)
    assert tasks.present.shape[-1] == world.max_tasks
    assert not (tasks.present[..., 1:] & ~tasks.present[..., :-1]).any()
    whole = world.work_by_index_gcycles
    monkeypatch.setattr(envs_scenario, "WORK_ELEMENTS", 50)  # a recording has factors enough for many parts
    np.testing.assert_allclose(world.work_by_index_gcycles, whole, rtol=1e-12)


def test_an_episode_depends_on_seed_and_number_alone() -> None:
    world = scenario(
        bursts={"factor": 5, "mean_calm_slots": 6, "mean_burst_slots": 3}, hot_spots={"servers": 2, "factor": 4}
    )
    together = draw_episodes(world, 7, range(2, 6))
    for place, number in enumerate(range(2, 6)):
        alone = draw_episodes(world, 7, range(number, number + 1))
        for name in ("present", "size_mbit", "workload_gcycles"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[place])
    assert not torch.equal(draw_episodes(world, 8, range(2, 6)).present, together.present)


def test_a_factor_of_one_everywhere_changes_nothing() -> None:
    plain = load_scenario("demo", SMALL)
    same = scenario(hot_spots={"weights": [1, 1, 1, 1, 1]})
    first, second = draw_episodes(plain, 3, range(4)), draw_episodes(same, 3, range(4))
    assert isinstance(first, Tasks)
    assert torch.equal(first.present, second.present)
    assert torch.equal(first.workload_gcycles, second.workload_gcycles)


@pytest.mark.parametrize(
    ("traffic", "complaint"),
    [
        ({"bursts": {"factor": 1, "mean_calm_slots": 2, "mean_burst_slots": 2}}, r"'traffic.bursts.factor' is 1, but"),
        ({"bursts": {"factor": 2, "mean_calm_slots": 0.5, "mean_burst_slots": 2}}, "'traffic.bursts.mean_calm_slots'"),
        ({"diurnal": {"amplitude": 1.5, "period_slots": 9}}, "'traffic.diurnal.amplitude' is 1.5"),
        ({"hot_spots": {"servers": 2}}, "either weights, or servers and factor"),
        ({"hot_spots": {"servers": 2, "factor": 3, "weights": [1]}}, "either weights, or servers and factor"),
        ({"hot_spots": {"servers": 9, "factor": 3}}, "hot_spots.servers is 9, but there are only 5 servers"),
        ({"hot_spots": {"weights": [1, 2]}}, "hot_spots.weights has 2 entries, but there are 5 servers"),
        ({"burst": {}}, "unknown field 'traffic.burst'"),
    ],
)
def test_impossible_traffic_is_refused(traffic: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        scenario(**traffic)
