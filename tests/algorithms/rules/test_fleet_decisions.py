# SPDX-License-Identifier: Apache-2.0
"""Decisions of the fleet's rules by hand: routers, steps and residency, one at a time."""

from typing import Any

import numpy as np
import pytest

from edgegen.algorithms.rules import fleet_constants as kernel
from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.algorithms.rules.fleet_residency import residents
from edgegen.algorithms.rules.fleet_routers import UNIT_S, best_site, gumbel, score_of
from edgegen.algorithms.rules.fleet_steps import steps_share, value_of
from edgegen.envs.fleet import physics


def rule(router: int = kernel.HOME, steps: int = kernel.ALL, residency: int = kernel.LRU, **constants: Any) -> Rule:
    return Rule(router, steps, residency, 0.2, 0.0, **constants)


def candidates(**columns: list[float]) -> np.ndarray:
    """Two sites and a cloud 4 s away; the fewest steps take 1 s, all take 3 s, and nobody has anything to do."""
    given: dict[str, list[float]] = {
        "backlog": [0, 0, 0],
        "load": [0, 0, 0],
        "full": [3, 3, 3],
        "least": [1, 1, 1],
        "network": [0, 0, 4],
        "slack": [9, 9, 5],
        "price": [0, 0, 0.3],
        "speed": [1, 1, 1],
        "resident": [1, 1, 1],
        **columns,
    }
    seen = np.zeros((3, physics.CANDIDATE))
    for name, values in given.items():
        seen[:, getattr(physics, name.upper())] = values
    return seen


def routed(of: Rule, home: int = 0, age_s: float = 0.0, **columns: Any) -> int:
    return int(best_site(of, candidates(**columns), home, 1.0, 0.4, 1.0, age_s))


def test_a_weighed_time_of_completion() -> None:
    away: dict[str, Any] = {"backlog": [2.0, 0.0, 0.0], "load": [0.0, 1.5, 0.0], "resident": [1.0, 0.0, 1.0]}
    least_work = rule(kernel.COMPLETION, load_weight=0.0, service_weight=0.0)
    assert routed(least_work, **away) == 1  # 2 s against none
    assert routed(rule(kernel.COMPLETION, load_weight=1.0), **away) == 1  # 2 s against 1.5 s
    assert routed(rule(kernel.COMPLETION, load_weight=2.0), **away) == 0  # 2 s against 3 s
    # The mean backlog is 1 s: a load of 1.5 s counts for 1.5 (1 + 0.5).
    assert routed(rule(kernel.COMPLETION, load_crowding=0.5), **away) == 0
    assert routed(rule(kernel.COMPLETION, load_crowding=0.3), **away) == 1
    affinity = rule(kernel.COMPLETION, load_weight=0.0, spill_s=1.9)
    assert routed(affinity, **away) == 1  # 2 s is longer than it would wait for the model
    assert routed(affinity._replace(spill_s=2.1), **away) == 0


def test_slow_sites_and_the_cloud_count_by_completion() -> None:
    slow: dict[str, Any] = {"full": [6.0, 3.0, 3.0], "backlog": [0.0, 2.0, 0.0]}
    assert routed(rule(kernel.COMPLETION, cloud_s=9.0), **slow) == 1  # 6 s, 5 s, 16 s
    assert routed(rule(kernel.COMPLETION, cloud_s=9.0, service_weight=0.5), **slow) == 0  # 3 s, 3.5 s
    late: dict[str, Any] = {"backlog": [5.0, 5.0, 0.0], "slack": [-1.0, -1.0, 1.0]}
    assert routed(rule(kernel.COMPLETION, cloud_s=9.0), **late) == 0  # 8 s, 8 s, 16 s
    assert routed(rule(kernel.COMPLETION, cloud_s=9.0, late_s=9.0), **late) == 2  # 17 s, 17 s, 16 s


def test_prices_choose_by_worth() -> None:
    # Site 0 has work for 2 s, so the mean is 1 s: with a price of .1 + .2·1 a second 3 s cost .9, and a load of 2 s .6.
    priced = rule(kernel.PRICED, kernel.IN_TIME, work_price=0.1, crowding_price=0.2)
    sites: dict[str, Any] = {"backlog": [2.0, 0.0, 0.0], "load": [0.0, 2.0, 0.0]}
    assert routed(priced, **sites, price=[0, 0, 0.95]) == 0  # .1, −.5, .05
    assert routed(priced, **sites, price=[0, 0, 0.85]) == 2  # .15
    late: dict[str, Any] = {**sites, "slack": [-1, 9, 5], "price": [0, 0, 2.0]}
    assert routed(priced._replace(load_weight=1.1), **late) == 0  # −.2 − .3 against 1 − .9 − .66
    assert routed(priced._replace(load_weight=0.9), **late) == 1  # 1 − .9 − .54
    fast: dict[str, Any] = {
        "speed": [4.0, 1.0, 1.0],
        "price": [0, 0, 2.0],
    }  # a second of a fast site is dearer, by √speed
    assert routed(priced, **fast) == 1


def test_draws_are_by_speed_and_rather_with_the_model() -> None:
    ages = np.random.default_rng(2).random(3000)

    def share_of_first(of: Rule, **columns: Any) -> float:
        return float(np.mean([routed(of, age_s=age, **columns) == 0 for age in ages]))

    weighted = rule(kernel.WEIGHTED)
    assert share_of_first(weighted, speed=[3, 1, 1]) == pytest.approx(0.75, abs=0.03)
    near = weighted._replace(affinity=np.log(9))
    assert share_of_first(near, resident=[1, 0, 1]) == pytest.approx(0.9, abs=0.03)
    assert share_of_first(weighted, slack=[9, -1, 5]) == 1
    assert routed(weighted, slack=[-1, -1, 5]) == 2  # only the cloud is in time
    assert routed(weighted, slack=[-1, -1, -1]) < 2
    two = rule(kernel.OF_TWO, cloud_s=9.0)
    assert share_of_first(two, backlog=[1, 2, 0]) == 1  # of two sites the shorter queue, whatever is drawn
    assert routed(two._replace(cloud_s=0.0), backlog=[5, 6, 0]) == 2


def test_two_of_three_sites_are_drawn() -> None:
    """The worst of three sites is never the better of two; the second is if the first is not drawn."""
    three = np.vstack([candidates(backlog=[1, 2, 0])[:2], candidates(backlog=[3, 0, 0])[[0, 2]]])
    two = rule(kernel.OF_TWO, cloud_s=20.0)
    ages = np.random.default_rng(3).random(3000)
    found = np.bincount([best_site(two, three, 0, 1.0, 0.4, 1.0, age) for age in ages], minlength=4) / 3000
    assert found == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.03)


def test_noise_parts_sites_that_see_the_same() -> None:
    for router in (kernel.PRICED, kernel.COMPLETION):
        quiet, noisy = rule(router), rule(router, noise=0.05)
        ages = np.random.default_rng(4).random(200)
        assert {routed(quiet, age_s=age) for age in ages} == {0}
        assert {routed(noisy, age_s=age) for age in ages} >= {0, 1}
        assert {routed(noisy, home=home, age_s=0.5) for home in range(20)} >= {0, 1}


def test_haste_and_margin() -> None:
    priced = rule(kernel.PRICED, kernel.IN_TIME, work_price=0.1, crowding_price=0.0)
    slow: dict[str, Any] = {"full": [3.0, 2.0, 9.0], "backlog": [0.0, 2.0, 0.0]}
    assert routed(priced, **slow) == 1  # 1 − .3 against 1 − .2
    assert routed(priced._replace(haste=0.2), **slow) == 0  # and 3 s against 4 s
    tight: dict[str, Any] = {"slack": [2.0, 9.0, 5.0], "backlog": [0.0, 9.0, 0.0], "price": [0.0, 0.3, 2.0]}
    assert routed(priced, **tight) == 0  # 1 − .3 against 1 − .3 − .3
    assert routed(priced._replace(margin_s=1.0), **tight) == 0  # half of the steps: .7 − .2
    assert routed(priced._replace(margin_s=2.1), **tight) == 1  # taken to be late: −.2 − .1


@pytest.mark.parametrize("router", [kernel.PRICED, kernel.COMPLETION])
def test_the_highest_score_with_its_noise_wins(router: int) -> None:
    rng, of = np.random.default_rng(5), rule(router, kernel.IN_TIME, noise=0.1)
    for _ in range(300):
        seen = candidates(backlog=[*rng.random(2) * 4, 0.0], full=list(1 + rng.random(3) * 4))
        mean_s, home, age_s = seen[:2, physics.BACKLOG].mean(), int(rng.integers(5)), float(rng.random())
        unit = 0.1 * (1.0 if router == kernel.PRICED else UNIT_S)
        scores = [
            score_of(of, seen, site, mean_s, 1.0, 0.4, 1.0) + unit * gumbel(age_s, home, site) for site in range(3)
        ]
        assert best_site(of, seen, home, 1.0, 0.4, 1.0, age_s) == np.argmax(scores)


def test_noise_is_gumbel_and_belongs_to_a_request_and_a_site() -> None:
    ages = np.random.default_rng(1).random(4000)
    drawn = np.array([[gumbel(age, home, site) for home in range(2) for site in range(2)] for age in ages])
    assert drawn.mean(0) == pytest.approx(np.full(4, 0.5772), abs=0.08)
    assert drawn.var(0) == pytest.approx(np.full(4, np.pi**2 / 6), rel=0.12)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06
    assert gumbel(0.25, 1, 2) == gumbel(0.25, 1, 2) != gumbel(0.25 + 2e-9, 1, 2)


def test_steps() -> None:
    assert steps_share(rule(), -1.0, 2.0, 9.0, 9.0, False) == 1.0
    timely = rule(steps=kernel.IN_TIME)
    assert [steps_share(timely, slack, 2.0, 9.0, 9.0, False) for slack in (-1.0, 0.5, 3.0)] == [0.0, 0.25, 1.0]
    ladder = rule(steps=kernel.LADDER, ladder_slope=0.1, ladder_from_s=1.0, own_share=0.25)
    assert steps_share(ladder, 9.0, 2.0, 8.0, 4.0, False) == pytest.approx(1 - 0.1 * (0.25 * 8 + 0.75 * 4 - 1))
    assert steps_share(ladder, 0.2, 2.0, 8.0, 4.0, False) == pytest.approx(0.1)
    assert steps_share(ladder, 9.0, 2.0, 8.0, 4.0, True) == 1.0
    by_gain = ladder._replace(weight_power=0.5)
    gain = value_of(4.0, 0.4, 1.4, 2.0)  # 2 a second, four times the usual .5: half the slope
    assert gain == pytest.approx(2.0)
    assert steps_share(by_gain, 9.0, 2.0, 8.0, 4.0, False, gain) == pytest.approx(1 - 0.05 * 4)


@pytest.mark.parametrize("steps", [kernel.IN_TIME, kernel.LADDER])
def test_a_model_with_one_number_of_steps(steps: int) -> None:
    of = rule(steps=steps, weight_power=1.0)
    assert 0.0 <= steps_share(of, -1.0, 0.0, 5.0, 5.0, False, value_of(1.0, 0.9, 0.9, 0.0)) <= 1.0
    assert 0.0 <= steps_share(of, 1.0, 0.0, 5.0, 5.0, False, value_of(1.0, 0.9, 0.9, 0.0)) <= 1.0


def kept(of: Rule, demand: list[list[float]], **changes: Any) -> list[list[int]]:
    """What two sites of speeds 2 and 1 with room for two keep of three models that take 1 GB and 1 s of work each."""
    at = {"resident": [[0, 0, 0], [0, 0, 0]], "backlog_s": [0.0, 0.0], "load_s": [1.0, 1.0, 1.0], **changes}
    wanted = np.ones((2, 3), dtype=np.uint8)
    ones = np.ones(3)
    sites = (np.array([2.0, 2.0]), np.array([2.0, 1.0]), np.array(at["backlog_s"]))
    models = (ones, np.tile(at["load_s"], (2, 1)), np.array(at.get("work_s", ones)))
    residents(of, np.array(demand, dtype=float), np.array(at["resident"], dtype=np.uint8), *models, *sites, wanted)
    found: list[list[int]] = wanted.tolist()
    return found


def test_residency() -> None:
    demand = [[6.0, 0.0, 1.0], [1.0, 4.0, 9.0]]
    assert kept(rule(residency=kernel.LRU), demand) == [[0, 0, 0], [0, 0, 0]]
    assert kept(rule(residency=kernel.LFU), demand) == [[1, 0, 1], [0, 1, 1]]
    assert kept(rule(residency=kernel.POPULAR), demand) == [[1, 0, 1], [1, 0, 1]]
    # Spread: a fast site has models 0 and 2 already, so model 1 comes first at the slow one.
    spread = rule(residency=kernel.SPREAD)
    assert kept(spread, demand) == [[1, 0, 1], [0, 1, 1]]
    assert kept(rule(residency=kernel.POPULAR), demand, work_s=[0.1, 1.0, 1.0]) == [[0, 1, 1], [0, 1, 1]]


def test_what_is_there_stays_for_its_bonus_and_where_sites_are_busy() -> None:
    demand = [[4.0, 3.0, 2.0], [4.0, 3.0, 2.0]]
    there = [[0, 1, 1], [0, 1, 1]]
    popular = rule(residency=kernel.POPULAR, keeping=0.0)
    assert kept(popular, demand, resident=there) == [[1, 1, 0], [1, 1, 0]]
    assert kept(popular._replace(keeping=1.0), demand, resident=there) == there
    dear = popular._replace(load_price=0.5)
    assert kept(dear, demand, resident=there, load_s=[1.0, 1.0, 4.0]) == there
    proactive = popular._replace(idle_s=2.0)
    assert kept(proactive, demand, resident=there, backlog_s=[3.0, 1.0]) == [[0, 1, 1], [1, 1, 0]]
