# SPDX-License-Identifier: Apache-2.0
"""What a fleet is made of, and the books that are kept of it, as compiled functions take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.draws import Ints, Requests
from edgegen.envs.fleet.models import MOST_POINTS, Exponential, Points
from edgegen.envs.fleet.scenario import FleetScenario, Floats
from edgegen.envs.fleet.terms import day_of, rates_of


class Fixed(NamedTuple):
    """What does not change, of S sites and, last, the cloud, and M models.

    Attributes:
        speed: Speed ``[S + 1]``.
        model_speed: Speed with each model ``[S + 1, M]``.
        memory_gb: Memory ``[S]``, GB.
        host_gb: Memory of the hosts, for models that were evicted ``[S]``, GB.
        size_gb: Memory that a model takes ``[M]``, GB.
        load_s: Time to load it, but for what happens to the sites ``[M]``, s.
        step_s: Time of a step at speed 1 ``[M]``, s.
        fixed_s: Time of a picture beside its steps at speed 1 ``[M]``, s.
        least_steps: Fewest steps ``[M]``.
        full_steps: Steps that are asked for, unless requests say so ``[M]``.
        least_quality: Quality with the fewest steps, of linear curves ``[M]``.
        full_quality: Quality with all steps ``[M]``.
        curve: Curve of the quality ``[M, 1 + 2 P]``: rate of exponential ones, 0 for linear ones, negative for those
            with points; then shares of the steps at the points, and shares of the full quality there, padded with 1.
        way_s: Time to each destination, 0 at home, and time of the result from there ``[2, S, S]``, s.
        host_s: Time to load a model from the host, s.
        further: Time of the steps of a further picture over that of the first; negative if they are made one by one.
        report_s: Time between reports, s.
        frame_s: Time between decisions of the cachers, s.
        cloud_s: Way to the cloud and back, s.
        cloud_price: Price of a request in the cloud.
        cloud_work_price: Price of a second of work there, counted at speed 1.
        late_penalty: What a late request costs, times its weight.
        late_decay: How fast the worth of late requests decays; negative if they have none.
        delay_price: Cost of a second of delay.
        hop_price: Cost of a request that runs away from home.
        refuse_price: Cost of a refused request, times its weight; infinite if none can be refused.
        forgetful: Whether a site that fails loses its models.
        rates: What the tariffs of the objective charge ``[H, S + 1, 3]``, columns as in
            :mod:`edgegen.envs.fleet.terms`; H is 0 if there are none.
        part_s: Length of a part of the day with prices of its own, s.
        begins_s: Time of day at which episodes begin, s.
    """

    speed: Floats
    model_speed: Floats
    memory_gb: Floats
    host_gb: Floats
    size_gb: Floats
    load_s: Floats
    step_s: Floats
    fixed_s: Floats
    least_steps: Floats
    full_steps: Floats
    least_quality: Floats
    full_quality: Floats
    curve: Floats
    way_s: Floats
    host_s: float
    further: float
    report_s: float
    frame_s: float
    cloud_s: float
    cloud_price: float
    cloud_work_price: float
    late_penalty: float
    late_decay: float
    delay_price: float
    hop_price: float
    refuse_price: float
    forgetful: bool
    rates: Floats
    part_s: float
    begins_s: float


HEARD_PACE, STARTED, PASSED = range(3)
"""Columns of what the books say of each site."""


class Books(NamedTuple):
    """Everything that changes, of E copies, and what happens to their sites; a fork is a copy of these arrays.

    Attributes:
        free_s: When each site has done all that is placed there ``[E, S]``, s.
        heard_s: The same as each site believes of each other one: what was last reported, and what it has placed there
            itself since ``[E, S, S]``, s.
        report: Number of the last report ``[E]``.
        resident: Whether a model is in memory at the end of a site's queue ``[E, S, M]``, 0 or 1.
        host: Order in which models came into the memory of the host; 0 for those that are not there ``[E, S, M]``.
        wanted: What the cacher wants there ``[E, S, M]``, 0 or 1.
        used_s: When it was last asked for there ``[E, S, M]``, s.
        demand: Requests of a site's users for each model, older frames counting less ``[E, S, M]``.
        cursor: Number of the request that is due ``[E]``.
        loads: Loads so far, those of the first frame excepted ``[E]``.
        own: Of each site: the share of its speed that it last reported, its loads so far, and the number of the next
            change of its pace of which its memory does not know yet ``[E, S, 3]``.
        happens: What happens to the sites ``[E, S, L]``, see :func:`edgegen.envs.fleet.sites.packed`; does not change.
    """

    free_s: Floats
    heard_s: Floats
    report: Ints
    resident: NDArray[np.uint8]
    host: Ints
    wanted: NDArray[np.uint8]
    used_s: Floats
    demand: Floats
    cursor: Ints
    loads: Ints
    own: Floats
    happens: Floats


STATE = Books._fields[:-1]
"""Names of the books that change."""


def fixed_of(scenario: FleetScenario) -> Fixed:
    """Return the constants of a scenario."""
    models = scenario.kinds_of_models

    def column(name: str) -> Floats:
        return np.array([getattr(model, name) or 0.0 for model in models], dtype=np.float64)

    curve = np.ones((len(models), 1 + 2 * MOST_POINTS))
    curve[:, 0] = 0.0
    for row, model in zip(curve, models, strict=True):
        shape = model.curve or scenario.curve
        if isinstance(shape, Exponential):
            row[0] = shape.rate
        elif isinstance(shape, Points):
            row[0] = -1.0
            row[1 : 1 + len(shape.steps)] = shape.steps
            row[1 + MOST_POINTS : 1 + MOST_POINTS + len(shape.steps)] = shape.quality
    speed = np.array([*scenario.site_speed, scenario.cloud.speed])
    factor = np.concatenate([scenario.model_factor, np.ones((1, len(models)))])
    return Fixed(
        speed,
        speed[:, None] * factor,
        np.array(scenario.site_memory_gb),
        np.array(scenario.host_memory_gb),
        column("size_gb"),
        column("load_s") * scenario.load_factor,
        column("step_s"),
        column("fixed_s"),
        column("least_steps"),
        column("full_steps"),
        column("least_quality"),
        column("full_quality"),
        curve,
        np.stack(scenario.ways_s),
        float(scenario.loading.host_s or 0.0),
        -1.0 if scenario.further_picture is None else float(scenario.further_picture),
        float(scenario.report_s),
        float(scenario.frame_s),
        float(scenario.cloud.distance_s),
        float(scenario.cloud.price),
        float(scenario.cloud.price_per_work_s),
        float(scenario.late_penalty),
        -1.0 if scenario.late_decay is None else float(scenario.late_decay),
        float(scenario.delay_price),
        float(scenario.hop_price),
        np.inf if scenario.refuse_price is None else float(scenario.refuse_price),
        scenario.outages is not None and not scenario.outages.keeps_models,
        rates_of(scenario),
        *day_of(scenario),
    )


def empty_books(copies: int, sites: int, models: int, happens: Floats | None = None) -> Books:
    """Return the books before anything has happened.

    Args:
        copies: Copies E.
        sites: Sites S.
        models: Models M.
        happens: What will happen to the sites, as drawn with the requests; nothing if not given.
    """
    per_site, per_model = (copies, sites), (copies, sites, models)
    own = np.zeros((*per_site, 3))
    own[..., HEARD_PACE] = 1.0
    return Books(
        np.zeros(per_site),
        np.zeros((copies, sites, sites)),
        np.full(copies, -1, dtype=np.int64),
        np.zeros(per_model, dtype=np.uint8),
        np.zeros(per_model, dtype=np.int64),
        np.zeros(per_model, dtype=np.uint8),
        np.zeros(per_model),
        np.zeros(per_model),
        np.zeros(copies, dtype=np.int64),
        np.zeros(copies, dtype=np.int64),
        own,
        np.zeros((*per_site, 0)) if happens is None else happens,
    )


def books_of(scenario: FleetScenario, requests: Requests) -> Books:
    """Return the books of drawn episodes before anything has happened."""
    return empty_books(len(requests.number), scenario.sites, len(scenario.kinds_of_models), requests.happens)


@compiled
def take_over(source: Books, target: Books, copy: int) -> None:
    """Make a copy's books what they are in others, to which the same happens: a fork."""
    _, sites, models = source.resident.shape
    target.report[copy] = source.report[copy]
    target.cursor[copy] = source.cursor[copy]
    target.loads[copy] = source.loads[copy]
    for site in range(sites):
        target.free_s[copy, site] = source.free_s[copy, site]
        for other in range(sites):
            target.heard_s[copy, site, other] = source.heard_s[copy, site, other]
        for column in range(source.own.shape[2]):
            target.own[copy, site, column] = source.own[copy, site, column]
        for model in range(models):
            target.resident[copy, site, model] = source.resident[copy, site, model]
            target.host[copy, site, model] = source.host[copy, site, model]
            target.wanted[copy, site, model] = source.wanted[copy, site, model]
            target.used_s[copy, site, model] = source.used_s[copy, site, model]
            target.demand[copy, site, model] = source.demand[copy, site, model]
