# SPDX-License-Identifier: Apache-2.0
"""Terms of the offloading world's objective: what tasks cost where they are placed.

A term measures tasks from :class:`Facts`, whose tensors broadcast: with what has become of tasks ``[M]``, and with what
rules expect of every server a task may be sent to ``[E, B, (N,) B]``. So the same function rewards learners, fills
tables and tells rules where a task is best placed. Amounts are of a task; less is better where the weight is positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgegen.envs.core.objectives import Objective, Term, register
from edgegen.envs.offloading.physics import Delays, SlotOutcome
from edgegen.envs.offloading.view import RouterView

if TYPE_CHECKING:
    from edgegen.envs.offloading.scenario import OffloadingScenario

KIND = "offloading"


@dataclass(frozen=True)
class Facts:
    """What happens to tasks, or what would.

    Attributes:
        server: Server that works on it, int64.
        local: Whether that is the one it arrived at, bool.
        size_mbit: Input size, Mbit.
        workload_gcycles: Work, Gcycle.
        result_mbit: Result size, Mbit.
        delays: Parts of its delay, s.
        now_s: Time of the episode at the start of the slot, s.
    """

    server: Tensor
    local: Tensor
    size_mbit: Tensor
    workload_gcycles: Tensor
    result_mbit: Tensor
    delays: Delays
    now_s: float


def delay_s(scenario: OffloadingScenario, facts: Facts) -> Tensor:
    """Service delay, s."""
    del scenario
    return facts.delays.total_s


def energy_kj(scenario: OffloadingScenario, facts: Facts) -> Tensor:
    """Energy of the server while it works on the task, kJ: power times time of computing."""
    power_kw = facts.delays.compute_s.new_tensor(scenario.power_kw)
    return power_kw[facts.server] * facts.delays.compute_s


def electricity_cost(scenario: OffloadingScenario, facts: Facts) -> Tensor:
    """What that energy costs at the server when the slot begins, money."""
    electricity = scenario.electricity
    assert electricity is not None  # it is among what the term needs
    prices = electricity.prices_per_kj(scenario.servers)[electricity.part_at(facts.now_s)]
    return torch.as_tensor(prices, dtype=facts.delays.compute_s.dtype, device=facts.server.device)[
        facts.server
    ] * energy_kj(scenario, facts)


def transfer_mbit(scenario: OffloadingScenario, facts: Facts) -> Tensor:
    """What goes between servers, Mbit: input and result of tasks that do not stay where they arrived."""
    del scenario
    sent = facts.size_mbit + facts.result_mbit
    return torch.where(facts.local, torch.zeros_like(sent), sent)


DELAY = Term(name="delay", kind=KIND, title="delay, s", measure=delay_s, default=1.0)
ENERGY = Term(name="energy", kind=KIND, title="energy, kJ", metric="energy_kj", measure=energy_kj, needs=("power_w",))
ELECTRICITY = Term(
    name="electricity",
    kind=KIND,
    title="electricity, money",
    metric="electricity_cost",
    measure=electricity_cost,
    needs=("power_w", "electricity"),
)
TRANSFER = Term(name="transfer", kind=KIND, title="transfer, Mbit", metric="transfer_mbit", measure=transfer_mbit)

for _term in (DELAY, ENERGY, ELECTRICITY, TRANSFER):
    register(_term)


def judged(objective: Objective, view: RouterView, outcome: SlotOutcome, now_s: float) -> SlotOutcome:
    """Return the outcome of a slot with what its tasks cost.

    Args:
        objective: The objective.
        view: The slot.
        outcome: What became of its tasks.
        now_s: Time of the episode at the start of the slot, s.
    """
    where = (outcome.copy, outcome.edge, outcome.index)
    size_mbit, work, result_mbit = (
        values[where] for values in (view.tasks.size_mbit, view.tasks.workload_gcycles, view.tasks.result_mbit)
    )
    local = outcome.server == outcome.edge
    facts = Facts(outcome.server, local, size_mbit, work, result_mbit, outcome.delays, now_s)
    amounts = objective.amounts(facts)
    return replace(outcome, amounts=amounts, cost=objective.total(amounts))
