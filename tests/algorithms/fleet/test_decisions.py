# SPDX-License-Identifier: Apache-2.0
"""The learned fleet decides like its rule until it has learned, alike in kernel, world and torch."""

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.core.play import metered
from edgegen.algorithms.fleet.decisions import denoise
from edgegen.algorithms.fleet.episodes import play_brain
from edgegen.algorithms.fleet.nets import PARTS, ResidualChain, flat_size, shifted
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.algorithms.fleet.spec import FEATURES, FleetSpec, make_chain
from edgegen.algorithms.methods.fleet import METHOD
from edgegen.algorithms.rules.fleet_families import Prices
from edgegen.algorithms.rules.fleet_kernel import play_drawn
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.world import FleetWorld
from tests.algorithms.fleet.both_ways import check_both_ways
from tests.envs.fleet.fleets import small

PRICES = Prices(noise=0.05, weight_power=0.7)


def policy_for(scenario, scale=0.0, learn=("router", "allocator", "cacher"), seed=0):
    """A policy whose chains add something if ``scale`` is not 0."""
    torch.manual_seed(seed)
    spec = FleetSpec.of(scenario, METHOD.make_settings("joint", {"prices": PRICES, "learn": learn}))
    chains: dict[str, torch.nn.Module] = {role: make_chain(spec, role) for role in spec.learn}
    for chain in chains.values():
        torch.nn.init.normal_(chain.get_parameter("out"), std=scale)
    return FleetPolicy(chains, spec, scenario)


@pytest.mark.parametrize("relative", [True, False])
def test_the_kernel_s_chain_is_that_of_torch(relative):
    torch.manual_seed(3)
    chain = ResidualChain(5, 4, 3, relative).double()
    torch.nn.init.normal_(chain.out)
    features, latent = torch.randn(6, 5).double(), torch.randn(6).double()
    mine = latent.numpy().copy()
    denoise(chain.weights(), features.numpy(), relative, np.empty((6, 8)), mine)
    assert np.allclose(mine, chain(features, latent).detach().numpy(), rtol=1e-12)


def test_a_chain_of_one_step_by_hand():
    chain = ResidualChain(1, 1, 1, True)
    for part, value in zip(PARTS, (2.0, 1.0, 0.5, -1.0, 3.0), strict=True):
        torch.nn.init.constant_(getattr(chain, part), value)
    # Hidden: 2·f + 1 + 0.5·(x − max x) − 1; softsign: z / (1 + |z|); the latent rises by three times that.
    found = chain(torch.tensor([[1.0], [0.5]]), torch.tensor([0.0, -2.0]))
    assert found.tolist() == pytest.approx([0 + 3 * 2 / 3, -2 + 3 * 0 / 1])


@pytest.mark.parametrize("name", ["fleet-8:scarce", "fleet-8:mixed"])
def test_without_what_was_learned_it_is_the_rule(name):
    scenario = load_scenario(name, {"frames": 2})
    requests = draw_requests(scenario, 5, range(4))
    rule = play_drawn(scenario, PRICES.rule(scenario), requests)[2]
    assert np.array_equal(play_brain(scenario, policy_for(scenario).brain, requests)[2], rule)
    learned = play_brain(scenario, policy_for(scenario, 0.5).brain, requests)[2]
    assert not np.array_equal(learned, rule)


@pytest.mark.parametrize("changes", [{}, {"refuse_price": 0.3, "load": 1.6}], ids=["steady", "refusing"])
def test_turn_by_turn_and_in_the_kernel_it_decides_alike(changes):
    scenario = small(**changes)
    check_both_ways(scenario, policy_for(scenario, 0.5))


def test_threads_change_no_number():
    scenario = small()
    requests, brain = draw_requests(scenario, 5, range(7)), policy_for(scenario, 0.5).brain
    one, three = (play_brain(scenario, brain, requests, threads)[2] for threads in (1, 3))
    assert np.array_equal(one, three)


@pytest.mark.parametrize("role", ["router", "allocator", "cacher"])
def test_a_role_that_was_learned_alone_changes_decisions_of_its_own(role):
    scenario = load_scenario("fleet-8:scarce", {"frames": 2})
    requests = draw_requests(scenario, 5, range(2))
    alone = policy_for(scenario, 1.0, (role,))
    assert alone.name == f"fleet ({role} alone)"
    rule = play_brain(scenario, policy_for(scenario).brain, requests)[2]
    assert not np.array_equal(play_brain(scenario, alone.brain, requests)[2], rule)
    assert set(alone.networks) == {role}


def test_a_folder_brings_back_the_same_decisions_in_worlds_of_any_size(tmp_path):
    scenario = small()
    policy = policy_for(scenario, 0.5)
    save_policy(policy, tmp_path / "policy", scenario, {"settings": {}})
    again = load_policy(tmp_path / "policy", scenario)
    assert isinstance(again, FleetPolicy)
    requests = draw_requests(scenario, 9, range(3))
    mine, theirs = (play_brain(scenario, one.brain, requests)[2] for one in (policy, again))
    assert np.array_equal(mine, theirs)
    for sites in (2, 12):
        larger = small(sites=sites)
        world = FleetWorld(larger, 2)
        world.reset(1)
        assert np.isfinite(metered(world, load_policy(tmp_path / "policy", larger)).values()["utility"]).all()


def test_weights_are_shifted_in_the_order_of_the_parameters():
    chain = make_chain(policy_for(small()).spec, "allocator")
    size = flat_size(FEATURES["allocator"], 8)
    assert size == sum(parameter.numel() for parameter in chain.parameters())
    change = torch.arange(size).double()
    moved = shifted(chain.weights(), change)
    flat = torch.cat([parameter.detach().flatten() for parameter in chain.parameters()]).double() + change
    mine = np.concatenate([part.ravel() for part in (moved.features, moved.bias, moved.latent, moved.step, moved.out)])
    assert np.allclose(mine, flat.numpy())


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"learn": []}, "learn"),
        ({"learn": ["pilot"]}, "learn"),
        ({"horizon_s": 0}, "horizon_s"),
        ({"prices": {"noise": 7}}, "noise"),
        ({"labls": 0.1}, "labels"),
    ],
)
def test_impossible_settings_are_one_sentence_that_names_the_field(overrides, says):
    with pytest.raises(InputError, match=says):
        METHOD.make_settings("joint", overrides)
