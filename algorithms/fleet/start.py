"""Where training starts: the rule `price-greedy` with constants that were searched in the world of the training."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import optuna

from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.fleet.draws import Requests, draw_requests
from edgegen.envs.fleet.physics import UTILITY
from edgegen.envs.fleet.scenario import FleetScenario, Floats

_STREAM = 2**63 + 3  # of the episodes that constants are searched on; beyond every seed of training and evaluation
_FINALISTS, _FINAL = 5, 4


def mean_utility(requests: Requests, results: Floats) -> Floats:
    """Mean utilities of the requests of each episode ``[E]``; 0 without any."""
    total: Floats = results[..., UTILITY].sum(1)
    return total / np.maximum(requests.number, 1)


@lru_cache(maxsize=8)
def _tuned(scenario_json: str, trials: int, episodes: int) -> Prices:
    scenario = FleetScenario.model_validate_json(scenario_json)
    requests = draw_requests(scenario, _STREAM, range(episodes))

    def utility(prices: Prices, given: Requests) -> float:
        results = play_drawn(scenario, prices.rule(scenario), given)[2]
        return float(mean_utility(given, results).mean())

    def objective(trial: optuna.Trial) -> float:
        ranges = Prices.ranges()
        prices = Prices(**{name: trial.suggest_float(name, r.low, r.high, log=r.log) for name, r in ranges.items()})
        return utility(prices, requests)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(Prices().model_dump())
    study.optimize(objective, trials)
    ranked = sorted(study.trials, key=lambda trial: -float(trial.value or 0.0))[:_FINALISTS]
    others = draw_requests(scenario, _STREAM, range(episodes, (1 + _FINAL) * episodes))
    finalists = {Prices(**trial.params) for trial in ranked} | {Prices()}
    return max(sorted(finalists, key=str), key=lambda prices: utility(prices, others))


def start_episodes(trials: int, episodes: int) -> int:
    """Number of episodes that :func:`tuned_prices` plays at most, the final round included; arguments as there."""
    return trials * episodes + (_FINALISTS + 1) * _FINAL * episodes


def tuned_prices(scenario: FleetScenario, trials: int, episodes: int) -> Prices:
    """Search the constants of `price-greedy` in a world: the same ones at every call, and once per process.

    Args:
        scenario: The world.
        trials: Sets of constants to try; the first is the defaults.
        episodes: Episodes that each plays.
    """
    return _tuned(scenario.model_dump_json(), trials, episodes)
