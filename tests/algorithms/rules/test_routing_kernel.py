# SPDX-License-Identifier: Apache-2.0
"""Compiled rules against the torch code that they stand for."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from edgegen.algorithms.rules import routing
from edgegen.algorithms.rules.priced_greedy import PricedGreedy, Prices
from edgegen.algorithms.rules.routing import LeastDelay, OptTS
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER
from edgegen.envs.offloading.world import OffloadingWorld


def dear() -> PricedGreedy:
    return PricedGreedy(
        Prices(patience=0.3, crowding=0.5, work_price=2.0, push_price=5.0, push_power=1.3, push_decay_s=2)
    )


@pytest.mark.parametrize("rule", [LeastDelay, OptTS, PricedGreedy, dear])
@pytest.mark.parametrize("scenario", ["ladts-paper", "links", "failing", "stale"])
def test_compiled_decisions_are_those_of_torch(rule: Any, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = OffloadingWorld(load_scenario(scenario), 3)
    world.reset(1)
    policy = rule()
    memory = policy.begin(ROUTER, world.observe())
    for slot in range(3):
        view = world.observe()
        if slot == 2:
            view = replace(view, by_server=not view.by_server)
        decided = {}
        for name, least in (("torch", 10**9), ("compiled", 0)):
            monkeypatch.setattr(routing, "COMPILED", least)
            decided[name] = policy.act(ROUTER, view, memory)[0]
        present = view.tasks.present
        assert present.any()
        assert torch.equal(decided["torch"][present], decided["compiled"][present])
        world.decide(decided["compiled"])


def test_other_objectives_and_small_slots_stay_in_torch() -> None:
    small = OffloadingWorld(load_scenario("demo"), 1).reset(0)
    view = OffloadingWorld(load_scenario("ladts-paper"), 16).reset(0)
    objective: Any = object()
    assert [routing.worth_compiling(v) for v in (small, view, replace(view, objective=objective))] == [
        False,
        True,
        False,
    ]


def test_double_precision_is_placed_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = OffloadingWorld(load_scenario("ladts-paper"), 2)
    view = world.reset(0)
    tasks = type(view.tasks)(view.tasks.present, *(value.double() for value in (
        view.tasks.size_mbit, view.tasks.workload_gcycles, view.tasks.result_mbit)))  # fmt: skip
    view = replace(
        view, tasks=tasks, backlog_gcycles=torch.rand_like(view.backlog_gcycles, dtype=torch.float64) * 50,
        capacity_gcycles_s=view.capacity_gcycles_s.double(), rate_mbit_s=view.rate_mbit_s.double(),
    )  # fmt: skip
    for policy in (LeastDelay(), OptTS(), dear()):
        memory = policy.begin(ROUTER, view)
        monkeypatch.setattr(routing, "COMPILED", 0)
        compiled = policy.act(ROUTER, view, memory)[0]
        monkeypatch.setattr(routing, "COMPILED", 10**9)
        assert torch.equal(compiled[tasks.present], policy.act(ROUTER, view, memory)[0][tasks.present])
