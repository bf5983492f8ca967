# SPDX-License-Identifier: Apache-2.0
"""Decisions of the learned fleet, compiled: a chain denoises a residual on the score that a rule gives.

The same functions decide in the policy and inside the kernels that play whole episodes and forks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.algorithms.rules.fleet_residency import fill, weigh
from edgegen.algorithms.rules.fleet_routers import score_of, uniform
from edgegen.algorithms.rules.fleet_steps import steps_share, timely_share, value_of
from edgegen.envs.core.compiled import allocating, compiled, inlined
from edgegen.envs.fleet.draws import Ints
from edgegen.envs.fleet.physics import (
    BACKLOG,
    FULL,
    LEAST,
    LOAD,
    NETWORK,
    PRICE,
    RESIDENT,
    SLACK,
    SPEED,
    WORK_PRICE,
    mean_backlog_s,
)
from edgegen.envs.fleet.scenario import Floats

ROUTER_FEATURES, ALLOCATOR_FEATURES, CACHER_FEATURES = 21, 14, 11
LADDER_SHARE, TIMELY_SHARE = 12, 13
"""The allocator's features that are the rule's share of the steps, and the largest that is in time."""
SCORE_UNIT = 0.125
"""Utility that is 1 in the router's chain; a power of two, so that nothing is rounded."""
CHARGED_FEATURES = 1
"""Further features of routers and allocators in worlds whose objective charges for the work of a site, such as for
its energy: the last ones, so that all others are as in worlds without."""


class Net(NamedTuple):
    """Weights of a chain: features ``[F, H]``, bias, latent, step and output ``[H]``; without steps there is none."""

    features: Floats
    bias: Floats
    latent: Floats
    step: Floats
    out: Floats
    steps: int


class Brain(NamedTuple):
    """Who decides: the rule, and a network for each role.

    Attributes:
        rule: The rule.
        router: Its network.
        allocator: Its network.
        cacher: Its network.
        unit_s: Time that is 1 in the features, s.
        second_s: Time that stands for a second in features that are not relative to that, s.
    """

    rule: Rule
    router: Net
    allocator: Net
    cacher: Net
    unit_s: float
    second_s: float = 1.0


@compiled
def denoise(net: Net, features: Floats, relative: bool, scratch: Floats, latent: Floats) -> None:
    """Denoise latents ``[n]`` in place, each with its features ``[n, F]``; ``scratch`` is ``[n, 2 H]`` or larger.

    Each step adds to a latent what the network makes of its features, of the latent, relative to the highest one if
    that is what counts, and of the step. Loops over the width H have no sums in them, so that they become vectors.
    """
    rows, width, weight = len(latent), len(net.bias), net.features
    for row in range(rows):
        for h in range(width):
            scratch[row, h] = net.bias[h]
    inputs = features.shape[1]
    in_threes = inputs - inputs % 3
    for f in range(0, in_threes, 3):
        for row in range(rows):  # inside, so that no sum waits for the one before it
            one, two, three = features[row, f], features[row, f + 1], features[row, f + 2]
            for h in range(width):
                scratch[row, h] = (
                    scratch[row, h] + one * weight[f, h] + two * weight[f + 1, h] + three * weight[f + 2, h]
                )
    for f in range(in_threes, inputs):
        for row in range(rows):
            value = features[row, f]
            for h in range(width):
                scratch[row, h] += value * weight[f, h]
    for i in range(net.steps, 0, -1):
        shift, left = highest_of(latent) if relative else 0.0, i / net.steps
        for row in range(rows):
            seen = max(latent[row] - shift, -5.0)
            for h in range(width):
                z = scratch[row, h] + seen * net.latent[h] + left * net.step[h]
                scratch[row, width + h] = z / (1.0 + abs(z)) * net.out[h]
        for row in range(rows):
            change = 0.0
            for h in range(width):
                change += scratch[row, width + h]
            latent[row] += change / net.steps


@inlined
def highest_of(values: Floats) -> float:
    """Highest of some values ``[n]``."""
    highest: float = values[0]
    for i in range(1, len(values)):
        highest = max(highest, values[i])
    return highest


@inlined
def bounded(value: float) -> float:
    """A time as a feature: not below −1 and not above 2."""
    return min(max(value, -1.0), 2.0)


class Asked(NamedTuple):
    """What a router knows of a request, beside its candidates."""

    home: int
    weight: float
    deadline_s: float
    least_quality: float
    full_quality: float
    age_s: float
    replicas: float


class Placed(NamedTuple):
    """What an allocator knows of the site where a request runs; times in s, the slack is that with the fewest steps.

    The price of its work is that of a second, in utility.
    """

    backlog_s: float
    mean_s: float
    load_s: float
    least_s: float
    full_s: float
    slack_s: float
    speed: float
    cloud: bool
    work_price: float


@inlined
def route_features(brain: Brain, seen: Floats, asked: Asked, scores: Floats, features: Floats) -> None:
    """Write scores of the rule ``[S + 1]`` and features ``[S + 1, 21]``, or one more, of every candidate."""
    rule, unit_s, sites = brain.rule, brain.unit_s, seen.shape[0] - 1
    mean_s = mean_backlog_s(seen)
    least_s = seen[0, BACKLOG]
    for site in range(1, sites):
        least_s = min(least_s, seen[site, BACKLOG])
    rise = asked.full_quality - asked.least_quality
    for site in range(sites + 1):
        cloud = site == sites
        backlog, load, speed = seen[site, BACKLOG], seen[site, LOAD], seen[site, SPEED]
        full, least, network, slack = seen[site, FULL], seen[site, LEAST], seen[site, NETWORK], seen[site, SLACK]
        room = full - least
        timely = timely_share(slack, room)
        worth = 0.0 if slack < 0.0 else asked.weight * (asked.least_quality + timely * rise)
        scores[site] = score_of(rule, seen, site, mean_s, asked.weight, asked.least_quality, asked.full_quality)
        row = features[site]
        row[0] = backlog / unit_s
        row[1] = seen[site, RESIDENT]
        row[2] = load / unit_s
        row[3] = bounded((slack - room) / unit_s)
        row[4] = bounded(slack / unit_s)
        row[5] = 1.0 if slack < 0.0 else 0.0
        row[6] = worth
        row[7] = mean_s / unit_s
        row[8] = (backlog - least_s) / unit_s
        row[9] = asked.replicas / sites
        row[10] = 0.0 if cloud else (backlog + load + full) / unit_s * speed
        row[11] = 2.0 * full / unit_s
        row[12] = 3.0 * least / unit_s
        row[13] = speed
        row[14] = 1.0 if site == asked.home else 0.0
        row[15] = 1.0 if cloud else 0.0
        row[16] = asked.weight
        row[17] = asked.deadline_s / (2.0 * unit_s)
        row[18] = 2.0 * network / unit_s
        row[19] = seen[site, PRICE]
        row[20] = asked.age_s / brain.second_s
        if len(row) > ROUTER_FEATURES:
            row[ROUTER_FEATURES] = seen[site, WORK_PRICE] * full


@inlined
def allocate_features(
    brain: Brain,
    placed: Placed,
    weight: float,
    deadline_s: float,
    least_quality: float,
    full_quality: float,
    features: Floats,
) -> tuple[float, float]:
    """Write the features of a placed request ``[1, 14]``, or one more.

    Returns the rule's share of the further steps, and the largest that is in time.

    Args:
        brain: Who decides.
        placed: What is known where it runs.
        weight: Its worth.
        deadline_s: Its promised delay, s.
        least_quality: Quality with the fewest steps.
        full_quality: Quality with all steps.
        features: Where to write.
    """
    unit_s, room_s, slack_s = brain.unit_s, placed.full_s - placed.least_s, placed.slack_s
    timely = timely_share(slack_s, room_s)
    value = value_of(weight, least_quality, full_quality, room_s)
    price = placed.work_price
    ladder = steps_share(brain.rule, np.inf, room_s, placed.backlog_s, placed.mean_s, placed.cloud, value, price)
    dear = min(value * brain.second_s, 100.0)
    row = features[0]
    row[0] = placed.backlog_s / unit_s
    row[1] = bounded((slack_s - room_s) / unit_s)
    row[2] = bounded(slack_s / unit_s)
    row[3] = weight
    row[4] = placed.speed
    row[5] = dear / placed.speed
    row[6] = dear / 2.0
    row[7] = placed.mean_s / unit_s
    row[8] = 2.0 * placed.full_s / unit_s
    row[9] = 2.0 * placed.load_s / unit_s
    row[10] = deadline_s / (2.0 * unit_s)
    row[11] = 1.0 if placed.cloud else 0.0
    row[12] = ladder
    row[13] = timely
    if len(row) > ALLOCATOR_FEATURES:
        row[ALLOCATOR_FEATURES] = min(price * brain.second_s, 100.0) / 2.0
    return ladder, timely


@inlined
def choose(
    brain: Brain, seen: Floats, asked: Asked, scores: Floats, latent: Floats, features: Floats, scratch: Floats
) -> int:
    """Choose a site, or S + 1 to refuse, from what is known of each candidate ``[S + 1, 9]``.

    Leaves scores, latents and features.
    """
    route_features(brain, seen, asked, scores, features)
    for c in range(len(scores)):
        scores[c] /= SCORE_UNIT
        latent[c] = scores[c]
    if brain.router.steps > 0:
        denoise(brain.router, features, True, scratch, latent)
    best, highest, noise = 0, -np.inf, brain.rule.noise / SCORE_UNIT
    for c in range(len(latent)):
        score = latent[c]
        if noise > 0.0:
            chance = uniform(asked.age_s, asked.home, c)
            if chance < 0.99 and score + noise * (2.2504 if chance < 0.9 else 4.6002) <= highest:  # as in best_site
                continue
            score -= noise * np.log(-np.log(chance))
        if score > highest:
            best, highest = c, score
    refusal = -brain.rule.refuse_price * asked.weight / SCORE_UNIT
    return len(latent) if refusal > highest else best


@inlined
def divide(
    brain: Brain,
    placed: Placed,
    weight: float,
    deadline_s: float,
    least_quality: float,
    full_quality: float,
    latent: Floats,
    features: Floats,
    scratch: Floats,
) -> float:
    """Choose the share of the steps; leaves the latent ``[1]`` and the features; arguments as above."""
    ladder, timely = allocate_features(brain, placed, weight, deadline_s, least_quality, full_quality, features)
    latent[0] = ladder
    if brain.allocator.steps > 0:
        denoise(brain.allocator, features, False, scratch, latent)
    share: float = min(max(latent[0], 0.0), 1.0, timely)
    return share


@allocating
def plan(
    brain: Brain,
    demand: Floats,
    resident: NDArray[np.uint8],
    size_gb: Floats,
    load_s: Floats,
    work_s: Floats,
    memory_gb: Floats,
    speed: Floats,
    backlog_s: Floats,
    scores: Floats,
    latent: Floats,
    features: Floats,
    wanted: NDArray[np.uint8],
) -> None:
    """Write what each site is to keep ``[S, M]``, with scores, latents ``[S, M]`` and features ``[S, M, 11]``.

    Site by site, as the rule's plan does: models in the order of log(share of the work) − log(share of the speed that
    has it already), plus a bonus for what is there, and what the network adds to that.
    """
    sites, models = demand.shape
    share, covered, total_speed, asked = np.zeros(models), np.zeros(models), 0.0, 1e-9
    replicas, scratch = np.zeros(models), np.empty((models, 2 * len(brain.cacher.bias)))
    for site in range(sites):
        total_speed += speed[site]
        for model in range(models):
            share[model] += demand[site, model]
            replicas[model] += resident[site, model]
            asked += demand[site, model]
    weigh(share, work_s)
    for site in range(sites):
        own = demand[site].sum() + 1e-9
        score, final = scores[site], latent[site]
        score[:] = np.log(share + 1e-3)
        for model in range(models):
            row = features[site, model]
            row[0] = score[model] + 2.0
            score[model] -= np.log(covered[model] / total_speed + 0.05)
            if resident[site, model]:
                score[model] += brain.rule.keeping
            row[1] = float(resident[site, model])
            row[2] = size_gb[model] / memory_gb[site]
            row[3] = 2.0 * load_s[site, model] / brain.unit_s
            row[4] = speed[site]
            row[5] = 5.0 * covered[model] / total_speed
            row[6] = replicas[model] / sites
            row[7] = backlog_s[site] / brain.unit_s
            row[8] = 2.0 * demand[site, model] / own
            row[9] = own / asked * sites
            row[10] = work_s[model] / brain.unit_s
        final[:] = score
        if brain.cacher.steps > 0:
            denoise(brain.cacher, features[site], True, scratch, final)
        wanted[site] = 0
        fill(final, size_gb, memory_gb[site], wanted[site])
        number = max(int(wanted[site].sum()), 1)
        for model in range(models):
            if wanted[site, model]:
                covered[model] += speed[site] / number


@allocating
def choose_all(
    brain: Brain,
    seen: Floats,
    due: NDArray[np.bool_],
    home: Ints,
    columns: Floats,
    to: Ints,
) -> None:
    """Write the site of each copy's request ``[E]``.

    ``columns`` ``[E, 6]`` are worth, promised delay, least and full quality, age of the reports and replicas.
    """
    candidates = seen.shape[1]
    scores, latent = np.zeros(candidates), np.zeros(candidates)
    features = np.zeros((candidates, brain.router.features.shape[0]))
    scratch = np.zeros((candidates, 2 * len(brain.router.bias)))
    for copy in range(len(due)):
        if due[copy]:
            weight, deadline_s, least, full, age_s, replicas = columns[copy]
            asked = Asked(home[copy], weight, deadline_s, least, full, age_s, replicas)
            to[copy] = choose(brain, seen[copy], asked, scores, latent, features, scratch)


@allocating
def divide_all(brain: Brain, due: NDArray[np.bool_], cloud: NDArray[np.bool_], columns: Floats, to: Floats) -> None:
    """Write the share of the steps of each copy's request ``[E]``.

    ``columns`` ``[E, 12]`` are those of :class:`Placed` but the cloud, worth, promised delay, least and full quality.
    """
    latent, features = np.zeros(1), np.zeros((1, brain.allocator.features.shape[0]))
    scratch = np.zeros((1, 2 * len(brain.allocator.bias)))
    for copy in range(len(due)):
        if due[copy]:
            backlog_s, mean_s, load_s, least_s, full_s, slack_s, speed, price = columns[copy, :8]
            weight, deadline_s, least, full = columns[copy, 8:]
            placed = Placed(backlog_s, mean_s, load_s, least_s, full_s, slack_s, speed, cloud[copy], price)
            to[copy] = divide(brain, placed, weight, deadline_s, least, full, latent, features, scratch)
