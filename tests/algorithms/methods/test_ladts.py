# SPDX-License-Identifier: Apache-2.0
"""LAD-TS in RLlib: what a fragment holds, that it learns, and that interruptions leave no trace."""

import copy

import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.columns import Columns

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.methods.configs import LADTS, LADTSConfig
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.algorithms.roles.router.module import LATENT, NEXT_LATENT
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("cluster")]

# Slow enough for queues to build up.
SMALL = load_scenario("demo", {"tasks_per_slot.high": 3, "slots": 6, "capacity_gcycles_s": [1.2, 0.6, 2, 0.8, 3]})
QUICK = {"hidden": 8, "replay_capacity": 60, "replay_warmup": 8, "batch_size": 16, "copies": 1}


def configure(preset="paper", seed=0, scenario=SMALL, **settings):
    return LADTSConfig().scenario(scenario).preset(preset, **{**QUICK, **settings}).debugging(seed=seed)


def test_fragment_pairs_every_task_with_the_agents_next_one():
    runner = JointEnvRunner(config=configure(copies=2))
    before = copy.deepcopy(runner.get_world_state())
    (joint,) = runner.sample(num_timesteps=2 * 2)  # two slots of two copies
    fragment = joint.roles[ROUTER]
    twin = JointEnvRunner(config=configure(copies=2))
    twin.set_state(runner.get_state(components="rl_module"))
    twin.set_world_state(before)
    simulator, spec = twin.simulator, twin.policy.spec
    memory = twin.policy.begin(ROUTER, simulator.observe())
    rows = {name: value.view(spec.groups, 2, 2, 3, *value.shape[2:]) for name, value in fragment.columns.items()}
    valid = fragment.valid.view(spec.groups, 2, 2, 3)  # [server, slot, copy, index]
    for slot in range(2):
        observation = simulator.observe()
        present = observation.tasks.present
        assert torch.equal(valid[:, slot].transpose(0, 1), present)
        decision = twin.policy.place(observation, memory)
        delay = simulator.decide(decision.action)
        reward = -delay.dense(delay.delays.total_s)
        following = simulator.observe()
        for copy_, server, index in present.nonzero().tolist():
            row = {name: value[server, slot, copy_, index] for name, value in rows.items()}
            assert torch.equal(row[Columns.OBS], decision.state[copy_, server, index])
            assert torch.equal(row[LATENT], decision.latent[copy_, server, index])
            assert row[Columns.ACTIONS] == decision.action[copy_, server, index]
            assert row[Columns.REWARDS] == reward[copy_, server, index]
            if index + 1 < 3 and present[copy_, server, index + 1]:
                assert torch.equal(row[Columns.NEXT_OBS], decision.state[copy_, server, index + 1])
                assert torch.equal(row[NEXT_LATENT], decision.latent[copy_, server, index + 1])
            else:
                tasks = following.tasks
                expected = torch.cat(
                    [
                        tasks.size_mbit[copy_, server, :1],
                        tasks.workload_gcycles[copy_, server, :1],
                        following.backlog_gcycles[copy_],
                    ]
                )
                assert torch.equal(row[Columns.NEXT_OBS], expected)
                assert torch.equal(row[NEXT_LATENT], memory["latent"][copy_, slot + 1, server, 0])


def test_legacy_switches_change_what_they_say():
    runners = (JointEnvRunner(config=configure(legacy_alias=on, legacy_zero_next_queue=on)) for on in (False, True))
    plain, legacy = (runner.sample(num_timesteps=2)[0].roles[ROUTER] for runner in runners)
    assert torch.equal(plain.columns[Columns.OBS], legacy.columns[Columns.OBS])
    assert not torch.equal(plain.columns[LATENT], legacy.columns[LATENT])
    assert torch.allclose(legacy.columns[LATENT].sum(-1), torch.ones(5, 6))  # probabilities, not Gaussian numbers
    changed = (plain.columns[Columns.NEXT_OBS] != legacy.columns[Columns.NEXT_OBS]).any(-1) & plain.valid
    last = plain.valid.view(5, 2, 3) & ~torch.nn.functional.pad(plain.valid.view(5, 2, 3)[..., 1:], (0, 1))
    assert changed.any()
    assert not (changed.view(5, 2, 3) & ~last).any()


def test_workers_and_seeds_have_arrivals_of_their_own():
    def sizes(seed, worker):
        runner = JointEnvRunner(config=configure(seed=seed), worker_index=worker)
        return runner.simulator.observe().tasks.size_mbit

    assert torch.equal(sizes(0, 1), sizes(0, 1))
    assert not torch.equal(sizes(0, 1), sizes(1, 0))
    assert not torch.equal(sizes(0, 0), sizes(0, 1))


@pytest.mark.parametrize("preset", ["paper", "improved", "d2sac-ts", "sac-ts", "dqn-ts"])
def test_resumed_equals_uninterrupted_bit_for_bit(halved, preset, assert_same_training):
    settings = {"copies": 3, "updates_per_slot": 0.7} if preset == "improved" else {"target_copy_every": 5}
    resumed, whole = halved(configure(preset, **settings).build_algo)
    assert resumed.updates[ROUTER] > 10
    assert_same_training(resumed, whole)
    if preset in ("paper", "improved"):
        assert torch.equal(resumed.kept_memory()["latent"], whole.kept_memory()["latent"])
    else:
        assert resumed.kept_memory() == {}
    assert torch.equal(resumed.replays[ROUTER].sample(32)[Columns.OBS], whole.replays[ROUTER].sample(32)[Columns.OBS])


def test_from_checkpoint_rebuilds_the_algorithm(tmp_path, assert_same_training):
    algorithm = configure(initial_temperature=0.2).build_algo()
    algorithm.train()
    algorithm.save_to_path(str(tmp_path / "checkpoint"))
    again = Algorithm.from_checkpoint(str(tmp_path / "checkpoint"))
    assert isinstance(again, LADTS)
    assert again.training_iteration == 1
    assert_same_training(algorithm, again)
    algorithm.train()
    again.train()
    assert_same_training(algorithm, again)
    for each in (algorithm, again):
        each.stop()


def test_two_remote_runners_sample_learn_and_resume(tmp_path, assert_same_training):
    def build():
        return configure().env_runners(num_env_runners=2, rollout_fragment_length=3).build_algo()

    whole = build()
    whole.train()
    path = whole.save_to_path(str(tmp_path / "checkpoint"))
    for _ in range(2):
        result = whole.train()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 3 * 2 * 6
    assert len(whole.episodes) == 6
    assert whole.updates[ROUTER] > 0
    resumed = build()
    resumed.restore_from_path(path)
    for _ in range(2):
        resumed.train()
    assert_same_training(resumed, whole)
    for each in (whole, resumed):
        each.stop()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_evaluation_workers_play_their_own_episodes_from_the_trained_latents(workers):
    config = configure().evaluation(
        evaluation_interval=1,
        evaluation_duration=4,
        evaluation_num_env_runners=workers,
        evaluation_config=LADTSConfig.overrides(explore=False),
    )
    algorithm = config.build_algo()
    result = algorithm.train()
    evaluation = result["evaluation"]["env_runners"]
    assert evaluation["num_episodes"] >= 4
    assert evaluation["episode_delay_mean_s"] > 0
    algorithm.stop()


@pytest.mark.soak
def test_learners_on_two_processes_share_one_update():
    algorithm = configure().learners(num_learners=2, num_cpus_per_learner=0.5).build_algo()
    for _ in range(2):
        algorithm.train()
    states = algorithm.learner_group.foreach_learner(lambda learner: learner.module[ROUTER].unwrapped().state_dict())
    first, second = (state.get() for state in states)
    assert algorithm.updates[ROUTER] > 0
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    algorithm.stop()


METHODS = {"paper": "lad-ts", "d2sac-ts": "d2sac-ts", "agod": "d2sac-ts", "sac-ts": "sac-ts", "dqn-ts": "dqn-ts"}


@pytest.mark.parametrize("preset", METHODS)
def test_policy_of_a_checkpoint_decides_as_the_algorithm_does(tmp_path, preset):
    from edgegen.algorithms.core.codec import save_policy

    algorithm = configure(preset).build_algo()
    algorithm.train()
    policy = algorithm.policy(seed=3)
    save_policy(policy, tmp_path / "policy", SMALL, {"seed": 0})
    loaded = make_policy(str(tmp_path), SMALL, seed=3)
    observation = algorithm.env_runner.simulator.observe()
    mine, theirs = (p.act(ROUTER, observation, p.begin(ROUTER, observation))[0] for p in (policy, loaded))
    assert torch.equal(mine, theirs)
    assert loaded.name == METHODS[preset]
    algorithm.stop()


LIKE_IMPROVED = {"sharing": "full", "normalise": True, "gamma": 0.0, "actor_lr": 1e-3, "critic_lr": 1e-3}


@pytest.mark.parametrize(
    ("preset", "seed", "settings"),
    [
        ("improved", 0, {}),
        pytest.param("improved", 1, {}, marks=pytest.mark.soak),
        pytest.param("improved", 0, {"actor": "mlp", "memory": "none"}, marks=pytest.mark.soak),
        pytest.param("improved", 0, {"actor": "q", "memory": "none"}, marks=pytest.mark.soak),
        ("d2sac-ts", 0, {**LIKE_IMPROVED, "epsilon_output": "linear"}),  # why not softmax: test_baselines
        ("sac-ts", 0, LIKE_IMPROVED),
        ("dqn-ts", 0, LIKE_IMPROVED),
    ],
)
def test_finds_the_server_that_is_always_best(preset, seed, settings):
    # Ample capacity and instant links: a task takes w/f on an idle server, so the server with 50 times the capacity is
    # best for every task; the first task a server keeps to itself costs up to 4.2 s, one sent there at most 0.084 s.
    world = load_scenario(
        "demo",
        {"capacity_gcycles_s": [1, 50], "rate_mbit_s": [1e4, 1e4], "tasks_per_slot.high": 2, "slots": 20},
    )
    algorithm = configure(
        preset,
        seed=seed,
        scenario=world,
        hidden=16,
        copies=8,
        replay_warmup=100,
        replay_capacity=5_000,
        batch_size=64,
        updates_per_slot=0.25,
        **settings,
    ).build_algo()
    for _ in range(12):
        algorithm.train()
    policy = algorithm.policy()
    observation = algorithm.env_runner.simulator.reset(10_000)
    memory, chosen, tasks = policy.begin(ROUTER, observation), 0, 0
    while not algorithm.env_runner.simulator.done:
        action, memory = policy.act(ROUTER, observation, memory)
        present = observation.tasks.present
        chosen += int((action[present] == 1).sum())
        tasks += int(present.sum())
        algorithm.env_runner.simulator.decide(action)
        observation = algorithm.env_runner.simulator.observe()
    assert chosen / tasks > 0.97
    algorithm.stop()
