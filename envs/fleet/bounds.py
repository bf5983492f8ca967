# SPDX-License-Identifier: Apache-2.0
"""What requests would be worth on an idle fleet, compiled: more than any policy can make of them."""

from __future__ import annotations

import numpy as np

from edgegen.envs.core.compiled import compiled
from edgegen.envs.fleet.draws import ASKED, Requests
from edgegen.envs.fleet.physics import QUALITY, RESULT, UTILITY, Books, Fixed, empty_books, place
from edgegen.envs.fleet.scenario import FleetScenario, Floats


def idle_bounds(scenario: FleetScenario, fixed: Fixed, requests: Requests) -> Floats:
    """Best utility of each request if it were alone, every site had every model, and the best were chosen ``[E, N]``.

    It pays for its ways, its generation and the cloud, and never waits or loads. What is missing to that has been lost
    to the load or by a policy.
    """
    books = empty_books(len(requests.number), scenario.sites, len(scenario.kinds_of_models))
    books.resident[:] = 1
    fixed = fixed._replace(forgetful=False)  # nothing happens to it either
    bounds = np.zeros_like(requests.arrival_s)
    _write(fixed, requests, books, scenario.choices, np.zeros(RESULT), bounds)
    return bounds


@compiled
def _write(fixed: Fixed, requests: Requests, books: Books, choices: int, result: Floats, bounds: Floats) -> None:
    """Write the bounds ``[E, N]``; books, of an idle fleet, and result are for scratch."""
    sites = books.free_s.shape[1]
    for copy in range(len(requests.number)):
        for k in range(requests.number[copy]):
            home, model = requests.home[copy, k], requests.model[copy, k]
            full = requests.more[copy, k, ASKED]
            room = max(full - min(fixed.least_steps[model], full), 1.0)
            best = -np.inf
            for i in range(choices):
                # The home first: what is worth much there spares most of the others.
                site = home if i == 0 else (i - 1 if i <= home else i)
                price = 0.0
                if site != home:
                    price = fixed.hop_price if site < sites else 0.0 if site > sites else fixed.cloud_price
                most = requests.weight[copy, k] * fixed.full_quality[model] - price
                steps = room
                while steps >= 0.0 and most > best:
                    books.cursor[copy] = k
                    if site < sites:
                        books.free_s[copy, site] = 0.0
                    place(fixed, requests, books, copy, site, steps / room, result)
                    best = max(best, result[UTILITY])
                    most = requests.weight[copy, k] * result[QUALITY] - price  # with fewer steps, at most
                    steps -= 1.0
            bounds[copy, k] = best
