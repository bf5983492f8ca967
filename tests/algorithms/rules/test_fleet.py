# SPDX-License-Identifier: Apache-2.0
"""Rules of the fleet: the same in the world and inside the kernel, in order of what they know, and tunable."""

from typing import Any

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.play import Turn, measuring, metered, play
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.fleet import TUNABLE, rule_of
from edgegen.algorithms.rules.fleet_families import RESIDENCIES, ROUTERS, STEPS, Families, Prices
from edgegen.algorithms.rules.fleet_kernel import play_rule
from edgegen.algorithms.rules.fleet_policy import FleetRule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet import physics
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.world import FleetWorld


def policy_of(name: str, scenario: FleetScenario) -> Policy:
    """A rule by name, or of a family by its router, steps and residency, with none of its constants at zero."""
    if " " not in name:
        return make_policy(name, scenario)
    router, steps, residency = name.split()
    constants = {
        "load_weight": 1.5,
        "load_crowding": 0.2,
        "weight_power": 0.7,
        "noise": 0.1,
        "load_price": 0.3,
        "idle_s": 0.5,
        "spill_s": 2.0,
        "ladder_slope": 0.1,
    }
    family = Families.model_validate({"router": router, "steps": steps, "residency": residency, **constants})
    return TUNABLE["fleet-rule"].make(scenario, family, 0)


PAIRS = [  # every router, steps and residency at least once
    *("home", "affinity", "earliest", "price-greedy"),
    *("least-work deadline lru", "affinity own-ladder lfu", "completion fleet-ladder popular"),
    *("priced-load weight-ladder spread", "power-of-two full proactive", "capacity-weighted deadline proactive"),
    "price-greedy weight-ladder proactive",
    "informed-greedy",
]


def test_pairs_name_every_router_steps_and_residency() -> None:
    named = {word for pair in PAIRS for word in pair.split()}
    assert named >= {*ROUTERS, *STEPS, *RESIDENCIES}


HAPPENING = {
    "loading": {
        "places": {"low": 1, "high": 3},
        "noise": {"low": 0.5, "high": 2},
        "host_memory_gb": [5] * 8,
        "host_s": 1,
    },
    "outages": {"factor": 0, "mean_up_s": 8, "mean_down_s": 4, "keeps_models": False},
}
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(PAIRS, ("fleet-8:mixed", {"frames": 3, "frame_s": 10})),
    "price-greedy weight-ladder proactive, failing": ("fleet-8:mixed", {"frames": 3, "frame_s": 10, **HAPPENING}),
    "price-greedy, of the trace": ("fleet-gentd:load110", {"frames": 5}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_kernel_plays_as_the_world_does_bit_for_bit(name: str) -> None:
    scenario = load_scenario(*WORLDS[name])
    name = name.partition(",")[0]
    policy = policy_of(name, scenario)
    assert isinstance(policy, FleetRule)
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
    pairs: Any = zip(books, world.books, strict=True)
    for mine, theirs in pairs:
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
        for prices in (Prices(ladder_from_s=0.0, ladder_slope=0.2), Prices(ladder_slope=0.0))
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


def test_true_backlogs_pay_where_reports_are_old() -> None:
    scenario = load_scenario("fleet-8:scarce", {"report_s": 10})
    worth = {}
    for name in ("price-greedy", "informed-greedy"):
        requests, _, results = play_rule(scenario, rule_of(name, scenario), 1, range(16))
        worth[name] = results[..., physics.UTILITY].sum() / requests.number.sum()
    assert worth["informed-greedy"] > worth["price-greedy"] + 0.05


def test_fleet_rule_with_the_constants_of_price_greedy_is_price_greedy() -> None:
    scenario = load_scenario("fleet-8:burst", {"frames": 2})
    for prices in (Prices(), Prices(noise=0.05, weight_power=0.5, load_weight=2.0)):
        one, other = (
            play_rule(scenario, rule_of(name, scenario, constants), 1, range(2))[2]
            for name, constants in (("price-greedy", prices), ("fleet-rule", Families(**prices.model_dump())))
        )
        assert np.array_equal(one, other)
