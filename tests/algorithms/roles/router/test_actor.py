# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from edgegen.algorithms.methods.ladts import METHOD
from edgegen.algorithms.nets.diffusion import reverse_chain
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.algorithms.roles.router.settings import RouterSettings
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.world import OffloadingWorld


def router_of(scenario="demo", preset="paper", **overrides):
    return router_for(load_scenario(scenario), METHOD.make_settings(preset, overrides))


def test_paper_actor_has_the_published_size():
    router = router_of("ladts-paper")
    assert (router.state_size, router.spec.groups) == (22, 20)
    parameters = sum(p.numel() for p in router.actor().parameters())
    assert parameters == 20 * 2020  # (58·20 + 20) + (20·20 + 20) + (20·20 + 20) per agent


def test_chain_equals_the_plain_formula_on_the_concatenated_input():
    router = router_of()
    actor, spec = router.actor(), router.spec
    generator = torch.Generator().manual_seed(0)
    state = torch.rand(spec.groups, 7, router.state_size, generator=generator)
    latent = torch.rand(spec.groups, 7, spec.servers, generator=generator)
    noise = torch.randn(4, spec.groups, 7, spec.servers, generator=generator)

    def plain(x, step):
        embedding = actor.embedding[step - 1].expand(spec.groups, 7, -1)
        return actor.net(torch.cat([x, embedding, state], -1)).softmax(-1)

    expected = reverse_chain(plain, latent, actor.schedule, noise).softmax(-1)
    assert torch.allclose(actor(state, latent, noise), expected, atol=1e-5)


def test_agents_do_not_share_weights_unless_asked():
    router = router_of()
    actor, spec = router.actor(), router.spec
    state, latent = torch.rand(spec.groups, 3, router.state_size), torch.rand(spec.groups, 3, spec.servers)
    before = actor(state, latent, None)
    with torch.no_grad():
        actor.net.layers[0].weight[2].mul_(3)
    changed = (actor(state, latent, None) - before).abs().amax((1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


def test_paper_state_is_size_workload_and_queues_without_scaling():
    simulator = OffloadingWorld(load_scenario("demo"), 2)
    observation = simulator.reset(3)
    tasks = observation.tasks
    own = torch.full((2, 5, 5), 9.0)
    state = router_of().state(observation, tasks.size_mbit, tasks.workload_gcycles, own)
    assert torch.equal(state[1, 3, 4, :2], torch.stack([tasks.size_mbit[1, 3, 4], tasks.workload_gcycles[1, 3, 4]]))
    assert torch.equal(state[..., 2:], torch.zeros(2, 5, 15, 5))


def test_improved_state_by_hand():
    simulator = OffloadingWorld(load_scenario("demo"))
    observation = simulator.reset(3)
    observation.backlog_gcycles[0] = torch.tensor([12.0, 0, 20, 0, 90])
    own = torch.zeros(1, 5, 5)
    own[0, 1, 0] = 2.4  # server 1 has sent 2.4 Gcycle to server 0
    state = router_of(preset="improved").state(
        observation, torch.full((1, 5, 1), 2.5), torch.full((1, 5, 1), 2.1), own
    )[0, 1, 0]
    expected = [
        *(2.5 / 5, 2.1 / 4.2),
        *(math.log(2), 0, math.log(2), 0, math.log(4)),  # queues in slots of work: 1, 0, 1, 0, 3
        *(math.log(2), 0, 0, 0, 0),  # 5 servers · 2.4 / 12 = 1 slot, if all did as server 1
        *(0, 1, 0, 0, 0),
    ]
    assert state.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sharing", ["none", "full"])
def test_grouping_is_undone(sharing):
    spec = router_of(sharing=sharing).spec
    x = torch.rand(3, 5, 4, 2)
    grouped = spec.grouped(x)
    assert grouped.shape == ((5, 12, 2) if sharing == "none" else (1, 60, 2))
    assert torch.equal(spec.ungrouped(grouped, 3, 4), x)


def test_settings_refuse_what_is_wrong_in_one_sentence():
    with pytest.raises(InputError, match=r"unknown field 'actor_rl'.*Did you mean 'actor_lr'\?"):
        METHOD.make_settings(overrides={"actor_rl": 1})
    with pytest.raises(InputError, match=r"'gamma' is 1\.0, but input should be less than 1"):
        METHOD.make_settings(overrides={"gamma": 1.0})
    with pytest.raises(InputError, match=r"presets are paper, improved, .*dqn-ts.*\. Did you mean 'paper'\?"):
        METHOD.make_settings("papr")
    with pytest.raises(InputError, match=r"beta_min is 20, but must not exceed beta_max, 10\."):
        METHOD.make_settings(overrides={"beta_min": 20})
    assert METHOD.make_settings("paper") == RouterSettings()
