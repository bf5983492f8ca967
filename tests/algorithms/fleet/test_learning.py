# SPDX-License-Identifier: Apache-2.0
"""The joint learner: losses by hand, known optima, and interruptions that leave no trace."""

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from edgegen.algorithms.core.play import metered
from edgegen.algorithms.fleet import start
from edgegen.algorithms.fleet.config import FleetConfig
from edgegen.algorithms.fleet.decisions import SCORE_UNIT
from edgegen.algorithms.fleet.learning import (
    LATENT,
    LIMIT,
    FleetAllocatorLearner,
    FleetCacherLearner,
    FleetRouterLearner,
    evolution_loss,
)
from edgegen.algorithms.fleet.nets import ResidualChain
from edgegen.algorithms.fleet.replay import PERTURBATION, LabelReplay
from edgegen.algorithms.fleet.spec import FleetSpec
from edgegen.algorithms.fleet.start import tuned_prices
from edgegen.algorithms.methods.fleet import METHOD
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_policy import FleetRule
from edgegen.envs.fleet.physics import RESULT
from edgegen.envs.fleet.world import FleetWorld
from tests.envs.fleet.fleets import small

SCENARIO = small()
SETTINGS = {"prices": Prices(), "copies": 8, "labels": 0.3, "share_labels": 0.3, "cache_labels": 0.5}
QUICK = {**SETTINGS, "horizon_s": 4.0, "cache_horizon_s": 5.0, "updates_per_episode": 3.0, "batch_size": 16}


def learner(of, **overrides):
    settings = METHOD.make_settings("joint", {**SETTINGS, **overrides})
    return of(FleetSpec.of(SCENARIO, settings), settings, SCENARIO)


def test_the_router_gains_expected_advantage_by_hand():
    router = learner(FleetRouterLearner, temperature=SCORE_UNIT)
    latent = torch.tensor([[0.0, float(np.log(3.0))]], requires_grad=True)  # probabilities 1/4 and 3/4
    gain = router.gain(latent, torch.tensor([[2.0, 6.0]]), {}).sum()
    assert gain.item() == pytest.approx(0.0, abs=1e-5)  # over the present choice
    (gradient,) = torch.autograd.grad(gain, latent)
    assert gradient[0].tolist() == pytest.approx([0.25 * (2 - 5), 0.75 * (6 - 5)])


def test_the_allocator_climbs_a_parabola_to_its_top():
    allocator = learner(FleetAllocatorLearner)
    grid = torch.linspace(0, 1, 5)
    value = 3.0 - (grid - 0.6) ** 2
    limit = torch.tensor([0.5])  # shares are of what is in time: the top is at 0.3
    latent = torch.tensor([[0.1]], requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(allocator.gain(latent, value[None], {LIMIT: limit}).sum(), latent)
        latent = (latent + 0.05 * gradient).detach().requires_grad_()
    assert latent.item() == pytest.approx(0.3, abs=1e-3)


def test_the_cacher_raises_what_is_worth_keeping():
    cacher = learner(FleetCacherLearner)
    latent = torch.tensor([[0.0, 1.0, -1.0]], requires_grad=True)
    gain = cacher.gain(latent, torch.tensor([[0.0, -2.0, 2.0]]), {}).sum()
    (gradient,) = torch.autograd.grad(gain, latent)
    assert gradient[0, 1] < 0 < gradient[0, 2]
    assert gradient[0, 0] == 0


def test_the_evolution_s_gradient_is_the_mean_of_perturbations_by_the_rank_of_what_they_gained():
    torch.manual_seed(1)
    chain = ResidualChain(2, 3, 1, True)
    size = sum(parameter.numel() for parameter in chain.parameters())
    noise, gained = torch.randn(4, size), torch.tensor([0.5, -0.1, -9.0, 2.0])
    loss = evolution_loss(chain, noise, gained)
    flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(chain.parameters()))])
    expected = -torch.tensor([0.5, -0.25, -1.0, 0.75]) @ noise / 4
    assert torch.allclose(flat, expected, atol=1e-6)


def test_a_generation_takes_the_place_of_labels_and_is_used_whole():
    replay = LabelReplay(1, 10)
    labels = {Columns.OBS: torch.zeros(1, 4, 2, 3), LATENT: torch.zeros(1, 4, 2)}
    replay.add(labels, torch.ones(1, 4, dtype=torch.bool))
    assert replay.sample(7)[Columns.OBS].shape == (7, 1, 2, 3)
    for number in range(2):
        told = {Columns.OBS: torch.full((1, 5, 9), float(number)), PERTURBATION: torch.arange(5.0)[None]}
        replay.add(told, torch.ones(1, 5, dtype=torch.bool))
    drawn = replay.sample(7)
    assert drawn[PERTURBATION][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (drawn[Columns.OBS] == 1).all()


def test_the_start_is_tuned_on_its_own_episodes_and_always_the_same():
    first, again = (tuned_prices(SCENARIO, 12, 4) for _ in range(2))
    assert first == again

    def mean(prices):
        world = FleetWorld(SCENARIO, 64)
        world.reset(7)
        return metered(world, FleetRule("rule", prices.rule(SCENARIO), "")).values()["utility"].mean()

    assert mean(first) >= mean(Prices()) - 0.01


def test_the_start_plays_no_more_episodes_than_it_says(monkeypatch):
    played = []

    def better_each_time(scenario, rule, given):
        played.append(len(given.number))
        return None, None, np.full((*given.arrival_s.shape, RESULT), float(len(played)))

    monkeypatch.setattr(start, "play_drawn", better_each_time)
    tuned_prices(SCENARIO, 50, 1)
    assert sum(played) == start.start_episodes(50, 1)  # two whole generations, and three that play the final round
    assert played == 48 * [1] + 3 * [16]


def configure(preset="joint", seed=0, **settings):
    return FleetConfig().scenario(SCENARIO).preset(preset, **{**QUICK, **settings}).debugging(seed=seed)


@pytest.mark.e2e
@pytest.mark.usefixtures("cluster")
class TestAlgorithm:
    @pytest.mark.parametrize("preset", ["joint", "forks-es"])
    def test_resumed_equals_uninterrupted_bit_for_bit(self, halved, preset, assert_same_training):
        evolution = {"evolve_after": 16, "evolve_fade": 16, "evolve_pairs": 5, "evolve_episodes": 3}
        settings = evolution if preset == "forks-es" else {}
        resumed, whole = halved(configure(preset, **settings).build_algo)
        assert_same_training(resumed, whole)
        expected = 6 + 2 if preset == "forks-es" else 12
        assert set(whole.updates.values()) == {expected}
        assert len(whole.episodes) == 32

    def test_a_router_learns_to_leave_a_rule_that_is_blind_to_queues(self):
        blind = Prices(load_weight=0, work_price=0, crowding_price=0, ladder_slope=0)
        scenario = small(load=1.1, frames=6)
        config = FleetConfig().scenario(scenario).preset("router", **{**QUICK, "prices": blind, "copies": 32})
        config.training(updates_per_episode=40.0, learning_rate=0.01, batch_size=128).debugging(seed=1)
        algorithm = config.build_algo()
        for _ in range(6):
            algorithm.train()

        def utility(policy):
            world = FleetWorld(scenario, 64)
            world.reset(99)
            return metered(world, policy).values()["utility"]

        gained = utility(algorithm.policy()) - utility(FleetRule("rule", blind.rule(scenario), ""))
        algorithm.stop()
        assert gained.mean() > 3 * gained.std() / 8
