# SPDX-License-Identifier: Apache-2.0
"""Terms of the provisioning world's objective: what requests cost, and what is charged for caching.

Terms of requests measure :class:`Facts`, per user ``[..., C, N]``; rules that search allocations meet the same facts.
What is charged per frame, and for late requests, is measured where it arises; the meter sums it up. Less is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgegen.envs.core.objectives import Objective, Term, register

if TYPE_CHECKING:
    from edgegen.envs.provisioning.physics import DelayParts
    from edgegen.envs.provisioning.scenario import ProvisioningScenario

KIND = "provisioning"


@dataclass(frozen=True)
class Facts:
    """What happens to the requests of a slot, per user ``[..., C, N]``.

    Attributes:
        hit: Whether it is served at the edge, bool.
        delays: Parts of the delay, s.
        tv: Total variation of the picture.
        late: Whether the delay is beyond the scenario's limit, bool.
        upload_mbit: What is sent up, Mbit.
        result_mbit: What is sent back, Mbit.
        slot: Number of the slot in the episode.
    """

    hit: Tensor
    delays: DelayParts
    tv: Tensor
    late: Tensor
    upload_mbit: Tensor
    result_mbit: Tensor
    slot: int


def delay_s(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """Delay, s."""
    del scenario
    return facts.delays.total_s


def tv_of(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """Total variation of the picture."""
    del scenario
    return facts.tv


def lateness(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """1 where the request is late."""
    del scenario
    return facts.late.to(facts.tv.dtype)


def energy_kj(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """Energy of the cell's server while it makes the picture, kJ; nothing of what the cloud makes."""
    busy_s = facts.delays.generation_s
    power_kw = busy_s.new_tensor(scenario.power_kw)[:, None]
    return torch.where(facts.hit, power_kw * busy_s, torch.zeros_like(busy_s))


def electricity_cost(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """What that energy costs in the cell when the slot begins, money."""
    energy = energy_kj(scenario, facts)
    return energy * energy.new_tensor(electricity_prices(scenario, facts.slot))[:, None]


def electricity_prices(scenario: ProvisioningScenario, slot: int) -> list[float]:
    """Price of electricity in each cell when a slot begins, money per kJ."""
    electricity = scenario.electricity
    assert electricity is not None
    assert scenario.slot_s is not None  # both are among what the term needs
    part = electricity.part_at(slot * scenario.slot_s)
    prices: list[float] = electricity.prices_per_kj(scenario.cells)[part].tolist()
    return prices


def transfer_mbit(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """What goes over the backhaul, Mbit: prompt and picture of what the cloud serves."""
    del scenario
    sent = facts.upload_mbit + facts.result_mbit
    return torch.where(facts.hit, torch.zeros_like(sent), sent)


def in_cloud(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """1 where the cloud serves the request."""
    del scenario
    return (~facts.hit).to(facts.tv.dtype)


def charged(scenario: ProvisioningScenario, facts: Facts) -> Tensor:
    """Nothing per request: it is charged once a frame."""
    del scenario
    return torch.zeros_like(facts.tv)


_WEIGHED = "the weights of delay and tv are delay_weight and the rest to 1; set delay_weight"

DELAY = Term(
    name="delay",
    kind=KIND,
    title="delay, s",
    measure=delay_s,
    default=lambda scenario: scenario.delay_weight,
    fixed=_WEIGHED,
)
TV = Term(
    name="tv", kind=KIND, title="TV", measure=tv_of, default=lambda scenario: 1 - scenario.delay_weight, fixed=_WEIGHED
)
LATE = Term(name="late", kind=KIND, title="late", measure=lateness, field="late_penalty")
FETCH = Term(name="fetch", kind=KIND, title="fetching, s per frame", measure=charged, field="switching_weight")
OVERFLOW = Term(
    name="overflow", kind=KIND, title="overflow, GB per frame", measure=charged, field="overflow_penalty_per_gb"
)
ENERGY = Term(name="energy", kind=KIND, title="energy, kJ", metric="energy_kj", measure=energy_kj, needs=("power_w",))
ELECTRICITY = Term(
    name="electricity",
    kind=KIND,
    title="electricity, money",
    metric="electricity_cost",
    measure=electricity_cost,
    needs=("power_w", "electricity", "slot_s"),
)
TRANSFER = Term(name="transfer", kind=KIND, title="backhaul, Mbit", metric="transfer_mbit", measure=transfer_mbit)
CLOUD = Term(name="cloud", kind=KIND, title="in the cloud", metric="cloud_share", measure=in_cloud)

for _term in (DELAY, TV, LATE, FETCH, OVERFLOW, ENERGY, ELECTRICITY, TRANSFER, CLOUD):
    register(_term)

OF_EVERY_COST = frozenset({"delay", "tv"})
"""Terms that are in the cost of a request anyway."""
APART = frozenset({"late", "fetch", "overflow"})
"""Terms that are charged apart from the cost of a request."""


def further_cost(scenario: ProvisioningScenario, facts: Facts) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what requests cost beside delay and TV, and the amounts of the terms that say it, by name."""
    objective = Objective.of(scenario)
    cost, amounts = torch.zeros_like(facts.tv), {}
    for term, weight in () if objective is None else objective.terms:
        if term.name not in OF_EVERY_COST | APART:
            amounts[term.name] = term.measure(scenario, facts).expand(cost.shape)
            cost = cost + weight * amounts[term.name]
    return cost, amounts


def time_price(scenario: ProvisioningScenario, slot: int, like: Tensor) -> Tensor | float:
    """What a second of generation at the edge costs: a number, or one per cell ``[C, 1]``.

    The weight of the delay, and that of energy and electricity times the power.
    """
    objective = Objective.of(scenario)
    if objective is None or not (objective.weight("energy") or objective.weight("electricity")):
        return scenario.delay_weight
    power_kw = torch.tensor(scenario.power_kw, dtype=torch.float64, device=like.device)
    per_kj = torch.full_like(power_kw, objective.weight("energy"))
    if objective.weight("electricity"):
        prices = torch.tensor(electricity_prices(scenario, slot), dtype=torch.float64, device=like.device)
        per_kj = per_kj + objective.weight("electricity") * prices
    return (scenario.delay_weight + per_kj * power_kw)[:, None]
