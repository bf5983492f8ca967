# SPDX-License-Identifier: Apache-2.0
"""Which runner plays for which shard: one on its own host, so that fragments stay there."""

from __future__ import annotations

import math
from typing import NamedTuple

RUNNERS_PER_SHARD = 6
"""Env runners that share a shard unless told otherwise: it takes about an eighth of what one of them takes per slot."""


class Seating(NamedTuple):
    """Where shards are, and who plays for them.

    Attributes:
        nodes: Host of each shard.
        shards: Shard of each runner.
    """

    nodes: tuple[str, ...]
    shards: tuple[int, ...]


def seat(nodes: list[str], shards: int) -> Seating:
    """Spread shards over the hosts of runners, and runners over the shards.

    Args:
        nodes: Host of each runner; empty if that is not known.
        shards: Number of shards; 0 is one for every ``RUNNERS_PER_SHARD`` runners of a host.
    """
    hosts = list(dict.fromkeys(node for node in nodes if node)) or [""]
    if shards:
        places = tuple(hosts[number % len(hosts)] for number in range(shards))
    else:
        needed = {host: max(1, math.ceil(nodes.count(host) / RUNNERS_PER_SHARD)) for host in hosts}
        places = tuple(host for host in hosts for _ in range(needed[host]))
    load = [0] * len(places)
    chosen = []
    for node in nodes:
        near = [number for number, place in enumerate(places) if place == node] or list(range(len(places)))
        best = min(near, key=lambda number: load[number])
        load[best] += 1
        chosen.append(best)
    return Seating(places, tuple(chosen))
