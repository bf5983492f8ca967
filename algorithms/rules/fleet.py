"""All rules of the fleet; each decides for all three roles, and may be asked for one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.core.rulebook import Maker, RuleBook
from edgegen.algorithms.core.tunable import Constants, Tunable, constant
from edgegen.algorithms.rules import fleet_kernel as kernel
from edgegen.algorithms.rules.fleet_kernel import Rule
from edgegen.envs.core.world import World
from edgegen.envs.fleet.physics import CANDIDATE
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER, AllocatorView, CacherView, RouterView


class Prices(Constants):
    """Constants of ``price-greedy``.

    A request goes where its worth is highest, less (work_price + crowding_price·mean backlog)·(load_weight·load +
    service)·√speed. It gets the steps that its deadline allows, at most 1 − ladder_slope·(b − ladder_from_s) of them
    with b = own_share·backlog + (1 − own_share)·mean backlog. ``keeping`` is the bonus of a resident model.
    ``noise`` times a Gumbel number, another one for each request and site, keeps sites that saw the same old report
    from all choosing the same one. Where refusing has a price, requests are refused that would cost more.
    """

    load_weight: float = constant(1.0, 0.0, 4.0)
    work_price: float = constant(0.03, 0.0, 0.3)
    crowding_price: float = constant(0.02, 0.0, 0.12)
    ladder_slope: float = constant(0.06, 0.0, 0.4)
    ladder_from_s: float = constant(1.0, 0.0, 6.0)
    own_share: float = constant(0.5, 0.0, 1.0)
    keeping: float = constant(1.0, 0.0, 3.0)
    noise: float = constant(0.0, 0.0, 0.3)


RULES: dict[str, tuple[int, int, int, str]] = {
    "home": (kernel.HOME, kernel.ALL, kernel.AS_IS, "nothing; loads what is asked for"),
    "affinity": (kernel.AFFINITY, kernel.IN_TIME, kernel.AS_IS, "what is resident, reported backlogs"),
    "earliest": (kernel.EARLIEST, kernel.IN_TIME, kernel.PLAN, "what is resident, reported backlogs, recent demand"),
}
"""Routers, steps and residencies of the rules without constants, and what they know."""


class FleetRule(Policy):
    """A rule for all three roles, by the compiled functions that also play whole episodes.

    Args:
        name: Its name.
        rule: The rule.
        information: What it knows.
        seed: Not used: rules are deterministic.
    """

    roles = frozenset({CACHER, ROUTER, ALLOCATOR})

    def __init__(self, name: str, rule: Rule, information: str, seed: int = 0) -> None:
        super().__init__(seed)
        self.name, self.rule, self.information = name, rule, information

    def play_through(self, world: World, meter: Any) -> bool:
        """See :meth:`Policy.play_through`."""
        requests, books, results = kernel.play_drawn(world.scenario, self.rule, world.future)
        meter.take(requests, results, books.loads)
        return True

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        if role == CACHER:
            return self._keep(view), memory
        return (self._route(view) if role == ROUTER else self._steps(view)), memory

    def _keep(self, view: CacherView) -> Tensor:
        demand, resident = _array(view.demand), _array(view.resident).astype(np.uint8)
        wanted = np.zeros_like(resident)
        columns = [_array(values) for values in (view.size_gb, view.work_s, view.memory_gb, view.speed)]
        size_gb, work_s, memory_gb, speed = columns
        for e in range(len(demand)):
            own = (size_gb[e, 0], work_s[e, 0], memory_gb[e], speed[e])
            kernel.residents(self.rule, demand[e], resident[e], *own, wanted[e])
        return torch.from_numpy(wanted.astype(np.bool_)).to(view.demand.device)

    def _route(self, view: RouterView) -> Tensor:
        seen = np.empty((*view.backlog_s.shape, CANDIDATE))
        names = ("backlog_s", "load_s", "full_s", "least_s", "network_s", "slack_s", "price", "speed", "resident")
        for column, name in enumerate(names):  # in the order of the physics' columns
            seen[..., column] = _array(getattr(view, name))
        columns = (view.home, view.weight, view.least_quality, view.full_quality, view.age_s, view.due)
        home, weight, least, full, age_s, due = (_array(values) for values in columns)
        site = np.zeros(len(seen), dtype=np.int64)
        kernel.route_all(self.rule, seen, home, weight, least, full, age_s, due, site)
        return torch.from_numpy(site[:, None]).to(view.due.device)

    def _steps(self, view: AllocatorView) -> Tensor:
        slack_s, room_s, backlog_s, mean_s = (
            _array(values) for values in (view.slack_s, view.full_s - view.least_s, view.backlog_s, view.mean_backlog_s)
        )
        share, cloud = np.zeros(len(slack_s)), _array(view.in_cloud)
        kernel.share_all(self.rule, slack_s, room_s, backlog_s, mean_s, cloud, share)
        return torch.from_numpy(share.reshape(-1, 1, 1, 1)).to(view.due.device)


def rule_of(name: str, scenario: FleetScenario, prices: Prices | None = None) -> Rule:
    """Return a rule as the kernel takes it."""
    costs = (scenario.late_penalty, scenario.delay_price)
    if name == "price-greedy":
        refuse = np.inf if scenario.refuse_price is None else scenario.refuse_price
        constants = (prices or Prices()).model_dump()
        return Rule(kernel.PRICED, kernel.LADDER, kernel.PLAN, *costs, **constants, refuse_price=refuse)
    return Rule(*RULES[name][:3], *costs)


def _maker(name: str) -> Maker:
    return lambda scenario, seed: FleetRule(name, rule_of(name, scenario), RULES[name][3], seed)


def _priced(scenario: FleetScenario, prices: Prices, seed: int) -> Policy:
    known = "what is resident, reported backlogs, recent demand, prices"
    return FleetRule("price-greedy", rule_of("price-greedy", scenario, prices), known, seed)


def _array(values: Tensor) -> Any:
    return values.detach().cpu().numpy()


TUNABLE = {"price-greedy": Tunable(Prices, _priced)}
"""Rules with constants to tune."""

RULE_BOOK = RuleBook(
    {**{name: _maker(name) for name in RULES}, **{name: tunable.maker for name, tunable in TUNABLE.items()}},
    tunable=TUNABLE,
)
"""The entry for :mod:`edgegen.algorithms.core.rulebook`."""
