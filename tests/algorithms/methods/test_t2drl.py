# SPDX-License-Identifier: Apache-2.0
"""T2DRL in RLlib: what its fragments hold, that both agents learn, and that interruptions leave no trace."""

import copy

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.columns import Columns

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.methods.configs import T2DRL, T2DRLConfig
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.algorithms.roles.cacher.learning import SIZES
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.world import ProvisioningWorld

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("cluster")]

SMALL = load_scenario("t2drl-default", {"users": 3, "models": 4, "frames": 3, "slots_per_frame": 2, "storage_gb": 12})
QUICK = {
    "hidden": 8,
    "hidden_layers": 1,
    "cacher_hidden": 8,
    "denoising_steps": 2,
    "batch_size": 16,
    "replay_warmup": 4,
    "frame_warmup": 2,
    "frame_batch_size": 8,
    "epsilon_hold_episodes": 0,
    "epsilon_episodes": 4,
    "lr_hold_episodes": 2,
    "lr_fall_episodes": 8,
}


def configure(preset="paper", seed=0, scenario=SMALL, **settings):
    return T2DRLConfig().scenario(scenario).preset(preset, **{**QUICK, **settings}).debugging(seed=seed)


@pytest.mark.parametrize("remember", ["raw", "amended"])
def test_a_fragment_is_what_happened(remember):
    runner = JointEnvRunner(config=configure(copies=2, remember=remember))
    before = copy.deepcopy(runner.get_world_state())
    fragments = [runner.sample(num_timesteps=2 * 2)[0] for _ in range(3)]  # the three frames of an episode
    twin = JointEnvRunner(config=configure(copies=2, remember=remember))
    twin.set_state(runner.get_state(components="rl_module"))
    twin.set_world_state(before)
    simulator, policy = twin.simulator, twin.policy
    assert isinstance(simulator, ProvisioningWorld)
    for number, fragment in enumerate(fragments):
        frames, slots = (fragment.roles[role].columns for role in ("cacher", "allocator"))
        policy.cacher.epsilon = 1.0
        if number == 0:
            caching = policy.cacher.decide(simulator.observe_frame())
            outcome = simulator.cache(caching.cache)
        row = {name: value[0] for name, value in frames.items()}
        kept = outcome.cache if remember == "amended" else caching.cache
        assert torch.equal(row[Columns.OBS], caching.state[:, 0])
        assert torch.equal(row[Columns.ACTIONS], kept[:, 0])
        total = torch.zeros(2, 1)
        for slot in range(2):
            decision = policy.allocator.decide(simulator.observe_slot())
            served = simulator.allocate(decision.bandwidth, decision.compute)
            total = total + served.reward
            cells = {name: value[0, 2 * slot : 2 * slot + 2] for name, value in slots.items()}
            assert torch.equal(cells[Columns.ACTIONS], decision.action[:, 0])
            assert torch.equal(cells[Columns.REWARDS], served.reward)
            assert (cells[Columns.TERMINATEDS] == float(number == 2 and slot == 1)).all()
        penalty = SMALL.overflow_penalty_per_gb * outcome.overflow_gb
        expected = total / 2 - (0 if remember == "amended" else penalty)
        assert torch.allclose(row[Columns.REWARDS], expected[:, 0], atol=1e-4)
        assert (row[Columns.TERMINATEDS] == float(number == 2)).all()
        assert torch.equal(row[Columns.NEXT_OBS], policy.cacher.state(simulator.observe_frame())[:, 0])
        assert torch.allclose(row[SIZES][0], (simulator.observe_frame().size_gb[0, 0] / 12).float())
        if number < 2:
            caching = policy.cacher.decide(simulator.observe_frame())
            outcome = simulator.cache(caching.cache)
            # The last slot of a frame is followed by the first of the next, with its new cache.
            following = policy.allocator.state(simulator.observe_slot())[:, 0]
            assert torch.equal(slots[Columns.NEXT_OBS][0, 2:], following)


def test_random_caches_give_way_as_episodes_pass():
    runner = JointEnvRunner(config=configure(epsilon_episodes=2, epsilon_start=1, epsilon_end=0.2))
    seen = []
    for _ in range(4):
        runner.sample(num_timesteps=2)
        seen.append(runner.policy.cacher.epsilon)
        runner.sample(num_episodes=1)
    assert seen == pytest.approx([1.0, 0.6, 0.2, 0.2])
    runner.sample(num_timesteps=2, explore=False)
    assert runner.policy.cacher.epsilon == 0


@pytest.mark.parametrize("preset", ["paper", "two-timescale", "improved", "ddpg"])
def test_resumed_equals_uninterrupted_bit_for_bit(halved, preset, assert_same_training):
    settings = {} if preset == "paper" else {"copies": 3, "updates_per_slot": 0.7}
    resumed, whole = halved(configure(preset, **settings).build_algo)
    assert min(resumed.updates.values()) > 2
    assert_same_training(resumed, whole)
    for name, replay in whole.replays.items():
        assert torch.equal(resumed.replays[name].sample(8)[Columns.OBS], replay.sample(8)[Columns.OBS])


def test_step_sizes_fall_and_the_average_of_the_weights_is_returned(weights):
    algorithm = configure("improved", copies=1, updates_per_slot=1.0).build_algo()
    rates = []
    for _ in range(11):
        algorithm.train()
        optimizer = algorithm.learner_group._learner.get_optimizer("allocator", "actor")
        rates.append(optimizer.param_groups[0]["lr"] / 2e-3)
    assert rates[:2] == [1, 1]
    assert rates[5] == pytest.approx(1 - 0.95 * 4 / 8)
    assert rates[-1] == pytest.approx(0.05)
    learned = weights(algorithm)
    policy = algorithm.policy()
    for name, value in policy.allocator.network.named_parameters():
        assert np.array_equal(value.detach().numpy(), learned[f"allocator.target_actor.{name}"])
        assert not np.array_equal(value.detach().numpy(), learned[f"allocator.actor.{name}"])
    for name, value in policy.cacher.network.named_parameters():
        assert np.array_equal(value.detach().numpy(), learned[f"cacher.target_values.{name}"])
    algorithm.stop()


@pytest.mark.soak
def test_two_remote_runners_sample_learn_and_resume(tmp_path, assert_same_training):
    def build():
        return configure().env_runners(num_env_runners=2).build_algo()

    whole = build()
    whole.train()
    path = whole.save_to_path(str(tmp_path / "checkpoint"))
    for _ in range(2):
        result = whole.train()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 3 * 2 * 6
    assert len(whole.episodes) == 6
    assert min(whole.updates.values()) > 0
    resumed = build()
    resumed.restore_from_path(path)
    for _ in range(2):
        resumed.train()
    assert_same_training(resumed, whole)
    for each in (whole, resumed):
        each.stop()


def test_from_checkpoint_and_evaluation(tmp_path, assert_same_training):
    config = configure().evaluation(
        evaluation_interval=1, evaluation_duration=2, evaluation_config=T2DRLConfig.overrides(explore=False)
    )
    algorithm = config.build_algo()
    result = algorithm.train()
    assert result["evaluation"]["env_runners"]["num_episodes"] >= 2
    assert result["evaluation"]["env_runners"]["episode_cost"] > 0
    algorithm.save_to_path(str(tmp_path / "checkpoint"))
    again = Algorithm.from_checkpoint(str(tmp_path / "checkpoint"))
    assert isinstance(again, T2DRL)
    assert_same_training(algorithm, again)
    for each in (algorithm, again):
        each.stop()


def test_an_exported_policy_decides_as_the_algorithm_does_and_refuses_other_worlds(tmp_path):
    algorithm = configure("improved").build_algo()
    algorithm.train()
    policy = algorithm.policy(seed=3)
    save_policy(policy, tmp_path / "policy", SMALL, {"seed": 0})
    loaded = load_policy(tmp_path / "policy", SMALL, seed=3)
    simulator = algorithm.env_runner.simulator
    frame, slot = simulator.observe_frame(), None
    assert torch.equal(policy.act("cacher", frame, {})[0], loaded.act("cacher", frame, {})[0])
    if simulator.caching:
        simulator.cache(loaded.act("cacher", frame, {})[0])
    slot = simulator.observe_slot()
    assert torch.equal(policy.act("allocator", slot, {})[0], loaded.act("allocator", slot, {})[0])
    algorithm.stop()
    with pytest.raises(InputError, match=r"was trained for 4 models.*has 10"):
        load_policy(tmp_path / "policy", load_scenario("t2drl-default", {"users": 3}))
    manifest = tmp_path / "policy" / "policy.json"
    manifest.write_text(manifest.read_text().replace('"users": 3', '"users": -3', 1))
    with pytest.raises(InputError, match=r"bad field 'spec\.users'"):
        load_policy(tmp_path / "policy", SMALL)
    manifest.write_text(manifest.read_text().replace('"scenario"', '"world"'))
    with pytest.raises(InputError, match="no field 'scenario'"):
        load_policy(tmp_path / "policy", SMALL)


@pytest.mark.parametrize(
    ("head", "seed"), [("subsets", 0), ("per_model", 1), pytest.param("per_request", 2, marks=pytest.mark.soak)]
)
def test_the_cacher_finds_the_popular_one_of_two_models(head, seed):
    # Room for one of two models of one size; the skewness 3 sends 8/9 of the requests to the first. A hit saves at
    # least the detour of (5 + 5) MB · 8 / (10 / 3) Mbit/s = 24 s: more than any picture or any steps are worth.
    world = load_scenario(
        "t2drl-default",
        {
            "users": 3,
            "models": 2,
            "frames": 5,
            "slots_per_frame": 4,
            "size_gb": [8, 8],
            "storage_gb": 10,
            "backhaul_mbit_s": 10,
            "skewness": {"states": [3.0], "transition": [[1.0]]},
        },
    )
    algorithm = configure(
        "improved",
        seed=seed,
        scenario=world,
        caching_head=head,
        remember="amended",
        hidden=16,
        cacher_hidden=16,
        copies=8,
        updates_per_slot=0.02,
        frame_warmup=40,
        frame_replay_capacity=1000,
        epsilon_episodes=120,
        updates_per_frame=2,
    ).build_algo()
    for _ in range(20):
        algorithm.train()
    policy, simulator = algorithm.policy(), algorithm.env_runner.simulator
    observation = simulator.reset(seed=12_345)
    while not simulator.done:
        cache, _ = policy.act("cacher", observation, {}, explore=False)
        if head != "subsets":
            assert cache[..., 0].all()
        cached = simulator.cache(cache).cache
        assert cached[..., 0].all()
        for _ in range(world.slots_per_frame):
            simulator.decide(policy.act("allocator", simulator.observe_slot(), {})[0])
        observation = simulator.observe_frame()
    algorithm.stop()
