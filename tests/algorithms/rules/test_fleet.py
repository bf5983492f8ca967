"""Rules of the fleet: the same in the world and inside the kernel, in order of what they know, and tunable."""

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import Turn, measuring, metered, play
from edgegen.algorithms.rules import fleet_kernel as kernel
from edgegen.algorithms.rules.fleet import TUNABLE, Prices, rule_of
from edgegen.algorithms.rules.fleet_kernel import play_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.world import FleetWorld


@pytest.mark.parametrize("name", ["home", "affinity", "earliest", "price-greedy", "noisy"])
@pytest.mark.parametrize("world_name", ["fleet-8:scarce", "fleet-8:mixed"])
def test_the_kernel_plays_as_the_world_does_bit_for_bit(name: str, world_name: str) -> None:
    scenario = load_scenario(world_name, {"frames": 2, "frame_s": 15})
    if name == "noisy":
        policy = TUNABLE["price-greedy"].make(scenario, Prices(noise=0.2), 0)
    else:
        policy = make_policy(name, scenario)
    requests, books, results = play_rule(scenario, policy.rule, 7, range(3, 6), threads=2)
    world = FleetWorld(scenario, 3)
    world.reset(seed=7, first_episode=3)
    rows: list[list[np.ndarray]] = [[], [], []]

    def watch(turn: Turn) -> None:
        if turn.role == "allocator":
            for e in np.flatnonzero(turn.outcome.due.numpy()):
                rows[e].append(turn.outcome.result[e].numpy())

    play(world, policy, watch=watch)
    for e in range(3):
        assert len(rows[e]) == requests.number[e] > 0
        assert np.array_equal(np.stack(rows[e]), results[e, : requests.number[e]])
    for mine, theirs in zip(books, world.books, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("world_name", ["fleet-8:mixed", "fleet-8:many-models"])
def test_what_is_measured_is_the_same_in_the_kernel_and_turn_by_turn(world_name: str) -> None:
    scenario = load_scenario(world_name, {"frames": 2, "frame_s": 10})
    policy = make_policy("price-greedy", scenario)
    world = FleetWorld(scenario, 3)
    world.reset(seed=2, first_episode=5)
    inside = metered(world, policy).values()
    meter = UtilityMeter(world)
    play(world, policy, watch=measuring(meter))
    assert inside.keys() == meter.values().keys()
    for name, values in meter.values().items():
        assert np.array_equal(inside[name], values), name


def test_noise_is_gumbel_and_belongs_to_a_request_and_a_site() -> None:
    ages = np.random.default_rng(1).random(4000)
    drawn = np.array([[kernel.gumbel(age, home, site) for home in range(2) for site in range(2)] for age in ages])
    assert drawn.mean(0) == pytest.approx(np.full(4, 0.5772), abs=0.08)
    assert drawn.var(0) == pytest.approx(np.full(4, np.pi**2 / 6), rel=0.12)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06
    assert kernel.gumbel(0.25, 1, 2) == kernel.gumbel(0.25, 1, 2) != kernel.gumbel(0.25 + 1e-9, 1, 2)


def test_one_rule_for_each_role_can_be_combined() -> None:
    scenario = load_scenario("fleet-8", {"frames": 1})
    world = FleetWorld(scenario, 2)
    meter = UtilityMeter(world)
    policy = make_policy("router=earliest cacher=price-greedy allocator=home", scenario)
    play(world, policy, watch=lambda turn: meter.add(turn.role, turn.view, turn.outcome))
    values = meter.values()
    assert (values["lost_utility"] >= 0).all()
    assert (values["fairness"] <= 1).all()
    assert values["delay_s"] == pytest.approx(
        sum(values[part] for part in ("network_s", "wait_s", "loading_s", "generation_s"))
    )


def test_prices_pay_where_the_fleet_is_overloaded() -> None:
    scenario = load_scenario("fleet-8:overload")
    lost = {}
    for name in ("home", "affinity", "earliest", "price-greedy"):
        requests, _, results = play_rule(scenario, rule_of(name, scenario), 1, range(32))
        lost[name] = -results[..., physics.UTILITY].sum() / requests.number.sum()
    assert lost["price-greedy"] < lost["earliest"] < lost["home"]


def test_constants_reach_the_kernel() -> None:
    scenario = load_scenario("fleet-8", {"frames": 1})
    base, free = (
        play_rule(scenario, rule_of("price-greedy", scenario, prices), 1, range(4))[2]
        for prices in (Prices(), Prices(work_price=0.0, crowding_price=0.0, ladder_slope=0.0))
    )
    assert not np.array_equal(base, free)
    assert free[..., physics.STEPS].sum() > base[..., physics.STEPS].sum()


def test_prices_refuse_what_costs_more_than_refusing() -> None:
    scenario = load_scenario("fleet-8:overload", {"frames": 1, "load": 2, "refuse_price": 0.02})
    requests, _, results = play_rule(scenario, rule_of("price-greedy", scenario), 1, range(4))
    refused = results[..., physics.SITE] == scenario.sites + 1
    assert 0.02 < refused.sum() / requests.number.sum() < 0.5
    for name in ("home", "affinity", "earliest"):
        assert (play_rule(scenario, rule_of(name, scenario), 1, range(2))[2][..., physics.SITE] <= scenario.sites).all()
    never = scenario.model_copy(update={"refuse_price": None})
    assert (play_rule(never, rule_of("price-greedy", never), 1, range(2))[2][..., physics.SITE] <= scenario.sites).all()
