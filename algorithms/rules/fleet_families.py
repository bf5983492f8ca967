# SPDX-License-Identifier: Apache-2.0
"""Families of rules of the fleet, with their constants: who routes × which steps × what is kept."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgegen.algorithms.core.tunable import Constants, choice, constant
from edgegen.algorithms.rules import fleet_constants as kernel
from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.envs.fleet.scenario import FleetScenario

Router = Literal[
    "least-work", "affinity", "completion", "priced-load", "power-of-two", "capacity-weighted", "price-greedy"
]
Steps = Literal["full", "deadline", "own-ladder", "fleet-ladder", "weight-ladder"]
Residency = Literal["lru", "lfu", "popular", "spread", "proactive"]

_COMPLETION: dict[str, float] = {"load_crowding": 0.0, "spill_s": 0.0}
ROUTERS: dict[Router, tuple[int, dict[str, float]]] = {
    "least-work": (kernel.COMPLETION, {**_COMPLETION, "load_weight": 0.0, "service_weight": 0.0}),
    "affinity": (kernel.COMPLETION, {"load_crowding": 0.0, "load_weight": 0.0}),
    "completion": (kernel.COMPLETION, _COMPLETION),
    "priced-load": (kernel.COMPLETION, {"spill_s": 0.0}),
    "power-of-two": (kernel.OF_TWO, _COMPLETION),
    "capacity-weighted": (kernel.WEIGHTED, {}),
    "price-greedy": (kernel.PRICED, {}),
}
"""Routers by name: what the kernel calls them, and constants that make them what they are."""
STEPS: dict[Steps, tuple[int, dict[str, float]]] = {
    "full": (kernel.ALL, {}),
    "deadline": (kernel.IN_TIME, {}),
    "own-ladder": (kernel.LADDER, {"own_share": 1.0, "weight_power": 0.0}),
    "fleet-ladder": (kernel.LADDER, {"own_share": 0.0, "weight_power": 0.0}),
    "weight-ladder": (kernel.LADDER, {}),
}
"""Steps likewise."""
RESIDENCIES: dict[Residency, tuple[int, dict[str, float]]] = {
    "lru": (kernel.LRU, {}),
    "lfu": (kernel.LFU, {"idle_s": np.inf}),
    "popular": (kernel.POPULAR, {"idle_s": np.inf}),
    "spread": (kernel.SPREAD, {"load_price": 0.0, "idle_s": np.inf}),
    "proactive": (kernel.SPREAD, {}),
}
"""Residencies likewise."""


_TIMES = ("spill_s", "cloud_s", "late_s", "margin_s", "ladder_from_s", "idle_s")
_PER_TIME = ("load_crowding", "work_price", "haste", "ladder_slope", "load_price")


def priced(rule: Rule, scenario: FleetScenario) -> Rule:
    """Return a rule with the costs of a scenario, and with constants in its unit of time."""
    refuse = np.inf if scenario.refuse_price is None else scenario.refuse_price
    return _in_units(rule, scenario.unit_s)._replace(
        late_penalty=scenario.late_penalty, delay_price=scenario.delay_price, refuse_price=float(refuse)
    )


def _in_units(rule: Rule, unit_s: float) -> Rule:
    """A rule whose constants count in this time instead of seconds, s."""
    own = rule._asdict()
    changed = {name: own[name] * unit_s for name in _TIMES} | {name: own[name] / unit_s for name in _PER_TIME}
    changed["crowding_price"] = rule.crowding_price / unit_s**2
    if rule.weight_power > 0.0:  # the gain that it is relative to is that of a second
        changed["ladder_slope"] /= unit_s**rule.weight_power
    if rule.router != kernel.PRICED:  # scores are times there
        changed["noise"] = rule.noise * unit_s
    return rule._replace(**changed)


class Prices(Constants):
    """Constants of ``price-greedy``.

    A request goes where its worth is highest, less (work_price + crowding_price·mean backlog)·(load_weight·load +
    service)·√speed and ``haste`` times its delay; sites are taken to be ``margin_s`` later than reported. It gets the
    steps that its deadline allows, at most 1 − ladder_slope·(b − ladder_from_s) of them with b = own_share·backlog +
    (1 − own_share)·mean backlog. That slope is of a request that gains a utility of 0.5 in a second of the site; for
    others it is multiplied by (0.5/gain)^weight_power. ``keeping`` is the bonus of a resident model. ``noise`` times a
    Gumbel number, another one for each request and site, keeps sites that saw the same old report from all choosing the
    same one. Where refusing has a price, requests are refused that would cost more.

    The defaults were searched in nine shipped worlds at once, on training episodes; see docs/simulator.md.
    """

    load_weight: float = constant(0.9, 0.0, 4.0)
    work_price: float = constant(0.02, 0.0, 0.3)
    crowding_price: float = constant(0.08, 0.0, 0.3)
    haste: float = constant(0.06, 0.0, 0.2)
    margin_s: float = constant(0.9, 0.0, 3.0)
    ladder_slope: float = constant(0.12, 0.0, 0.4)
    ladder_from_s: float = constant(5.5, 0.0, 12.0)
    own_share: float = constant(0.7, 0.0, 1.0)
    weight_power: float = constant(1.5, 0.0, 3.0)
    keeping: float = constant(1.8, 0.0, 3.0)
    noise: float = constant(0.04, 0.0, 0.3)

    def rule(self, scenario: FleetScenario) -> Rule:
        """Return the rule as the kernel takes it."""
        return priced(Rule(kernel.PRICED, kernel.LADDER, kernel.SPREAD, 0.0, 0.0, **self.model_dump()), scenario)


class Informed(Prices):
    """Constants of ``informed-greedy``: those of ``price-greedy`` where every home sees the true backlogs."""

    margin_s: float = constant(0.0, 0.0, 3.0)
    noise: float = constant(0.0, 0.0, 0.3)

    def rule(self, scenario: FleetScenario) -> Rule:
        """Return the rule as the kernel takes it."""
        return super().rule(scenario)._replace(informed=True)


class Families(Prices):
    """Constants of ``fleet-rule``: which family, and all constants of all families; each uses its own ones alone.

    Attributes:
        router: ``least-work``: shortest backlog and way. ``affinity``: the same, ``spill_s`` away from the model.
            ``completion``: a weighed time of completion. ``priced-load``: with a load that counts more while sites are
            busy. ``power-of-two``: by completion among two sites that are drawn by speed, rather with the model.
            ``capacity-weighted``: drawn so. ``price-greedy``: see :class:`Prices`.
        steps: ``full``; ``deadline``: what it allows; ``own-ladder``, ``fleet-ladder``: fewer with the site's or the
            mean backlog; ``weight-ladder``: with both, and by what a request gains.
        residency: ``lru``; ``lfu``: by what a site's own users ask for; ``popular``: by what all do; ``spread``: that,
            spread over the sites; ``proactive``: the same, but only idle sites bring in what they have not.
    """

    router: Router = choice("price-greedy", Router)
    steps: Steps = choice("weight-ladder", Steps)
    residency: Residency = choice("spread", Residency)
    load_crowding: float = constant(0.0, 0.0, 1.0)
    service_weight: float = constant(1.0, 0.0, 2.0)
    spill_s: float = constant(3.0, 0.0, 20.0)
    cloud_s: float = constant(5.0, 0.0, 30.0)
    late_s: float = constant(10.0, 0.0, 30.0)
    affinity: float = constant(3.0, 0.0, 8.0)
    load_price: float = constant(0.0, 0.0, 1.0)
    idle_s: float = constant(10.0, 0.0, 30.0)

    def rule(self, scenario: FleetScenario) -> Rule:
        """Return the rule as the kernel takes it."""
        constants = self.model_dump(exclude={"router", "steps", "residency"})
        router, steps, residency = ROUTERS[self.router], STEPS[self.steps], RESIDENCIES[self.residency]
        for _, pinned in (router, steps, residency):
            constants |= pinned
        return priced(Rule(router[0], steps[0], residency[0], 0.0, 0.0, **constants), scenario)

    @classmethod
    def starts(cls) -> tuple[Families, ...]:
        """The defaults, then two families of each router."""
        pairs: tuple[tuple[Steps, Residency], ...] = (("weight-ladder", "spread"), ("deadline", "proactive"))
        return (cls(), *(cls(router=router, steps=s, residency=r) for router in ROUTERS for s, r in pairs))
