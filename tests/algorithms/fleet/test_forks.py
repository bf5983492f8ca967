# SPDX-License-Identifier: Apache-2.0
"""Labels from forks: what happens if one decision is another one and all that follows is as the policy would."""

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.fleet.decisions import CACHER_FEATURES
from edgegen.algorithms.fleet.episodes import label_caches, label_requests, play_brain
from edgegen.algorithms.fleet.forks import GRID
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.physics import SITE, UTILITY
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER
from edgegen.envs.fleet.world import FleetWorld
from tests.algorithms.fleet.test_decisions import policy_for
from tests.envs.fleet.fleets import small

SCENARIO = small(load=1.1)
HORIZON_S = 4.0


class Scripted(FleetPolicy):
    """Decides as another policy but for one decision."""

    def __init__(self, policy, role, number, action):
        super().__init__(policy.networks, policy.spec, policy.scenario)
        self.role, self.number, self.action, self.seen = role, number, action, 0

    def decide(self, role, view, memory, explore=True):
        decided = super().decide(role, view, memory, explore)
        if role == self.role:
            if self.seen == self.number:
                decided = decided._replace(action=self.action(decided.action))
            self.seen += 1
        return decided


def total(policy, episode, from_s, until_s):
    """Utility of what arrives from one time to another in an episode that is played turn by turn."""
    world = FleetWorld(SCENARIO, 1)
    world.reset(3, episode)
    memory: Memory = {}
    gained, at = 0.0, 0
    while (role := world.turn) is not None:
        action, memory = policy.act(role, world.observe(), memory)
        outcome = world.decide(action)
        if outcome.result is not None and outcome.due is not None and bool(outcome.due[0]):
            arrival_s = world.future.arrival_s[0, at]
            gained += float(outcome.result[0, UTILITY]) * (from_s <= arrival_s < until_s)
            at += 1
    return gained


@pytest.fixture(scope="module")
def policy():
    return policy_for(SCENARIO, 0.3)


@pytest.fixture(scope="module")
def requests():
    return draw_requests(SCENARIO, 3, range(2))


def test_a_router_s_label_is_the_utility_of_an_episode_with_another_site(policy, requests):
    marked = np.zeros(requests.arrival_s.shape, dtype=np.uint8)
    number = 6
    marked[:, number] = 1
    routes, shares = label_requests(SCENARIO, policy.brain, requests, marked, HORIZON_S)
    assert routes.filled.tolist() == [1, 1]
    assert len(shares.value) == 0
    for episode in range(2):
        now_s = requests.arrival_s[episode, number]
        for site in range(SCENARIO.sites + 1):
            other = Scripted(policy, ROUTER, number, lambda action, site=site: torch.full_like(action, site))
            expected = total(other, episode, now_s, now_s + HORIZON_S)
            assert routes.value[episode, site] == pytest.approx(expected, abs=1e-9)


def test_an_allocator_s_labels_are_shares_up_to_the_one_in_time(policy, requests):
    marked = np.zeros(requests.arrival_s.shape, dtype=np.uint8)
    number = 5
    marked[:, number] = 2
    _, shares = label_requests(SCENARIO, policy.brain, requests, marked, HORIZON_S)
    for episode in range(2):
        now_s = requests.arrival_s[episode, number]
        for point in range(GRID):
            share = point / (GRID - 1) * shares.limit[episode]
            other = Scripted(policy, ALLOCATOR, number, lambda action, share=share: torch.full_like(action, share))
            expected = total(other, episode, now_s, now_s + HORIZON_S)
            assert shares.value[episode, point] == pytest.approx(expected, abs=1e-9)


def test_a_cacher_s_label_is_what_is_gained_by_keeping_a_model(policy, requests):
    frame, site = 1, 1
    marked = np.zeros((2, SCENARIO.frames, SCENARIO.sites), dtype=np.uint8)
    marked[:, frame, site] = 1
    caches = label_caches(SCENARIO, policy.brain, requests, marked, HORIZON_S)
    assert caches.features.shape == (2, 3, CACHER_FEATURES)
    now_s = frame * SCENARIO.frame_s
    for episode in range(2):
        for model in range(3):
            values = []
            for kept in (True, False):

                def forced(action, kept=kept, model=model):
                    action = action.clone()
                    action[0, site, model] = kept
                    return action

                values.append(total(Scripted(policy, CACHER, frame, forced), episode, now_s, now_s + HORIZON_S))
            assert caches.value[episode, model] == pytest.approx(values[0] - values[1], abs=1e-9)


def test_forks_leave_the_episode_alone_and_do_not_depend_on_threads(policy, requests):
    marked = np.ones(requests.arrival_s.shape, dtype=np.uint8)
    one, three = (label_requests(SCENARIO, policy.brain, requests, marked, HORIZON_S, threads)[0] for threads in (1, 3))
    assert np.array_equal(one.value, three.value)
    # Each label's features are those of the request in the episode that is played without forks.
    plain = play_brain(SCENARIO, policy.brain, requests)[2]
    chosen = plain[0, : one.filled[0], SITE].astype(int)
    homes = one.features[: one.filled[0], :, 14].argmax(1)
    assert (homes == requests.home[0, : one.filled[0]]).all()
    assert len(set(chosen.tolist())) > 1


def test_no_label_reaches_beyond_the_episode(policy, requests):
    marked = np.ones(requests.arrival_s.shape, dtype=np.uint8)
    routes, _ = label_requests(SCENARIO, policy.brain, requests, marked, HORIZON_S)
    last_s = SCENARIO.duration_s - HORIZON_S
    assert routes.filled.tolist() == [int((row <= last_s).sum()) for row in requests.arrival_s]
