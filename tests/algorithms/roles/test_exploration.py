# SPDX-License-Identifier: Apache-2.0
"""What T2DRL explores with, and what it makes of rewards."""

import pytest
import torch

from edgegen.algorithms.methods.configs import T2DRLConfig
from edgegen.algorithms.methods.t2drl import METHOD, T2DRLLearning, T2DRLPolicy, T2DRLSpec
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.algorithms.roles.allocator.learning import AllocatorLearner
from edgegen.algorithms.roles.reward_scale import RewardScale
from edgegen.algorithms.rules.caching import StaticPopular, equal_bandwidth, equal_compute
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.physics import serve
from edgegen.envs.provisioning.world import ProvisioningWorld

WORLD = load_scenario("t2drl-default")


def policy_of(preset="improved", **overrides):
    torch.manual_seed(0)
    spec = T2DRLSpec.of(WORLD, METHOD.make_settings(preset, {"hidden": 8, "cacher_hidden": 8, **overrides}))
    return T2DRLPolicy(spec, spec.actor(), spec.cacher(), WORLD, seed=1)


def test_random_caches_by_popularity_have_more_hits_and_are_feasible():
    frame = ProvisioningWorld(WORLD, 500).reset(seed=2)
    popularity = {}
    for kind in ("uniform", "popular"):
        policy = policy_of(random_caches=kind)
        policy.cacher.epsilon = 1.0
        cache = policy.cacher.decide(frame).cache
        assert ((frame.size_gb * cache).sum(-1) <= 20 * (1 + 1e-6)).all()
        assert len(cache.flatten(0, 1).unique(dim=0)) > 20
        popularity[kind] = float((frame.static_popularity * cache).sum(-1).mean())
    best = float((frame.static_popularity * StaticPopular().act("cacher", frame, {})[0]).sum(-1).mean())
    assert popularity["uniform"] + 0.05 < popularity["popular"] < best + 0.05


def test_some_slots_serve_some_users_only_and_only_while_exploring():
    policy, simulator = policy_of(), ProvisioningWorld(WORLD, 2000)
    simulator.reset(seed=3)
    simulator.cache(StaticPopular().act("cacher", simulator.observe_frame(), {})[0])
    slot = simulator.observe_slot()

    def dropped(explore):
        raw = policy.allocator.decide(slot, explore).action[:, 0, 10:]
        return (raw == -1).sum(-1)

    assert (dropped(True) == 0).all()
    policy.allocator.serve_some = 0.3
    assert (dropped(False) == 0).all()
    counts = dropped(True)
    # Any number from 1 to all of the users is dropped where 0 is not, as often as any other.
    assert (counts > 0).float().mean() == pytest.approx(0.3 * 0.9, abs=0.04)
    histogram = torch.bincount(counts[counts > 0], minlength=11)[1:10].float()
    assert (histogram / histogram.sum() - 1 / 9).abs().max() < 0.06


def test_nobody_loses_all_bandwidth_by_being_explored():
    policy = policy_of()
    policy.allocator.serve_some = 1.0
    raw = torch.full((1000, 1, 20), -0.99)  # little of everything, which makes equal shares
    bandwidth = (policy.allocator._serve_some(raw)[..., :10] + 1) / 2
    share = bandwidth / bandwidth.sum(-1, keepdim=True)
    assert 0.3 / 10 < share.min() < 0.7 / 10
    assert share.log().std().item() == pytest.approx(0.2, abs=0.02)


def test_a_plain_actor_explores_computing_by_sums_and_bandwidth_by_factors():
    policy, simulator = policy_of("ddpg"), ProvisioningWorld(WORLD, 500)
    simulator.reset(seed=3)
    simulator.cache(StaticPopular().act("cacher", simulator.observe_frame(), {})[0])
    slot = simulator.observe_slot()
    plain = policy.allocator.decide(slot).action
    policy.allocator.noise = 0.1
    assert (policy.allocator.decide(slot, explore=False).action == plain).all()
    noisy = policy.allocator.decide(slot).action
    assert (noisy - plain)[..., 10:].std().item() == pytest.approx(0.1, abs=0.005)
    assert ((noisy + 1) / (plain + 1))[..., :10].log().std().item() == pytest.approx(0.1, abs=0.005)


def test_rewards_are_what_equal_shares_would_have_cost_more():
    config = T2DRLConfig().scenario(WORLD).preset("improved", copies=2, hidden=8, cacher_hidden=8)
    runner = JointEnvRunner(config=config.debugging(seed=0))
    simulator, learning = runner.simulator, runner.learning
    assert isinstance(simulator, ProvisioningWorld)
    assert isinstance(learning, T2DRLLearning)
    learner = learning.roles["allocator"]
    assert isinstance(learner, AllocatorLearner)
    simulator.cache(StaticPopular().act("cacher", simulator.observe_frame(), {})[0])
    slot = simulator.observe_slot()
    decision = runner.policy.allocator.decide(slot)
    equal = serve(WORLD, slot, equal_bandwidth(slot), equal_compute(slot))
    outcome = simulator.allocate(decision.bandwidth, decision.compute)
    reward = learner.reward(slot, outcome, decision.order)
    assert torch.allclose(reward, (equal.cost - outcome.cost) * learning.reward_scale.slot, atol=1e-5)
    assert (learner.reward(slot, equal, decision.order) == 0).all()
    assert reward.abs().max() > 0.01


def test_rewards_of_frames_have_a_mean_of_zero_and_a_spread_of_one():
    settings = METHOD.make_settings("improved")
    scale = RewardScale.of(WORLD, settings)
    assert scale == RewardScale.of(WORLD, settings)
    assert -46 < scale.frame_mean < -38
    assert RewardScale.of(WORLD, METHOD.make_settings("paper", {"reward_scale": 0.5})) == RewardScale(0.5, 0.0, 0.5)
    frames = []
    simulator = ProvisioningWorld(WORLD, 64)
    frame = simulator.reset(seed=5)
    policy = policy_of(random_caches="uniform")
    policy.cacher.epsilon = 1.0
    while not simulator.done:
        simulator.cache(policy.cacher.decide(frame).cache)
        for _ in range(WORLD.slots_per_frame):
            slot = simulator.observe_slot()
            simulator.allocate(equal_bandwidth(slot), equal_compute(slot))
        frames.append((simulator.frame_reward() - scale.frame_mean) * scale.frame)
        frame = simulator.observe_frame()
    rewards = torch.stack(frames)
    assert rewards.mean() == pytest.approx(0, abs=0.15)
    assert rewards.std() == pytest.approx(1, abs=0.2)
