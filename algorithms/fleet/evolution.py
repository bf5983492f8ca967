# SPDX-License-Identifier: Apache-2.0
"""Generations of the evolution strategy: pairs of opposite perturbations of all weights, on the same episodes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from edgegen.algorithms.fleet.decisions import Brain
from edgegen.algorithms.fleet.kernel import play_copies
from edgegen.algorithms.fleet.nets import shifted
from edgegen.algorithms.fleet.start import mean_utility
from edgegen.envs.core.threads import in_threads
from edgegen.envs.fleet.books import books_of, fixed_of
from edgegen.envs.fleet.draws import Requests
from edgegen.envs.fleet.physics import RESULT
from edgegen.envs.fleet.scenario import FleetScenario, Floats


def play_pairs(
    scenario: FleetScenario,
    brain: Brain,
    requests: Requests,
    changes: dict[str, Tensor],
    each: int,
    threads: int | None = None,
) -> Floats:
    """Play each change of the weights and its opposite; returns what the change gains against it ``[P]``.

    Args:
        scenario: The world.
        brain: Who decides, unchanged.
        requests: What arrives in E episodes. They are dealt out in groups of ``each``; pair p plays group p, and the
            groups are begun again where there are more pairs.
        changes: By role, flat changes of the weights of its chain ``[P, D]``.
        each: Episodes of a pair, at most E.
        threads: Threads that share the pairs; as many as there are cores if None.
    """
    fixed, groups = fixed_of(scenario), len(requests.number) // each
    gained = np.zeros(len(next(iter(changes.values()))))

    def play(first: int, end: int) -> None:
        for pair in range(first, end):
            begin = pair % groups * each
            part = {name: column[begin : begin + each] for name, column in requests._asdict().items()}
            given = requests._replace(**part)
            for sign in (1.0, -1.0):
                moved = {role: shifted(getattr(brain, role), sign * change[pair]) for role, change in changes.items()}
                books, results = books_of(scenario, given), np.zeros((*given.arrival_s.shape, RESULT))
                changed = brain._replace(**moved)  # type: ignore[arg-type]  # roles are the names of the networks
                play_copies(changed, fixed, given, books, scenario.frames, 0, each, results)
                gained[pair] += sign * mean_utility(given, results).mean()

    in_threads(len(gained), play, threads)
    return gained
