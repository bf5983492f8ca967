# SPDX-License-Identifier: Apache-2.0
"""Residency by the rules of the fleet, compiled: which models every site is to keep for a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.rules.fleet_constants import LFU, LRU, SPREAD, Rule
from edgegen.envs.core.compiled import allocating, compiled
from edgegen.envs.fleet.scenario import Floats


@allocating
def residents(
    rule: Rule,
    demand: Floats,
    resident: NDArray[np.uint8],
    size_gb: Floats,
    load_s: Floats,
    work_s: Floats,
    memory_gb: Floats,
    speed: Floats,
    backlog_s: Floats,
    wanted: NDArray[np.uint8],
) -> None:
    """Write what each site is to keep ``[S, M]``.

    Nothing in particular for LRU: then what was asked for longest ago is evicted. Otherwise the models with the highest
    scores that fit. The score is the logarithm of the model's share of the work that the site's own users ask for, or
    all users, plus a bonus if it is there. Where models are spread, the logarithm of the share of all speed that has it
    already, at the sites before, is taken off. Sites with more to do than ``idle_s`` bring in nothing.

    Args:
        rule: The rule.
        demand: Recent requests of each site's users for each model ``[S, M]``.
        resident: Whether it is there ``[S, M]``, 0 or 1.
        size_gb: Memory that it takes ``[M]``, GB.
        load_s: Time that each site takes to load it ``[S, M]``, s.
        work_s: Time of a picture with all steps at speed 1 ``[M]``, s.
        memory_gb: Memory of each site ``[S]``, GB.
        speed: Speed of each site ``[S]``.
        backlog_s: What each site has still to do ``[S]``, s.
        wanted: Where to write ``[S, M]``, 0 or 1.
    """
    wanted[:] = 0
    if rule.residency == LRU:
        return
    sites, models = demand.shape
    share, covered, total_speed = np.zeros(models), np.zeros(models), 0.0
    for site in range(sites):
        total_speed += speed[site]
        for model in range(models):
            share[model] += demand[site, model]
    weigh(share, work_s)
    for site in range(sites):
        if rule.residency == LFU:
            share[:] = demand[site]
            weigh(share, work_s)
        score = np.log(share + 1e-3)
        for model in range(models):
            if rule.residency == SPREAD:
                score[model] -= np.log(covered[model] / total_speed + 0.05)
            if resident[site, model]:
                score[model] += rule.keeping + rule.load_price * load_s[site, model]
        if backlog_s[site] > rule.idle_s:
            wanted[site] = resident[site]
        else:
            fill(score, size_gb, memory_gb[site], wanted[site])
        number = max(int(wanted[site].sum()), 1)
        for model in range(models):
            if wanted[site, model]:
                covered[model] += speed[site] / number


@compiled
def weigh(share: Floats, work_s: Floats) -> None:
    """Make shares of the work out of numbers of requests ``[M]``."""
    share += 1e-2
    share *= work_s
    share /= share.sum()


@compiled
def fill(score: Floats, size_gb: Floats, left_gb: float, wanted: NDArray[np.uint8]) -> None:
    """Take the model with the highest score that still fits, again and again ``[M]``."""
    while True:
        best = -1
        for model in range(len(score)):
            free = wanted[model] == 0 and size_gb[model] <= left_gb
            if free and (best < 0 or score[model] > score[best]):
                best = model
        if best < 0:
            return
        wanted[best] = 1
        left_gb -= size_gb[best]
