"""The names RLlib knows: the environment is made as configured, and a stock algorithm trains on it."""

import pickle
from collections.abc import Iterator

import gymnasium
import pytest
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.registry import _global_registry

from edgegen.algorithms.registration import OFFLOADING_ENV, make_offloading_env, register_rllib_envs
from edgegen.envs.errors import InputError


def test_the_environment_is_made_as_configured() -> None:
    env = make_offloading_env({"scenario": "ladts-paper:n10", "max_cycles": 2})
    observations, _ = env.reset(seed=0)
    assert sorted(observations) == sorted(f"edge_{b}" for b in range(20))
    assert env.observation_space["edge_0"] == gymnasium.spaces.Box(
        env.observation_space["edge_0"].low, env.observation_space["edge_0"].high, (84,)
    )
    assert env.action_space["edge_0"] == gymnasium.spaces.Discrete(20)
    _, _, _, first, _ = env.step(dict.fromkeys(observations, 0))
    _, _, terminations, second, _ = env.step(dict.fromkeys(observations, 0))
    assert (first["__all__"], second["__all__"], terminations["__all__"]) == (False, True, False)
    assert make_offloading_env({}).par_env.scenario.name == "demo"
    assert pickle.loads(pickle.dumps(env)).par_env.max_cycles == 2


def test_unknown_settings_are_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"no 'scenaro'; it has scenario, max_cycles\. Did you mean 'scenario'\?"):
        make_offloading_env({"scenaro": "demo"})


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stock_ppo_trains_one_policy_for_all_servers(local_ray: None) -> None:
    register_rllib_envs()
    register_rllib_envs()
    assert _global_registry.contains("env_creator", OFFLOADING_ENV)
    config = (
        PPOConfig()
        .environment(OFFLOADING_ENV, env_config={"scenario": "demo", "max_cycles": 20})
        .multi_agent(policies={"shared"}, policy_mapping_fn=lambda agent_id, episode, **kwargs: "shared")
        .env_runners(num_env_runners=0, rollout_fragment_length=20)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    try:
        results = [algorithm.train() for _ in range(2)]
    finally:
        algorithm.stop()
    runners = results[-1]["env_runners"]
    assert runners["num_env_steps_sampled_lifetime"] == 80
    assert runners["num_agent_steps_sampled_lifetime"]["edge_4"] == 80
    assert runners["episode_return_mean"] < 0  # minus seconds of delay
    assert results[-1]["learners"]["shared"]["num_module_steps_trained_lifetime"] > 0
