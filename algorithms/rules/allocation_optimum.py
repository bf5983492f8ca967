# SPDX-License-Identifier: Apache-2.0
"""The best division of bandwidth and computing in a slot, for a given cache: exact, for whole batches of slots.

Once it is fixed what is cached, the cost of a slot is a sum of a part that depends on the bandwidth alone and one that
depends on the steps alone, so each is minimised by itself. Both methods are ours; they follow from the equations of
:func:`edgegen.envs.provisioning.physics.serve`.

*Bandwidth.* The uplink delay d/r(b) is convex in the share b, so the optimum is where a little more bandwidth is worth
the same to everybody. That condition reads b = √(d F(b) / λ) with one price λ for all and a factor F that hardly
changes with b; repeating it, with the price that makes the shares add up to one, converges within some ten rounds.

*Steps.* What x steps are worth to a hit, v(x) = (1 − α)(A2 − TV(x)) − α B1 x, falls up to A1, where they only take
time, and rises in a straight line up to A3. It is convex up there, so two hits never both get a part of their steps:
moving steps from one to the other would pay. All hits but one get nothing or everything, which is a knapsack; and the
one with a part has the flattest line of all that get something. Filling a knapsack in the order of falling slopes and
giving the rest to each possible last hit is therefore exact. It is done by dynamic programming over whole steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgegen.envs.core.radio import watts
from edgegen.envs.provisioning.curves import CurveTensors
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.envs.provisioning.terms import time_price
from edgegen.envs.provisioning.view import AllocatorView

BANDWIDTH_TOLERANCE = 1e-12
"""Relative change of the shares in the last round; the cost is flat at the optimum, so it is off by far less."""

_ROUNDS = 200  # a bound that is never reached: each round divides the error by about ten
_SMALL_RATIO = 1e-4  # below it, F is taken from its series: the exact form loses its digits there
_CELLS = 100_000  # entries of one knapsack table: small enough for a processor's cache, which is several times faster


def best_bandwidth(scenario: ProvisioningScenario, observation: AllocatorView) -> Tensor:
    """Uplink shares of least total delay.

    Args:
        scenario: The constants.
        observation: Slots with any leading axes.

    Returns:
        Shares ``[..., C, N]``, float64, each at least the scenario's least share, together one.
    """
    amount, gain = observation.upload_mbit.double(), observation.gain.double()
    least = scenario.min_bandwidth_share
    power_w = watts(scenario.user_power_dbm)
    if scenario.noise_total_dbm is not None:  # then the rate is in proportion to the share
        return _shares(amount / torch.log1p(gain * (power_w / watts(scenario.noise_total_dbm))), least)
    whole_band = gain * (power_w / (watts(scenario.noise_dbm_hz) * scenario.uplink_mhz * 1e6))
    share = _shares(amount, least)
    for _ in range(_ROUNDS):
        before, share = share, _shares(amount * _marginal_factor(whole_band / share), least)
        if bool(((share - before).abs() <= BANDWIDTH_TOLERANCE * share).all()):
            break
    return share


def best_steps(
    curves: CurveTensors, hit: Tensor, budget: Tensor, delay_weight: float, time_price: Tensor | float | None = None
) -> Tensor:
    """Whole steps of least cost for the hits of a slot.

    Args:
        curves: Curve of the model each user asks for ``[..., N]``.
        hit: Whether it is cached ``[..., N]``.
        budget: Steps that can be made ``[...]``.
        delay_weight: Weight α of delay against TV.
        time_price: What a second of generation costs, if not α alone; broadcasts with ``hit``.

    Returns:
        Steps ``[..., N]``, int64, together at most the budget.
    """
    items = StepValues.of(curves, hit, delay_weight, time_price)
    rows = items.rows(budget)
    parts = [_knapsack(part, wanted, steps=True)[1] for part, wanted in rows]
    return torch.cat(parts).view(hit.shape)


def best_steps_value(curves: CurveTensors, hit: Tensor, budget: Tensor, delay_weight: float) -> Tensor:
    """By how much the best steps lower the summed cost of a slot, against no steps at all ``[...]``, float64.

    Arguments as for :func:`best_steps`.
    """
    items = StepValues.of(curves, hit, delay_weight)
    values = [_knapsack(part, wanted, steps=False)[0] for part, wanted in items.rows(budget)]
    return torch.cat(values).view(hit.shape[:-1])


def best_allocation(scenario: ProvisioningScenario, observation: AllocatorView) -> tuple[Tensor, Tensor]:
    """Shares of bandwidth and computing with the least mean cost of a slot, for what is cached in it.

    Energy and electricity are considered where the objective has them. Late requests and terms of plugins are not: with
    these the best reward may need other shares.

    Args:
        scenario: The constants.
        observation: Slots with any leading axes.

    Returns:
        Shares ``[..., C, N]`` each, in the precision of the observation.
    """
    budget = observation.steps_budget
    slot = observation.frame * scenario.slots_per_frame + observation.slot
    price = time_price(scenario, slot, observation.gain)
    steps = best_steps(observation.curves, observation.hit, budget, scenario.delay_weight, price)
    compute = steps.double() / budget.double()[..., None]
    kind = observation.gain.dtype
    return best_bandwidth(scenario, observation).to(kind), compute.to(kind)


@dataclass(frozen=True)
class StepValues:
    """What steps are worth to each user of a slot, as numbers that broadcast ``[..., N]``, float64.

    Attributes:
        gain: What a step is worth between A1 and A3, before its time is charged.
        dead: Steps that are worth nothing, A1.
        price: What the time of a step costs.
        best: Steps that suffice for the best TV, A3, not rounded.
        slope: What a step is worth between A1 and A3, its time charged.
        worth: What the best number of steps is worth, never negative; 0 for misses.
        density: Most that a step is worth on average; 0 if steps are worth nothing.
    """

    gain: Tensor
    dead: Tensor
    price: Tensor
    best: Tensor
    slope: Tensor
    worth: Tensor
    density: Tensor

    @classmethod
    def of(
        cls, curves: CurveTensors, hit: Tensor | None, delay_weight: float, time_price: Tensor | float | None = None
    ) -> StepValues:
        """Work the values out of curves ``[..., N]``; ``hit`` None stands for all hits, no price for that of delay."""
        a1, a2, a3, a4, b1, _ = (constant.double() for constant in curves.values())
        gain, price = (
            (1 - delay_weight) * (a2 - a4) / (a3 - a1),
            (delay_weight if time_price is None else time_price) * b1,
        )
        made = cls(gain, a1, price, a3, gain - price, gain, gain)
        ends = [(steps, made.at(steps)) for steps in (a3.floor(), a3.ceil())]
        worth = torch.stack([value for _, value in ends]).amax(0).clamp_min(0)
        density = torch.stack([value / steps.clamp_min(1) for steps, value in ends]).amax(0).clamp_min(0)
        if hit is not None:
            worth, density = worth * hit, density * hit
        return cls(gain, a1, price, a3, gain - price, worth, density)

    def at(self, steps: Tensor) -> Tensor:
        """Return what ``steps`` are worth; they broadcast."""
        return self.gain * (torch.minimum(steps, self.best) - self.dead).clamp_min(0) - self.price * steps

    def ends(self) -> list[Tensor]:
        """Numbers of steps of which one is the best: A3 rounded down and up, or A3 alone where all are whole."""
        low, high = self.best.floor(), self.best.ceil()
        return [low] if torch.equal(low, high) else [low, high]

    def map(self, change: Callable[[Tensor], Tensor]) -> StepValues:
        """Return the same values, each tensor changed by a function."""
        return StepValues(*(change(value) for value in vars(self).values()))

    def rows(self, budget: Tensor) -> list[tuple[StepValues, Tensor]]:
        """Cut into pieces ``[rows, N]`` with budgets ``[rows]``, int64, small enough for a knapsack table."""
        users = self.worth.shape[-1]
        flat = self.map(lambda value: value.expand(self.worth.shape).reshape(-1, users))
        wanted = (flat.best.ceil() * (flat.worth > 0)).sum(-1)  # a table need not reach beyond
        budgets = torch.minimum(budget.double().expand(self.worth.shape[:-1]).reshape(-1), wanted).long()
        width = max(1, _CELLS // (int(budgets.max()) + 1)) if len(budgets) else 1
        pieces = range(0, max(len(budgets), 1), width)
        return [(flat.cut(slice(at, at + width)), budgets[at : at + width]) for at in pieces]

    def cut(self, *index: slice | int) -> StepValues:
        """Return the same index of every tensor."""
        return self.map(lambda value: value[index])


def _knapsack(items: StepValues, budget: Tensor, steps: bool) -> tuple[Tensor, Tensor]:
    """Solve the knapsacks of rows ``[B, N]``; value ``[B]`` and, if wanted, steps ``[B, N]`` (else the same again)."""
    order = items.slope.argsort(dim=-1, descending=True, stable=True)
    items = items.map(lambda value: value.gather(-1, order))
    rows, users = items.worth.shape
    used = torch.arange(int(budget.max()) + 1 if rows else 1, device=budget.device).expand(rows, -1)
    left = budget[:, None] - used
    table = torch.zeros(used.shape, dtype=torch.float64, device=budget.device)  # best of whole items in ``used`` steps
    value = torch.zeros(rows, dtype=torch.float64, device=budget.device)
    last, spent = torch.full_like(budget, -1), torch.zeros_like(budget)
    choices: list[list[Tensor]] = []
    for place in range(users):  # whether a hit gets something depends on those before; all rows side by side
        item = items.cut(slice(None), slice(place, place + 1))
        useful = item.worth > 0
        ends = item.ends()
        rest = item.at(torch.minimum(left, ends[0]))
        for end in ends[1:]:
            rest = torch.maximum(rest, item.at(torch.minimum(left, end)))
        # Where nothing is left, ``rest`` means nothing.
        total = torch.where((left > 0) & useful, table + rest, -torch.inf)
        found, at_used = total.max(-1)
        better = found > value
        value = torch.where(better, found, value)
        last, spent = torch.where(better, place, last), torch.where(better, at_used, spent)
        taken = []
        base = table
        for end in ends:
            before = used - end.long()
            gained = torch.where(useful, item.at(end), -torch.inf)
            whole = torch.where(before >= 0, base.gather(-1, before.clamp_min(0)) + gained, -torch.inf)
            taken.append(whole > table)
            table = torch.maximum(table, whole)
        if steps:
            choices.append(taken)
    if not steps:
        return value, value
    made = _trace_back(items, budget, last, spent, choices)
    return value, torch.empty_like(made).scatter_(-1, order, made)


def _trace_back(items: StepValues, budget: Tensor, last: Tensor, spent: Tensor, choices: list[list[Tensor]]) -> Tensor:
    """Read the steps ``[B, N]``, in the order of the items, out of the choices made on the way."""
    steps = torch.zeros(items.worth.shape, dtype=torch.int64, device=budget.device)
    left = budget - spent
    for place in reversed(range(steps.shape[-1])):
        item = items.cut(slice(None), place)
        ends = item.ends()
        # The last hit gets the rest, but no step that is worth nothing.
        options = torch.stack([torch.zeros_like(left), *(torch.minimum(left, end.long()) for end in ends)])
        rest = options.gather(0, item.at(options).argmax(0)[None])[0]
        amount = torch.where(last == place, rest, 0)
        earlier = last > place
        for taken, end in zip(choices[place], ends, strict=True):
            chosen = earlier & taken.gather(-1, spent[:, None])[:, 0]
            amount = torch.where(chosen, end.long(), amount)
        spent = torch.where(earlier, spent - amount, spent)
        steps[:, place] = amount
    return steps


def _marginal_factor(ratio: Tensor) -> Tensor:
    """F = (ln(1 + u) − u/(1 + u)) / ln²(1 + u) of the ratio u of signal to noise."""
    log = torch.log1p(ratio)
    exact = (log - ratio / (1 + ratio)) / log.square()
    return torch.where(ratio > _SMALL_RATIO, exact, 0.5 - ratio / 6 + ratio.square() / 8)


def _shares(weight: Tensor, least: float) -> Tensor:
    """Shares in proportion to the roots of weights ``[..., N]``, but none below ``least``, together one."""
    root = weight.sqrt()
    root = torch.where(root.sum(-1, keepdim=True) > 0, root, torch.ones_like(root))
    users = root.shape[-1]
    ordered = root.sort(dim=-1).values
    rest = ordered.flip(-1).cumsum(-1).flip(-1)  # sum of a root and all larger ones
    clamped = torch.arange(users, device=root.device, dtype=root.dtype)
    scale = (1 - clamped * least) / rest
    enough = scale * ordered >= least
    enough[..., -1] = True
    first = enough.to(torch.uint8).argmax(-1, keepdim=True)  # fewest users at the least share
    return (scale.gather(-1, first) * root).clamp_min(least)
