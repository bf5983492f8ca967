# SPDX-License-Identifier: Apache-2.0
"""Steps by the rules of the fleet, compiled: as many as a request has time for, fewer while sites are busy."""

from __future__ import annotations

from edgegen.algorithms.rules.fleet_constants import ALL, LADDER, PRICED, Rule
from edgegen.envs.core.compiled import inlined

USUAL_VALUE = 0.5
"""Gain in utility per second of a site at which a ladder does not depend on ``weight_power``."""


@inlined
def value_of(weight: float, least_quality: float, full_quality: float, room_s: float) -> float:
    """Gain in utility of each second that a site spends on more than the fewest steps; ``room_s`` is that of all."""
    value: float = weight * (full_quality - least_quality) / max(room_s, 1e-9)
    return value


@inlined
def timely_share(slack_s: float, room_s: float) -> float:
    """Share of the further steps for which there is time: ``slack_s`` is left, all of them take ``room_s``."""
    if slack_s >= room_s:
        return 1.0
    return slack_s / room_s if slack_s > 0.0 else 0.0


@inlined
def steps_share(
    rule: Rule,
    slack_s: float,
    room_s: float,
    backlog_s: float,
    mean_s: float,
    cloud: bool,
    value: float = USUAL_VALUE,
    work_price: float = 0.0,
) -> float:
    """Share of the steps between the fewest and all.

    Args:
        rule: The rule.
        slack_s: What is left of the promised delay with the fewest steps, s.
        room_s: Time that all further steps take, s.
        backlog_s: Backlog of the site, s.
        mean_s: Mean backlog of all sites, s.
        cloud: Whether that is the cloud, where nobody waits.
        value: Gain of a second, as by :func:`value_of`.
        work_price: What the objective's tariffs charge for a second at a site; rules by prices make no more steps than
            the fewest where they gain less.
    """
    if rule.router == PRICED and work_price > value and not cloud:
        return 0.0
    if rule.steps == ALL:
        return 1.0
    share = timely_share(slack_s, room_s)
    if rule.steps == LADDER and not cloud:
        busy_s = rule.own_share * backlog_s + (1.0 - rule.own_share) * mean_s
        if busy_s > rule.ladder_from_s:
            slope = rule.ladder_slope
            if rule.weight_power > 0.0:
                slope *= (USUAL_VALUE / max(value, 1e-9)) ** rule.weight_power
            share = min(share, max(1.0 - slope * (busy_s - rule.ladder_from_s), 0.0))
    return share
