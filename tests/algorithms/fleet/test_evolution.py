# SPDX-License-Identifier: Apache-2.0
"""Generations of the evolution strategy: what pairs gain, on which episodes, and how the step size fades."""

import numpy as np
import pytest
import torch

from edgegen.algorithms.fleet.episodes import play_brain
from edgegen.algorithms.fleet.evolution import play_pairs
from edgegen.algorithms.fleet.learning import FleetLearning, evolution_rate
from edgegen.algorithms.fleet.nets import flat_size, shifted
from edgegen.algorithms.fleet.spec import FEATURES
from edgegen.algorithms.fleet.start import mean_utility
from edgegen.algorithms.methods.fleet import METHOD
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.envs.fleet.draws import draw_requests
from tests.envs.fleet.fleets import small

SCENARIO = small(load=1.0)
EPISODES, EACH, PAIRS = 7, 3, 5


@pytest.fixture(scope="module")
def generation():
    learning = FleetLearning(SCENARIO, METHOD.make_settings("joint", {"prices": Prices()}))
    torch.manual_seed(3)
    chains = {role: learner.network() for role, learner in learning.roles.items()}
    changes = {role: 0.4 * torch.randn(PAIRS, flat_size(FEATURES[role], learning.spec.hidden)) for role in chains}
    return learning.policy(chains, 0).brain, draw_requests(SCENARIO, 5, range(EPISODES)), changes


def test_a_pair_gains_what_one_way_has_more_than_the_opposite_on_its_episodes(generation):
    brain, requests, changes = generation
    gained = play_pairs(SCENARIO, brain, requests, changes, EACH)
    for pair in range(PAIRS):
        utility = []
        for sign in (1, -1):
            moved = {role: shifted(getattr(brain, role), sign * change[pair]) for role, change in changes.items()}
            utility.append(mean_utility(requests, play_brain(SCENARIO, brain._replace(**moved), requests)[2]))
        begin = pair % 2 * EACH  # two groups of three; the seventh episode is left over
        assert gained[pair] == pytest.approx((utility[0] - utility[1])[begin : begin + EACH].mean(), abs=1e-12)
    assert np.abs(gained).min() > 0


def test_opposite_changes_gain_the_opposite_on_any_number_of_threads(generation):
    brain, requests, changes = generation
    gained = play_pairs(SCENARIO, brain, requests, changes, EACH, threads=1)
    opposite = play_pairs(SCENARIO, brain, requests, {r: -c for r, c in changes.items()}, EACH, threads=3)
    assert (opposite == -gained).all()
    unchanged = {role: torch.zeros_like(change) for role, change in changes.items()}
    assert (play_pairs(SCENARIO, brain, requests, unchanged, EPISODES) == 0).all()


@pytest.mark.parametrize(("episodes", "share"), [(0, 1.0), (100, 1.0), (120, 0.75), (130, 0.5), (160, 0.0), (900, 0.0)])
def test_the_step_size_fades_along_half_a_cosine_from_the_evolution_s_beginning(episodes, share):
    fading = METHOD.make_settings("joint", {"evolve_after": 100, "evolve_fade": 60, "evolve_rate": 0.2})
    assert evolution_rate(fading, episodes) == pytest.approx(0.2 * share, abs=1e-12)
    steady = METHOD.make_settings("joint", {"evolve_after": 100, "evolve_rate": 0.2})
    assert evolution_rate(steady, episodes) == 0.2
