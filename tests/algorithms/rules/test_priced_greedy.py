# SPDX-License-Identifier: Apache-2.0
"""Greedy placement with prices: by hand, and what it is without any."""

import pytest
import torch

from edgegen.algorithms.core.play import play
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.algorithms.rules.priced_greedy import PricedGreedy, Prices
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER, RouterView, Tasks
from edgegen.envs.offloading.world import OffloadingWorld


def view(works: list[float], backlog: tuple[float, float] = (2.0, 0.0)) -> RouterView:
    """Two servers of 4 and 1 Gcycle/s; server 0 has tasks of some work, server 1 none; sending costs nothing."""
    width = len(works)
    present = torch.tensor([[[True] * width, [False] * width]])
    work = torch.tensor([[works, [0.0] * width]])
    zeros = torch.zeros_like(work)
    return RouterView(
        0,
        torch.tensor([backlog]),
        torch.tensor([[4.0, 1.0]]),
        torch.tensor([[1.0, 1.0]]),
        Tasks(present, zeros, work, zeros),
    )


def placed(prices: Prices, seen: RouterView) -> list[int]:
    rule = PricedGreedy(prices)
    chosen, _ = rule.act(ROUTER, seen, rule.begin(ROUTER, seen))
    return chosen[0, 0].tolist()


def test_without_prices_it_is_least_delay() -> None:
    world = OffloadingWorld(load_scenario("bursty", {"slots": 15}), copies=3)
    actions: list[list[torch.Tensor]] = []
    for rule in (make_rule("least-delay"), make_rule("priced-greedy")):
        world.reset(seed=4)
        actions.append([])
        play(world, rule, watch=lambda turn: actions[-1].append(turn.action))
    assert all(torch.equal(one, two) for one, two in zip(*actions, strict=True))


def test_the_price_of_work_by_hand() -> None:
    # A task of 1: at server 0 it waits 2/4 and takes 1/4, at server 1 it takes 1. Delays 0.75 and 1.
    assert placed(Prices(), view([1.0])) == [0]
    # With 4.0 of backlog 1.25 and 1: server 1, unless time on the server costs more than 0.25/0.75 = 1/3 more.
    assert placed(Prices(), view([1.0], (4.0, 0.0))) == [1]
    assert placed(Prices(work_price=0.3), view([1.0], (4.0, 0.0))) == [1]
    assert placed(Prices(work_price=0.4), view([1.0], (4.0, 0.0))) == [0]


def test_the_price_of_pushing_others_by_hand() -> None:
    # Waits 1 and 0. Pushing costs 1/4·k·exp(−1/τ) at server 0, 1/1·k at server 1: with τ = 1 and delays 1.25 and 1
    # server 0 is cheaper from k = 0.25 / (1 − 0.25·e⁻¹) = 0.2753 on.
    seen = view([1.0], (4.0, 0.0))
    assert placed(Prices(push_price=0.27), seen) == [1]
    assert placed(Prices(push_price=0.28), seen) == [0]


def test_patience_by_hand() -> None:
    # Mean work 1.5. Server 0, backlog 6: the task of 2 costs 1.5·(2/1.5)^−κ + 0.5 there and 2 at server 1 (both first).
    small_first = view([2.0, 1.0], (6.1, 0.0))
    assert placed(Prices(crowding=0.0), small_first)[0] == 1  # 1.525 + 0.5 > 2
    assert placed(Prices(crowding=0.0, patience=1.0), small_first)[0] == 0  # 1.144 + 0.5 < 2


def test_crowding_counts_own_placements_for_all() -> None:
    # After a first task of 1 at server 0 the second sees 1·(1 + a) more there: waits 1/4 or 2/4; delays 0.5 or 0.75, 1.
    seen = view([1.0, 1.0, 1.0, 1.0], (0.0, 0.0))
    assert placed(Prices(crowding=0.0), seen) == [0, 0, 0, 0]  # 0.25, 0.5, 0.75, then 1.0 against 1: the first of both
    # Two at server 0 count as four: 4/4 + 1/4 > 1. One at server 1 counts as two: 2 + 1 > 1.25.
    assert placed(Prices(crowding=1.0), seen) == [0, 0, 1, 0]
    with pytest.raises(ValueError, match="crowding"):
        Prices(crowding=5.0)


def test_the_mean_work_is_of_all_own_tasks_so_far() -> None:
    rule = PricedGreedy()
    first, second = view([1.0, 3.0]), view([5.0])
    _, memory = rule.act(ROUTER, first, rule.begin(ROUTER, first))
    _, memory = rule.act(ROUTER, second, memory)
    assert memory["work_gcycles"].tolist() == [[9.0, 0.0]]
    assert memory["tasks"].tolist() == [[3.0, 0.0]]
