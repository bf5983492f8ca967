# SPDX-License-Identifier: Apache-2.0
"""The caching network: numbering of caches, additive values, and the search for the best that fits."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.core.columns import Columns

from edgegen.algorithms.methods.t2drl import METHOD, T2DRLSpec
from edgegen.algorithms.roles.cacher.learning import SIZES, cacher_objective
from edgegen.algorithms.roles.cacher.state import FrameState
from edgegen.algorithms.rules import best_cache
from edgegen.algorithms.rules.best_cache import all_caches, best_fitting, cache_bits, cache_number
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.world import ProvisioningWorld

WORLD = load_scenario("t2drl-default", {"models": 4, "users": 3})


def network(**overrides):
    torch.manual_seed(0)
    return T2DRLSpec.of(WORLD, METHOD.make_settings("paper", {"cacher_hidden": 8, **overrides})).cacher()


def test_caches_are_numbered_by_their_bits():
    assert cache_bits(torch.tensor([0, 1, 6]), 3).tolist() == [[False] * 3, [True, False, False], [False, True, True]]
    assert torch.equal(cache_number(all_caches(5, torch.device("cpu"))), torch.arange(32))


@pytest.mark.parametrize("head", ["subsets", "per_model"])
def test_the_best_cache_has_the_highest_value_of_all(head):
    net = network(caching_head=head)
    state = torch.randn(1, 20, net.layout.size)
    size = torch.rand(1, 20, 4) * 0.8
    values = net(state)
    best = net.value_of(values, net.best(values, size))
    for bits in itertools.product([False, True], repeat=4):
        cache = torch.tensor(bits).expand(1, 20, 4)
        fits = (size * cache).sum(-1) <= 1 if head == "per_model" else torch.ones(1, 20, dtype=torch.bool)
        assert (net.value_of(values, cache) <= best + 1e-5)[fits].all()


def test_additive_values_by_hand():
    net = network(caching_head="per_model")
    values = torch.tensor([[[10.0, 1, -2, 4, 8]]])  # V, then one per model
    cache = torch.tensor([[[True, True, False, True]]])
    assert net.value_of(values, cache).item() == 10 + 1 - 2 + 8
    # Storage 1: models 3 and 4 do not fit together; 8 alone loses to 4 + 1 + nothing? No: 8 + 1 fits and wins.
    size = torch.tensor([[[0.4, 0.1, 0.5, 0.6]]])
    assert net.best(values, size).tolist() == [[[True, False, False, True]]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 1.2)), min_size=1, max_size=8))
def test_greedy_fits_is_useful_and_never_beats_the_exact_search(models):
    values, size = (torch.tensor(column) for column in zip(*models, strict=True))
    exact = best_fitting(values, size)
    before = best_cache.ENUMERATED
    try:
        best_cache.ENUMERATED = 0
        greedy = best_fitting(values, size)
    finally:
        best_cache.ENUMERATED = before
    for chosen in (exact, greedy):
        assert (size * chosen).sum() <= 1 + 1e-5
        assert (values[chosen] >= 0).all()
    assert (values * greedy).sum() <= (values * exact).sum() + 1e-5


def test_hundreds_of_models_need_no_table_of_all_caches():
    world = load_scenario("t2drl-default", {"models": 300, "storage_gb": 100})
    with pytest.raises(InputError, match=r"a value for each of 2\^300 sets of models.*choose 'per_request'"):
        T2DRLSpec.of(world, METHOD.make_settings("paper"))
    spec = T2DRLSpec.of(world, METHOD.make_settings("paper", {"caching_head": "per_model", "cacher_hidden": 8}))
    net = spec.cacher()
    assert sum(p.numel() for p in net.parameters()) < 20_000
    state = torch.randn(1, 2, spec.frame_state_size)
    best = net.best(net(state), torch.full((1, 2, 300), 0.05))
    assert best.sum(-1).max() <= 20


def test_one_scorer_serves_all_models():
    # Without the models' numbers among the features nothing but the features could tell them apart.
    net = network(caching_head="per_model", see_skewness=False, see_previous_cache=False)
    features, frame = net.layout.split(torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]))
    assert features[..., 0].tolist() == [[pytest.approx([0.1, 0.2, 0.3, 0.4])]]
    assert torch.equal(features[0, 0, :, 1:], torch.eye(4))
    assert frame.shape[-1] == 0


def test_values_by_expected_requests_by_hand():
    net = network(caching_head="per_request")
    net.log_belief = lambda state: torch.tensor([[[0.5, 0.25, 0.25, 0]]]).log()
    net.worth_of = lambda state: torch.tensor([[[[1.0, 4], [2, -8], [3, 12], [9, 99]]]])
    values = net(torch.zeros(1, 1, net.layout.size))
    assert values.flatten().tolist() == [0.5 + 0.5 + 0.75, 2, -2, 3, 0]
    size = torch.full((1, 1, 4), 0.3)
    assert net.best(values, size).tolist() == [[[True, False, True, False]]]


def test_request_shares_are_found_again_in_the_state():
    for overrides in ({}, {"see_skewness": False, "history_decay": 0.5}, {"see_previous_cache": False}):
        spec = T2DRLSpec.of(WORLD, METHOD.make_settings("paper", overrides))
        simulator = ProvisioningWorld(WORLD, 5)
        simulator.reset(seed=1)
        simulator.cache(torch.zeros(5, 1, 4, dtype=torch.bool))
        for _ in range(WORLD.slots_per_frame):
            shares = torch.full((5, 1, 3), 1 / 3)
            simulator.allocate(shares, shares)
        frame = simulator.observe_frame()
        state = FrameState(WORLD, spec.settings)(frame)
        assert torch.allclose(spec.frame.frequency(state), frame.frequency)
        assert torch.allclose(spec.frame.frequency(state).sum(-1), torch.ones(5, 1))


def test_worth_is_learned_from_the_requests_that_came_and_belief_from_their_shares():
    net = network(caching_head="per_request", see_skewness=False, see_previous_cache=False)
    worth = torch.tensor([[[[1.0, 4], [2, 0], [3, 8], [0, 0]]]])
    net.worth_of, net.log_belief = lambda state: worth, lambda state: torch.full((1, 1, 4), math.log(0.25))
    batch = {
        Columns.OBS: torch.zeros(1, 1, 4),
        Columns.NEXT_OBS: torch.tensor([[[0.5, 0.25, 0.25, 0]]]) * 4,  # shares times M
        Columns.ACTIONS: torch.tensor([[[True, False, True, True]]]),
        Columns.REWARDS: torch.tensor([[3.0]]),
        Columns.TERMINATEDS: torch.ones(1, 1),
        SIZES: torch.full((1, 1, 4), 0.2),
    }
    loss = cacher_objective(METHOD.make_settings("paper"), net, net, batch, 0.9)
    value = 0.5 * (1 + 4) + 0.25 * 2 + 0.25 * (3 + 8)
    assert loss.item() == pytest.approx((value - 3) ** 2 + math.log(4))
