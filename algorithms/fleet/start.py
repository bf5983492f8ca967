# SPDX-License-Identifier: Apache-2.0
"""Where training starts: the rule `price-greedy` with constants that were searched in the world of the training."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.fleet.draws import Requests, draw_requests
from edgegen.envs.fleet.physics import UTILITY
from edgegen.envs.fleet.scenario import FleetScenario, Floats

_STREAM = 2**63 + 3  # of the episodes that constants are searched on; beyond every seed of training and evaluation
_SPREAD = 0.15  # of the search at first, in widths of the ranges
_FINALISTS, _FINAL = 3, 16  # sets of constants in the final round, and how many times as many episodes each plays there


def mean_utility(requests: Requests, results: Floats) -> Floats:
    """Mean utilities of the requests of each episode ``[E]``; 0 without any."""
    total: Floats = results[..., UTILITY].sum(1)
    return total / np.maximum(requests.number, 1)


@lru_cache(maxsize=8)
def _tuned(scenario_json: str, trials: int, episodes: int) -> Prices:
    from cmaes import CMA  # brings scipy.stats, which only a search needs

    scenario, ranges = FleetScenario.model_validate_json(scenario_json), Prices.ranges()
    low, high = (np.array([getattr(r, end) for r in ranges.values()]) for end in ("low", "high"))

    def priced(place: Floats) -> Prices:
        return Prices(**dict(zip(ranges, (low + (high - low) * place.clip(0.0, 1.0)).tolist(), strict=True)))

    def utility(prices: Prices, given: Requests) -> float:
        results = play_drawn(scenario, prices.rule(scenario), given)[2]
        return float(mean_utility(given, results).mean())

    begin = (np.array(list(Prices().model_dump().values())) - low) / (high - low)
    bounds = np.array([[0.0, 1.0]] * len(ranges))
    search = CMA(begin, _SPREAD, bounds, seed=0, population_size=_population(trials))
    best = begin
    for generation in range(trials // search.population_size):  # other episodes each: none of them wins by luck
        requests = draw_requests(scenario, _STREAM, range(generation * episodes, (generation + 1) * episodes))
        places = [search.ask() for _ in range(search.population_size)]
        values = [utility(priced(place), requests) for place in places]
        search.tell([(place, -value) for place, value in zip(places, values, strict=True)])
        best = places[int(np.argmax(values))]
    finalists = {Prices(), priced(best), priced(search.mean)}
    others = draw_requests(scenario, _STREAM, range(trials * episodes, (trials + _FINAL) * episodes))
    return max(sorted(finalists, key=str), key=lambda prices: utility(prices, others))


def _population(trials: int) -> int:
    return max(2, min(24, trials))


def start_episodes(trials: int, episodes: int) -> int:
    """Number of episodes that :func:`tuned_prices` plays at most, the final round included; arguments as there."""
    population = _population(trials)
    return (trials // population * population + _FINALISTS * _FINAL) * episodes


def tuned_prices(scenario: FleetScenario, trials: int, episodes: int) -> Prices:
    """Search the constants of `price-greedy` in a world: the same ones at every call, and once per process.

    The search is CMA-ES from the defaults (Hansen 2016), each generation on other episodes. Its last middle, the best
    of its last generation and the defaults then play a final round.

    Args:
        scenario: The world.
        trials: Sets of constants to try.
        episodes: Episodes that each plays.
    """
    return _tuned(scenario.model_dump_json(), trials, episodes)
