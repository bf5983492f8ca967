# SPDX-License-Identifier: Apache-2.0
"""Terms of the fleet's objective: what requests bring and cost.

What a request is worth is a sum of terms: its quality counts 1 times its weight, all others are costs. Some arise in
the physics itself; the others are tariffs. A :class:`Tariff` charges a request for being at a site, for being away
from its home, and for every second that a site works on it, by the time of day. That is linear, so compiled rules and
learners see it as prices of candidates, in the columns that say what the cloud costs. A term of a plugin is a tariff,
too:

    >>> GRID = tariff_term("grid", "use of the grid", lambda scenario: Tariff(busy_s=np.array([[0.1, 0.2, 0.0]])))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.objectives import Objective, Term, register

if TYPE_CHECKING:
    from edgegen.envs.fleet.scenario import FleetScenario

KIND = "fleet"
Floats = NDArray[np.float64]

REQUEST, AWAY, BUSY = range(3)
"""Columns of what is charged: per request at a site, per request there that has another home, per second of work."""


@dataclass(frozen=True)
class Tariff:
    """What a request is charged ``[H, S + 1]``, by part of the day and candidate, or ``[1, ...]`` and ``[..., 1]``.

    The last candidate is the cloud. Which part of the day it is follows from when the request arrives; see the
    scenario's ``electricity``, which says how many there are.

    Attributes:
        request: Per request.
        away: Per request, besides, that does not run at its home.
        busy_s: Per second that the site loads its model and makes its pictures.
    """

    request: Floats | float = 0.0
    away: Floats | float = 0.0
    busy_s: Floats | float = 0.0


@dataclass(frozen=True)
class Facts:
    """What became of requests; arrays of one shape, of requests that there were.

    Attributes:
        home: Site that it arrived at, int64.
        site: Where it ran; S is the cloud, S + 1 refused it, int64.
        arrival_s: When it arrived, s.
        deadline_s: Promised delay, s.
        weight: Worth.
        delay_s: Delay, s.
        busy_s: Time for which the site loaded its model and made its pictures, s.
        late: Whether it was late, bool.
        quality: Quality of its pictures.
        utility: What it was worth in all.
    """

    home: NDArray[np.int64]
    site: NDArray[np.int64]
    arrival_s: Floats
    deadline_s: Floats
    weight: Floats
    delay_s: Floats
    busy_s: Floats
    late: NDArray[np.bool_]
    quality: Floats
    utility: Floats


def tariff_term(
    name: str,
    title: str,
    tariff: Callable[[FleetScenario], Tariff],
    metric: str = "",
    needs: tuple[str, ...] = (),
) -> Term:
    """Make a term that charges by a tariff.

    Args:
        name: Its name in ``objective``.
        title: What it is called in tables, with its unit.
        tariff: From a scenario to what is charged for a weight of 1.
        metric: Name of its amount in results; the name of the term if not given.
        needs: Fields of a scenario that must be given for it.
    """

    def measure(scenario: FleetScenario, facts: Facts) -> Floats:
        rates = _whole(scenario, name, tariff(scenario))
        site = np.minimum(facts.site, scenario.sites)
        rate = rates[_part_at(scenario, facts.arrival_s), site]
        amount = rate[..., REQUEST] + rate[..., AWAY] * (site != facts.home) + rate[..., BUSY] * facts.busy_s
        return np.where(facts.site > scenario.sites, 0.0, amount)

    return Term(name=name, kind=KIND, title=title, metric=metric or name, measure=measure, tariff=tariff, needs=needs)


def rates_of(scenario: FleetScenario) -> Floats:
    """Return what the objective's tariffs charge together ``[H, S + 1, 3]``; without any part if there are none."""
    objective = Objective.of(scenario)
    rates = [
        weight * _whole(scenario, term.name, term.tariff(scenario))
        for term, weight in (() if objective is None else objective.terms)
        if term.tariff is not None and weight
    ]
    return np.sum(rates, axis=0) if rates else np.zeros((0, scenario.sites + 1, 3))


def parts_of(scenario: FleetScenario) -> int:
    """Parts of the day H with prices of their own."""
    return 1 if scenario.electricity is None else len(scenario.electricity.price_per_kwh[0])


def day_of(scenario: FleetScenario) -> tuple[float, float]:
    """Length of a part of the day, and time of day at which episodes begin, s."""
    electricity = scenario.electricity
    return (np.inf, 0.0) if electricity is None else (electricity.part_s, electricity.begins_s)


def check_objective(scenario: FleetScenario) -> None:
    """Refuse weights below 0: no request could then be told to bring more on an idle fleet.

    Raises:
        ValueError: If there are any.
    """
    for name, weight in scenario.objective.items():
        if weight < 0:
            raise ValueError(f"objective.{name} is {weight:g}, but must be at least 0: terms of a fleet are costs")


def amounts_of(objective: Objective, facts: Facts) -> dict[str, Floats]:
    """Return what every term adds to the utility of each request, by name; costs are negative, and the sum is that."""
    scenario = objective.scenario
    added = {
        term.name: (1.0 if term.name == "quality" else -weight) * term.measure(scenario, facts)
        for term, weight in objective.terms
        if term.name != "cloud"
    }
    in_cloud = facts.site == scenario.sites
    return {**added, "cloud": np.where(in_cloud, facts.utility - sum(added.values()), 0.0)}


def _whole(scenario: FleetScenario, name: str, tariff: Tariff) -> Floats:
    """A tariff as ``[H, S + 1, 3]``."""
    shape = (parts_of(scenario), scenario.sites + 1)
    try:
        columns = [np.broadcast_to(getattr(tariff, column), shape) for column in ("request", "away", "busy_s")]
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"The tariff of the term '{name}' must be a Tariff of {shape[0]} parts of the day and {shape[1]} "
            f"candidates: {error}."
        ) from None
    rates = np.stack(columns, axis=-1).astype(np.float64)
    if not (rates >= 0).all() or not np.isfinite(rates).all():
        raise InputError(f"The tariff of the term '{name}' must hold finite numbers of at least 0.")
    return rates


def _part_at(scenario: FleetScenario, now_s: Floats) -> NDArray[np.int64]:
    part_s, begins_s = day_of(scenario)
    there = np.where(np.isfinite(now_s), now_s, 0.0)  # where there is no request, it never arrives
    return np.floor((there + begins_s) / part_s).astype(np.int64) % parts_of(scenario)


def _quality(scenario: FleetScenario, facts: Facts) -> Floats:
    """Worth of the pictures: weight times quality of those in time, and what is left of it for late ones."""
    worth = facts.weight * facts.quality
    left = np.zeros_like(worth)
    if scenario.late_decay is not None:
        over = (facts.delay_s - facts.deadline_s) / np.maximum(facts.deadline_s, 1e-12)
        left = worth * np.exp(-scenario.late_decay * np.where(facts.late, over, 0.0))
    return np.where(facts.site > scenario.sites, 0.0, np.where(facts.late, left, worth))


def _lateness(scenario: FleetScenario, facts: Facts) -> Floats:
    """Weight of a late request."""
    del scenario
    return facts.weight * facts.late


def _delay(scenario: FleetScenario, facts: Facts) -> Floats:
    """Delay, s; none of a refused request."""
    del scenario
    return facts.delay_s


def _hops(scenario: FleetScenario, facts: Facts) -> Floats:
    """1 where the request ran at another site than its home; not in the cloud."""
    return np.asarray((facts.site < scenario.sites) & (facts.site != facts.home), dtype=np.float64)


def _refusal(scenario: FleetScenario, facts: Facts) -> Floats:
    """Weight of a refused request."""
    return facts.weight * (facts.site > scenario.sites)


def _cloud(scenario: FleetScenario, facts: Facts) -> Floats:
    """What the cloud charges: see :func:`amounts_of`, which finds it as what is left."""
    objective = Objective.of(scenario)
    assert objective is not None
    return -amounts_of(objective, facts)["cloud"]


def _kilowatts(scenario: FleetScenario) -> Floats:
    """Power of each site while it works, and of the cloud: none, which is in its price ``[1, S + 1]``, kW."""
    return np.array([[*scenario.power_kw, 0.0]])


def _electricity(scenario: FleetScenario) -> Tariff:
    assert scenario.electricity is not None  # it is among what the term needs
    prices = scenario.electricity.prices_per_kj(scenario.sites)
    return Tariff(busy_s=np.pad(prices, ((0, 0), (0, 1))) * _kilowatts(scenario))


QUALITY = Term(
    name="quality",
    kind=KIND,
    title="quality",
    measure=_quality,
    default=1.0,
    fixed="quality counts 1, and the weights of all other terms are relative to it",
)
LATENESS = Term(name="lateness", kind=KIND, title="late", measure=_lateness, field="late_penalty")
DELAY = Term(name="delay", kind=KIND, title="delay, s", measure=_delay, field="delay_price")
HOPS = Term(name="hops", kind=KIND, title="away", measure=_hops, field="hop_price")
CLOUD = Term(
    name="cloud",
    kind=KIND,
    title="price of the cloud",
    measure=_cloud,
    default=1.0,
    fixed="its prices are cloud.price and cloud.price_per_work_s",
)
REFUSAL = Term(name="refusal", kind=KIND, title="refused", measure=_refusal, field="refuse_price")
ENERGY = tariff_term(
    "energy", "energy, kJ", lambda scenario: Tariff(busy_s=_kilowatts(scenario)), "energy_kj", ("power_w",)
)
ELECTRICITY = tariff_term(
    "electricity", "electricity, money", _electricity, "electricity_cost", ("power_w", "electricity")
)
TRANSFER = tariff_term(
    "transfer",
    "transfer, Mbit",
    lambda scenario: Tariff(away=np.array([[scenario.upload_mbit + scenario.result_mbit]])),
    "transfer_mbit",
)

for _term in (QUALITY, LATENESS, DELAY, HOPS, CLOUD, REFUSAL, ENERGY, ELECTRICITY, TRANSFER):
    register(_term)
