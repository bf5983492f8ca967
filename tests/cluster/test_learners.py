# SPDX-License-Identifier: Apache-2.0
"""Several learners are one: the same numbers as one learner with the whole batch, and one state that resumes."""

import numpy as np
import pytest
import torch
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from edgegen.algorithms.methods.configs import T2DRLConfig
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER

pytestmark = pytest.mark.e2e
ROWS = 8


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray_session(num_cpus=2):
        yield


def ladts_batches(make_config, preset="improved"):
    """A config, by default with a chain whose noise matters, and batches for two learners."""
    config = make_config(preset, batch_size=ROWS)
    (joint,) = JointEnvRunner(config=config).sample(num_timesteps=24)
    fragment = joint.roles[ROUTER]
    replay = TensorReplay(fragment.valid.shape[0], 200, seed=1)
    replay.add(fragment.columns, fragment.valid)
    return config, [{ROUTER: replay.sample(2 * ROWS)} for _ in range(5)]


def dqn_batches(make_config):
    """The baseline that has a learner of its own."""
    return ladts_batches(make_config, "dqn-ts")


def t2drl_batches(make_config):
    """A config with two modules, and batches for two learners.

    With values per model: moving all expectations ``per_request`` at once changes nothing, so some of its gradients are
    rounding, of which Adam makes whole steps.
    """
    world = load_scenario("t2drl-default", {"users": 3, "models": 4, "frames": 3, "slots_per_frame": 2})
    sizes = {"hidden": 8, "hidden_layers": 1, "cacher_hidden": 8, "batch_size": ROWS, "frame_batch_size": ROWS}
    config = T2DRLConfig().scenario(world).preset("improved", caching_head="per_model", **sizes)
    config = config.debugging(seed=0)
    (joint,) = JointEnvRunner(config=config).sample(num_timesteps=24)
    replays = {}
    for name, part in joint.roles.items():
        replays[name] = TensorReplay(part.valid.shape[0], 200, seed=1)
        replays[name].add(part.columns, part.valid)
    return config, [{name: replay.sample(2 * ROWS) for name, replay in replays.items()} for _ in range(5)]


def update(group, batch):
    parts = {
        name: SampleBatch({column: value.clone() for column, value in rows.items()}) for name, rows in batch.items()
    }
    group.update(batch=MultiAgentBatch(parts, 2 * ROWS), timesteps={"num_env_steps_sampled_lifetime": 0})


def every_state(group):
    """Weights, targets and generator of every learner."""

    def state(learner):
        weights = {f"{m}.{n}": v.clone() for m, net in learner.networks().items() for n, v in net.state_dict().items()}
        return {**weights, "generator": learner._generator.get_state()}

    return [result.get() for result in group.foreach_learner(state)]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("make_batches", [ladts_batches, t2drl_batches])
def test_two_learners_do_what_one_does_with_twice_the_rows(make_config, make_batches, tmp_path):
    config, batches = make_batches(make_config)
    alone = config.copy(copy_frozen=False).build_learner_group()
    pair = config.copy(copy_frozen=False).learners(num_learners=2, num_cpus_per_learner=0.5).build_learner_group()
    try:
        begin = every_state(pair)
        assert_equal(*begin)  # broadcast, whatever each drew
        pair.set_state(alone.get_state())
        for batch in batches[:3]:
            update(alone, batch)
            update(pair, batch)
        (expected,) = every_state(alone)
        first, second = every_state(pair)
        assert_equal(first, second)
        moved = 0
        for name, value in expected.items():
            if value.is_floating_point():
                assert torch.allclose(first[name], value, rtol=1e-4, atol=1e-6), name
                moved += not torch.allclose(begin[0][name], value, rtol=1e-3, atol=1e-6)
            else:
                assert torch.equal(first[name], value), name  # the generator: as much noise was drawn
        assert moved > 5
        pair.save_to_path(str(tmp_path / "pair"))
        for batch in batches[3:]:
            update(pair, batch)
        whole = every_state(pair)
        pair.restore_from_path(str(tmp_path / "pair"))
        for batch in batches[3:]:
            update(pair, batch)
        for uninterrupted, resumed in zip(whole, every_state(pair), strict=True):
            assert_equal(uninterrupted, resumed)
        alone.restore_from_path(str(tmp_path / "pair"))  # a training may go on with another number of learners
        for batch in batches[3:]:
            update(alone, batch)
        (continued,) = every_state(alone)
        for name, value in whole[0].items():
            assert np.allclose(continued[name], value, rtol=1e-4, atol=1e-6), name
    finally:
        pair.shutdown()


@pytest.mark.gpu
@pytest.mark.parametrize("make_batches", [ladts_batches, dqn_batches, t2drl_batches])
def test_a_learner_on_a_gpu_does_what_one_on_the_cpu_does(make_config, make_batches, tmp_path):
    config, batches = make_batches(make_config)
    here = config.copy(copy_frozen=False).build_learner_group()
    there = config.copy(copy_frozen=False).learners(num_learners=1, num_gpus_per_learner=0.5).build_learner_group()
    try:
        there.set_state(here.get_state())
        for batch in batches[:3]:
            update(here, batch)
            update(there, batch)
        assert [result.get() for result in there.foreach_learner(lambda learner: learner._device.type)] == ["cuda"]
        (expected,), (reached,) = every_state(here), every_state(there)
        for name, value in expected.items():
            assert torch.allclose(reached[name].cpu(), value, rtol=1e-2, atol=1e-4), name
        there.save_to_path(str(tmp_path / "there"))
        here.restore_from_path(str(tmp_path / "there"))  # what a GPU has learned goes on without one
        update(here, batches[3])
    finally:
        there.shutdown()
