# SPDX-License-Identifier: Apache-2.0
"""Actor and critic of the allocator: shapes, sets, bounds, and gradients through the whole chain."""

import pytest
import torch

from edgegen.algorithms.methods.t2drl import METHOD, T2DRLSpec
from edgegen.algorithms.roles.allocator.networks import StackedCritic
from edgegen.algorithms.roles.allocator.objectives import search_objective
from edgegen.algorithms.roles.allocator.state import SlotState
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.provisioning.world import ProvisioningWorld

WORLD = load_scenario("t2drl-default", {"models": 4, "users": 3, "storage_gb": 12})


def spec_of(**overrides):
    return T2DRLSpec.of(WORLD, METHOD.make_settings("paper", {"hidden": 16, "hidden_layers": 2, **overrides}))


def states(spec, copies=5):
    simulator = ProvisioningWorld(WORLD, copies)
    simulator.reset(seed=3)
    simulator.cache(torch.ones(copies, 1, 4, dtype=torch.bool))
    slot = simulator.observe_slot()
    return slot, spec.order.grouped(SlotState(WORLD, spec.settings)(slot))


def test_users_are_found_again_in_the_state():
    spec = spec_of(see_curves=True)
    slot, state = states(spec)
    users, cell = spec.slot.split(state)
    assert users.shape == (1, 5, 3, spec.slot.user_features)
    assert torch.equal(spec.slot.hits(state)[0], slot.hit[:, 0])
    assert torch.equal(users[0, :, :, -4:].argmax(-1), slot.model[:, 0])
    assert torch.allclose(users[0, :, :, 2] * 80, slot.upload_mbit[:, 0])
    assert torch.allclose(users[0, :, :, 4], slot.curves.a1_steps[:, 0] / 60)
    assert torch.equal(cell[0] > 0.5, slot.cache[:, 0])


@pytest.mark.parametrize("network", ["mlp", "set"])
@pytest.mark.parametrize("actor", ["diffusion", "mlp"])
def test_actions_are_bounded_and_reproducible(network, actor):
    spec = spec_of(network=network, actor=actor)
    net = spec.actor()
    _, state = states(spec)
    first, second = (net(state, net.draw_noise(5, torch.Generator().manual_seed(1))) for _ in range(2))
    assert first.shape == (1, 5, 6)
    assert first.abs().max() <= 1
    assert torch.equal(first, second)


@pytest.mark.parametrize("comparisons", [0, 3])
@pytest.mark.parametrize("actor", ["diffusion", "mlp"])
def test_a_set_network_treats_users_alike(actor, comparisons):
    spec = spec_of(network="set", actor=actor, comparisons=comparisons, critic_target="per_user", critic_shares=True)
    net, critic = spec.actor(), spec.critic()
    _, state = states(spec)
    swap = torch.tensor([2, 0, 1])
    assert bool(net.net.compare) == bool(comparisons)

    def swapped(x):  # any tensor whose last axis is made of blocks of N users, one-hots of 4 models among them
        gain, model, rest, cell = torch.split(x, [3, 12, 9, 4], dim=-1)
        model = model.view(1, 5, 3, 4)[:, :, swap].reshape(1, 5, 12)
        rest = rest.view(1, 5, 3, 3)[..., swap].reshape(1, 5, 9)
        return torch.cat([gain[..., swap], model, rest, cell], -1)

    noise = net.draw_noise(5, torch.Generator().manual_seed(1))
    order = torch.cat([swap, swap + 3])
    action = net(state, noise)
    other = net(swapped(state), None if noise is None else noise[..., order])
    assert torch.allclose(other, action[..., order], atol=1e-5)
    value = critic(state, action)
    assert torch.allclose(critic(swapped(state), action[..., order]), value[..., swap], atol=1e-5)


@pytest.mark.parametrize("step_embedding", ["sinusoidal", "mlp"])
@pytest.mark.parametrize("network", ["mlp", "set"])
def test_gradients_reach_every_weight_of_the_actor_through_the_chain(network, step_embedding):
    spec = spec_of(clip_denoised=False, squash="tanh", network=network, step_embedding=step_embedding)
    net, critic = spec.actor(), spec.critic()
    _, state = states(spec)
    noise = net.draw_noise(5, torch.Generator().manual_seed(1))
    value = critic(state, net(state, noise))
    value.sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
    assert ("embedding.wide.weight" in gradients) == (step_embedding == "mlp")
    # The embedding of every step feeds the first layer: its rows must all have been used.
    first = (
        gradients["net.layers.0.weight"][0][6 : 6 + 16] if network == "mlp" else gradients["net.common.weight"][0][-16:]
    )
    assert (first.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("network", ["mlp", "set"])
def test_layers_of_the_step_embedding_that_hand_sinusoids_on_change_nothing(network):
    # Mish is the identity far to the right: sinusoids + 100 pass, and 100 is taken off again.
    plain = spec_of(network=network, step_embedding="sinusoidal").actor()
    through = spec_of(network=network, step_embedding="mlp").actor()
    with torch.no_grad():
        through.load_state_dict(plain.state_dict(), strict=False)
        for layer in (through.embedding.wide, through.embedding.narrow):
            layer.weight.zero_()
            layer.weight[0].fill_diagonal_(1)
            layer.bias.zero_()
        through.embedding.wide.bias.fill_(100)
        through.embedding.narrow.bias.fill_(-100)
    _, state = states(spec_of(network=network))
    noise = plain.draw_noise(5, torch.Generator().manual_seed(1))
    assert torch.allclose(through.unbounded(state, noise), plain.unbounded(state, noise), atol=1e-3)
    with torch.no_grad():
        through.embedding.narrow.bias.add_(1)
    assert not torch.allclose(through.unbounded(state, noise), plain.unbounded(state, noise), atol=1e-2)


@pytest.mark.parametrize(("target", "width"), [("mean", 1), ("per_user", 3)])
@pytest.mark.parametrize("network", ["mlp", "set"])
def test_critics_value_the_slot_or_every_user(network, target, width):
    spec = spec_of(network=network, critic_target=target)
    _, state = states(spec)
    assert spec.critic()(state, torch.zeros(1, 5, 6)).shape == (1, 5, width)


def test_a_critic_that_sees_shares_can_not_tell_actions_that_mean_the_same_apart_by_them():
    # Equal raw computing entries of all hits mean equal shares, whatever their height.
    spec = spec_of(critic_shares=True, network="set")
    critic = spec.critic()
    _, state = states(spec)
    low, high = (torch.full((1, 5, 6), height, requires_grad=True) for height in (-0.5, 0.5))
    with torch.no_grad():
        critic.net.own[0].weight[:, :2] = 0  # blind to the raw action
        critic.net.mean[0].weight[:, :2] = 0
    assert torch.allclose(critic(state, low), critic(state, high), atol=1e-5)


def test_agents_of_cells_share_weights_only_if_asked():
    world = load_scenario("t2drl-default:cells3")
    alone = T2DRLSpec.of(world, METHOD.make_settings("paper", {"hidden": 8}))
    shared = T2DRLSpec.of(world, METHOD.make_settings("paper", {"hidden": 8, "sharing": "full"}))
    assert (alone.order.groups, shared.order.groups) == (3, 1)
    x = torch.randn(7, 3, 2)
    for spec in (alone, shared):
        assert torch.equal(spec.order.ungrouped(spec.order.grouped(x)), x)
    many, few = (sum(p.numel() for p in spec.actor().parameters()) for spec in (alone, shared))
    assert many == 3 * few


def test_options_serve_the_largest_shares_of_hits():
    layout = spec_of().slot.model_copy(update={"users": 4})
    hit = torch.tensor([[[True, False, True, True]]])
    action = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.6, 0.9, -0.9, 0.2]]])  # in [0, 1]: 0.8, a miss, 0.05, 0.6
    options = layout.options(action, hit)[0, :, 0]
    assert torch.equal(options[:, :4], action[0, :, :4].expand(4, -1))
    served = (options[:, 4:] + 1) / 2 * hit[0]
    expected = torch.tensor([[0.8, 0, 0, 0], [0.8, 0, 0, 0.6], [0.8, 0, 0.7, 0.6], [0.8, 0, 0.7, 0.6]])
    assert torch.allclose(served, expected, atol=1e-6)


def test_the_search_crosses_a_plateau_no_gradient_crosses():
    spec = spec_of(critic_target="per_user")

    # By this critic a slot is worth more only if somebody gets less than a tenth of the steps.
    class Critic(StackedCritic):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.layout = spec.slot

        def forward(self, state, action):
            shares = (action[..., 3:] + 1) / 2
            shares = shares / shares.sum(-1, keepdim=True)
            return (shares.amin(-1, keepdim=True) < 0.1).float().expand(-1, -1, 3) + 0 * action[..., 3:]

    _, state = states(spec)
    hit = spec.slot.hits(state)
    action = torch.tensor([0.0, 0, 0, 0.5, 0.4, 0.6]).expand(1, 5, -1).clone().requires_grad_()
    critic = Critic()
    (alone,) = torch.autograd.grad(critic(state, action).sum(), action)
    assert (alone == 0).all()
    (gradient,) = torch.autograd.grad(search_objective(critic, state, action), action)
    # One served is the first best option: all hits but that with the largest share are drawn down.
    largest = (action[..., 3:] + 1).mul(hit).argmax(-1, keepdim=True)
    drawn = hit.clone().scatter_(-1, largest, False)
    assert drawn.sum() > 3
    assert (gradient[..., :3] == 0).all()
    assert torch.equal(gradient[..., 3:] > 0, drawn)
    assert (gradient[..., 3:][~drawn] == 0).all()
