# SPDX-License-Identifier: Apache-2.0
"""What a rule of the fleet is to its kernel: who routes, which steps, what is kept, and all constants of that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

HOME, COMPLETION, OF_TWO, WEIGHTED, PRICED = range(5)
"""Routers: at home; where a weighed time of completion is least; the same among two that are drawn; drawn by speed; by
prices."""
ALL, IN_TIME, LADDER = range(3)
"""Steps: all; as many as the deadline allows; fewer still while sites are busy."""
LRU, LFU, POPULAR, SPREAD = range(4)
"""Residency: what is asked for and was not evicted; what a site's own users ask for most; what all users do; that,
spread over the sites."""


class Rule(NamedTuple):
    """A rule with its constants.

    Attributes:
        router: Who routes.
        steps: Which steps are chosen.
        residency: What is kept.
        late_penalty: What a late request costs, times its weight, of the scenario.
        delay_price: Cost of a second of delay, of the scenario.
        load_weight: What a second of a load counts for.
        load_crowding: How much more it counts with each second of mean backlog, 1/s; not by prices.
        service_weight: What a second of generation with all steps counts for; not by prices.
        spill_s: Wait for which a request leaves the sites that have its model, s; not by prices.
        cloud_s: Wait for which it goes to the cloud, s; not by prices.
        late_s: What being late with the fewest steps counts for, s; not by prices.
        affinity: How much likelier a site with the model is drawn, as a logarithm.
        work_price: Price of a second of a site of speed 1.
        crowding_price: What it rises with each second of mean backlog, 1/s.
        haste: What a second of delay counts for beyond its price.
        margin_s: Time by which a site is taken to be later than reported, s; by prices only.
        ladder_slope: Share of the steps that is left out with each second of backlog, 1/s.
        ladder_from_s: Backlog at which that begins, s.
        own_share: Weight of the site's own backlog in that; the rest is of the mean one.
        weight_power: How much less is left out of requests that gain more in a second.
        keeping: Bonus of a resident model, as a logarithm.
        load_price: What it rises with each second of its load, 1/s.
        idle_s: Backlog from which a site brings in nothing, s.
        noise: Scale of the noise on scores, in utility; 1 stands for :data:`~.fleet_routers.UNIT_S` of others' seconds.
        refuse_price: What refusing costs, times the weight, of the scenario; infinite where nobody may. By prices only.
        informed: Whether homes see the true backlogs of all sites, as no real one does.
    """

    router: int
    steps: int
    residency: int
    late_penalty: float
    delay_price: float
    load_weight: float = 1.0
    load_crowding: float = 0.0
    service_weight: float = 1.0
    spill_s: float = 0.0
    cloud_s: float = 0.0
    late_s: float = 0.0
    affinity: float = 0.0
    work_price: float = 0.03
    crowding_price: float = 0.02
    haste: float = 0.0
    margin_s: float = 0.0
    ladder_slope: float = 0.06
    ladder_from_s: float = 1.0
    own_share: float = 0.5
    weight_power: float = 0.0
    keeping: float = 1.0
    load_price: float = 0.0
    idle_s: float = np.inf
    noise: float = 0.0
    refuse_price: float = np.inf
    informed: bool = False
